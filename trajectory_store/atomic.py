"""A file that appears whole and synced, or not at all; and the hidden names beside it of what is not finished."""

import contextlib
import errno
import os
import re
import uuid
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

from . import files
from .errors import RunExistsError

_PARTIAL = re.compile(r"\.(.+)\.[0-9a-f]{8}\.partial")


class _SequentialWriter:
    """The part of a binary file that writers need, each write through the seam."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._offset = 0

    def write(self, data: Any) -> int:
        start = self._offset
        self._offset = files.write_all(self._descriptor, [data], start)
        return self._offset - start

    def tell(self) -> int:
        return self._offset

    def fileno(self) -> int:
        return self._descriptor

    def flush(self) -> None:
        """Do nothing, because nothing is buffered here; torch.save calls it."""


@contextlib.contextmanager
def write_atomically(path: Path, *, sync: bool = True, replace: bool = True) -> Iterator[IO[bytes]]:
    """A binary file to write; `path` appears, or is replaced, whole and synced, when the block ends without an error.

    The file's mode respects the umask. On an error nothing is left behind and an existing `path` is untouched: without
    `replace` it is a RunExistsError that somebody made one meanwhile.
    """
    partial = beside(path, "partial")
    with files.storage_errors("write", path):
        descriptor = files.disk.create(partial)
        try:
            try:
                yield _SequentialWriter(descriptor)  # type: ignore[misc]
                if sync:  # a rename that outlives its data would commit an empty file
                    files.disk.sync(descriptor)
            finally:
                os.close(descriptor)
            if replace:
                files.disk.rename(partial, path)
            else:
                _rename_to_new(partial, path)
        except BaseException:  # Ctrl-C too leaves nothing behind
            with contextlib.suppress(OSError):
                files.disk.unlink(partial)
            raise
        if sync:  # without it the old name may come back after power loss
            files.disk.sync_folder(path.parent)


def _rename_to_new(partial: Path, path: Path) -> None:
    """Rename a file to a name that nothing has; a rename alone would replace what somebody made there meanwhile."""
    try:
        files.disk.link(partial, path)
    except FileExistsError as error:
        raise RunExistsError(f"{path}: somebody else has made something there meanwhile") from error
    except OSError as error:
        if error.errno not in _NO_LINKS or path.exists():
            raise
        files.disk.rename(partial, path)
    else:
        files.disk.unlink(partial)


_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
"""What file systems without hard links say, and some network file systems."""


def partial_of(path: Path) -> Path | None:
    """Which path an atomic write would have put this file at; None if `path` is not named as an unfinished write."""
    named = _PARTIAL.fullmatch(path.name)
    return path.with_name(named[1]) if named else None


def unfinished(written: Collection[Path]) -> list[Path]:
    """What atomic writes of these paths left that did not finish.

    A name alone is not enough: in a folder that others use too, their unfinished files are named in the same way. A
    link is never ours.
    """
    beside = (path for folder in {path.parent for path in written} for path in files.listed(folder))
    return sorted(path for path in beside if partial_of(path) in written and path.is_file() and not path.is_symlink())


def remove_unfinished(written: Collection[Path]) -> list[Path]:
    """Remove what atomic writes of these paths left that did not finish; returns what was there."""
    found = unfinished(written)
    for path in found:
        with files.storage_errors("remove", path):
            files.disk.unlink(path)
    return found


@contextlib.contextmanager
def write_in_place_atomically(path: Path, n_bytes: int, *, replace: bool = True) -> Iterator[int]:
    """The descriptor of a file of `n_bytes` zeros, its space reserved; it becomes `path` as in `write_atomically`."""
    with write_atomically(path, replace=replace) as file:
        descriptor: int = file.fileno()
        files.disk.allocate(descriptor, n_bytes)
        yield descriptor


def put(path: Path, data: Any, *, sync: bool = True) -> None:
    """Create or replace a file with `data`, atomically."""
    with write_atomically(path, sync=sync) as file:
        file.write(data)


def beside(path: Path, ending: str, mark: str | None = None) -> Path:
    """A new hidden name beside a path, of something that is to become it or was it."""
    return path.with_name(f".{_shortened(path.name)}.{mark or uuid.uuid4().hex[:8]}.{ending}")


def found_beside(path: Path, ending: str) -> list[Path]:
    """What is there under a name that `beside` gives, in order."""
    hidden = re.compile(rf"\.{re.escape(_shortened(path.name))}\.[0-9a-f]{{8}}\.{ending}")
    return sorted(other for other in files.listed(path.parent) if hidden.fullmatch(other.name))


def _shortened(name: str) -> str:
    """A name that leaves room for what `beside` adds; of two long ones that begin alike the ends differ."""
    encoded = os.fsencode(name)
    room = files.MOST_NAME_BYTES - len("..12345678.replaced")
    if len(encoded) <= room:
        return name
    return f"{encoded[: room - 9].decode(errors='ignore')}~{zlib.crc32(encoded):08x}"
