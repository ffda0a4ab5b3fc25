"""The only caller of write, fsync, rename, truncate and unlink: the seam that tests break.

Every change a run makes on disk goes through `disk`, so a test that swaps it (`files.disk = …`) can stop at the n-th
call, forget what was not synced, tear a write or fill the disk; only the file `lock`, whose bytes mean nothing, does
not (`writer_lock`). Calls raise StorageError with the path and the cause.
"""

import contextlib
import errno
import fcntl
import io
import os
import re
import shutil
import stat
import sys
import uuid
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from .errors import RunExistsError, StorageError, TrajectoryError

_PARTIAL = re.compile(r"\.(.+)\.[0-9a-f]{8}\.partial")
FOLDER_VIEW = ".DS_Store"
"""How a folder was last looked at: the Finder of macOS puts one into every folder that it shows."""
MOST_NAME_BYTES = 255
"""How long a name can be on Linux's file systems, and on macOS's."""
_REMEDIES = {
    errno.ENOSPC: "make room and resume",
    errno.EDQUOT: "raise the quota or make room, and resume",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.EMFILE: "close some, or raise `ulimit -n`",
    errno.ENFILE: "other programs have them; close some and try again",
    errno.ENOMEM: "free some memory and try again",
    errno.EIO: "try again, then look at the device",
    errno.ESTALE: "mount the network file system again",
    errno.ELOOP: "mend the link that leads to itself",
    errno.EAGAIN: "another process has it; wait for that one",
}


@contextlib.contextmanager
def storage_errors(verb: str, path: Path) -> Iterator[None]:
    """Turn an OSError into a StorageError that says what could not be done to which path, and the remedy."""
    try:
        yield
    except TrajectoryError:
        raise
    except OSError as error:
        raise storage_error(verb, path, error) from error


def storage_error(verb: str, path: Path, error: OSError) -> StorageError:
    """The StorageError that says what the system refused to do to which path, why, and the remedy."""
    remedy = _REMEDIES.get(error.errno or 0)
    message = f"{path}: cannot {verb}: {error.strerror or error}" + (f"; {remedy}" if remedy else "")
    wrapped = StorageError(message)
    wrapped.errno = error.errno
    return wrapped


class _WholeReads(io.FileIO):
    """A file whose `read` gives every byte asked for that is there; the system gives 2 GiB at once, or fewer."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            return super().readall()
        parts = []
        while size and (part := os.read(self.fileno(), size)):
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Every byte of `size` at `offset` that is there, however few one call gives."""
    parts = []
    while size and (part := os.pread(descriptor, size, offset)):
        parts.append(part)
        size, offset = size - len(part), offset + len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


class NotPlainError(FileNotFoundError):
    """What has a file's name is a folder, a named pipe or a device."""


def open_plain(path: Path) -> IO[bytes]:
    """A plain file, open for reading, unbuffered; errors as `open_plain_descriptor`'s."""
    return _WholeReads(open_plain_descriptor(path))


def open_for_update(path: Path) -> IO[bytes]:
    """A file that is there, open for reading and writing, unbuffered."""
    return updated(os.open(path, os.O_RDWR | os.O_CLOEXEC))


class _Updated(io.FileIO):
    """A file that goes with its last reference, without a warning: a sink may be dropped, as in a notebook."""

    def __del__(self) -> None:
        self.close()


def updated(descriptor: int) -> IO[bytes]:
    """The file of a descriptor that is open for reading and writing: closed once, however often it is asked."""
    return _Updated(descriptor, "r+b")  # unbuffered


def open_plain_descriptor(path: Path) -> int:
    """The descriptor of a plain file, open for reading.

    Raises FileNotFoundError if there is no plain file of this name, which means damage, or no run. A named pipe or a
    device counts as none, because it would block its reader, or never end. Raises StorageError if the system refuses,
    which says nothing about what is stored.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a device that is not there
            raise NotPlainError(error.errno, "not a plain file", str(path)) from error
        if isinstance(error, NotADirectoryError) and not path.parent.is_dir():  # a file is on the way
            raise FileNotFoundError(error.errno, error.strerror, str(path)) from error
        raise storage_error("open", path, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotPlainError(errno.EINVAL, "not a plain file", str(path))
    return descriptor


@contextlib.contextmanager
def plain_file(path: Path) -> Iterator[IO[bytes]]:
    """A plain file to read, unbuffered, until the block ends; errors as `open_plain_descriptor`'s, in the block too."""
    with open_plain(path) as file, storage_errors("read", path):
        yield file


class Disk:
    """The real file system; each method is one durable call."""

    def write(self, descriptor: int, buffers: Sequence[Any], offset: int) -> int:
        """Write the buffers one after the other at `offset`, returning how many bytes were taken, as pwritev(2)."""
        return os.pwritev(descriptor, buffers, offset)

    def sync(self, descriptor: int) -> None:
        """Make a file's data survive power loss."""
        if sys.platform == "darwin":  # fsync there leaves data in the drive's cache
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(descriptor)

    def sync_folder(self, folder: Path) -> None:
        """Make creations, renames and removals in a folder survive power loss."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def create(self, path: Path) -> int:
        """Create a file that must not exist and return its descriptor, open for reading and writing."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def make_folder(self, path: Path) -> None:
        """Create a folder that must not exist."""
        path.mkdir()

    def rename(self, source: Path, target: Path) -> None:
        """Replace `target` by `source` in one step."""
        source.rename(target)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name, which must not exist."""
        target.hardlink_to(source)

    def copy_attributes(self, folder: Path, target: Path) -> None:
        """Give a folder the owner, mode, access list and other attributes of another, as far as this user may."""
        status = folder.stat()
        with contextlib.suppress(PermissionError):
            os.chown(target, -1, status.st_gid)
        with contextlib.suppress(PermissionError):
            os.chown(target, status.st_uid, -1)
        shutil.copystat(folder, target)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut a file, or extend it with zeros, to `size` bytes."""
        os.ftruncate(descriptor, size)

    def allocate(self, descriptor: int, size: int) -> None:
        """Reserve `size` bytes of zeros, so that a full disk is met now and not at the last step."""
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.ftruncate(descriptor, size)

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def remove_tree(self, path: Path) -> None:
        """Remove a folder with all that is in it."""
        shutil.rmtree(path)


disk = Disk()


def write_all(descriptor: int, buffers: Sequence[Any], offset: int) -> int:
    """Write every byte of the buffers at `offset`, however few one call takes; returns the offset after them."""
    views = [view for buffer in buffers if (view := _bytes_of(buffer)).nbytes]
    while views:
        taken = disk.write(descriptor, views[:_MOST_BUFFERS], offset)
        offset += taken
        while views and taken >= views[0].nbytes:
            taken -= views.pop(0).nbytes
        if taken:
            views[0] = views[0][taken:]
    return offset


_COPY_BYTES = 1 << 20
_MOST_BUFFERS = 512  # IOV_MAX is 1,024 on Linux and macOS


def _bytes_of(buffer: Any) -> memoryview:
    view = memoryview(buffer)
    return view.cast("B") if view.nbytes else memoryview(b"")  # an empty array cannot be cast


def rewrite(descriptor: int, start: int, stop: int) -> None:
    """Write a part of a file over itself.

    After a sync that failed the kernel may count the pages as written, so a second sync alone would succeed without
    having stored them.
    """
    while start < stop:
        data = os.pread(descriptor, min(_COPY_BYTES, stop - start), start)
        start = write_all(descriptor, [data], start)


def cut_file(path: Path, n_bytes: int) -> None:
    """Cut a torn tail off a file of records."""
    with storage_errors("cut", path):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            disk.truncate(descriptor, n_bytes)
            # Without it: frames that were dropped may come back behind those that took their place.
            disk.sync(descriptor)
        finally:
            os.close(descriptor)


class _SequentialWriter:
    """The part of a binary file that writers need, each write through the seam."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._offset = 0

    def write(self, data: Any) -> int:
        start = self._offset
        self._offset = write_all(self._descriptor, [data], start)
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
    with storage_errors("write", path):
        descriptor = disk.create(partial)
        try:
            try:
                yield _SequentialWriter(descriptor)  # type: ignore[misc]
                if sync:  # a rename that outlives its data would commit an empty file
                    disk.sync(descriptor)
            finally:
                os.close(descriptor)
            if replace:
                disk.rename(partial, path)
            else:
                _rename_to_new(partial, path)
        except BaseException:  # Ctrl-C too leaves nothing behind
            with contextlib.suppress(OSError):
                disk.unlink(partial)
            raise
        if sync:  # without it the old name may come back after power loss
            disk.sync_folder(path.parent)


def _rename_to_new(partial: Path, path: Path) -> None:
    """Rename a file to a name that nothing has; a rename alone would replace what somebody made there meanwhile."""
    try:
        disk.link(partial, path)
    except FileExistsError as error:
        raise RunExistsError(f"{path}: somebody else has made something there meanwhile") from error
    except OSError as error:
        if error.errno not in _NO_LINKS or path.exists():
            raise
        disk.rename(partial, path)
    else:
        disk.unlink(partial)


_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
"""What file systems without hard links say, and some network file systems."""


def partial_of(path: Path) -> Path | None:
    """Which path an atomic write would have put this file at; None if `path` is not named as an unfinished write."""
    named = _PARTIAL.fullmatch(path.name)
    return path.with_name(named[1]) if named else None


def is_partial(path: Path) -> bool:
    """Whether a file is named as an atomic write that did not finish, of whatever path."""
    return partial_of(path) is not None


def unfinished(written: Collection[Path]) -> list[Path]:
    """What atomic writes of these paths left that did not finish.

    A name alone is not enough: in a folder that others use too, their unfinished files are named in the same way. A
    link is never ours.
    """
    beside = (path for folder in {path.parent for path in written} for path in listed(folder))
    return sorted(path for path in beside if partial_of(path) in written and path.is_file() and not path.is_symlink())


def remove_unfinished(written: Collection[Path]) -> list[Path]:
    """Remove what atomic writes of these paths left that did not finish; returns what was there."""
    found = unfinished(written)
    for path in found:
        with storage_errors("remove", path):
            disk.unlink(path)
    return found


def listed(folder: Path) -> list[Path]:
    """What is in a folder; nothing if there is no such folder."""
    with storage_errors("list", folder):
        try:
            return list(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []


@contextlib.contextmanager
def write_in_place_atomically(path: Path, n_bytes: int, *, replace: bool = True) -> Iterator[int]:
    """The descriptor of a file of `n_bytes` zeros, its space reserved; it becomes `path` as in `write_atomically`."""
    with write_atomically(path, replace=replace) as file:
        descriptor: int = file.fileno()
        disk.allocate(descriptor, n_bytes)
        yield descriptor


def put(path: Path, data: Any, *, sync: bool = True) -> None:
    """Create or replace a file with `data`, atomically."""
    with write_atomically(path, sync=sync) as file:
        file.write(data)


def make_folders(path: Path, *, sync: bool = True) -> None:
    """Create a folder and its missing parents. With `sync` each one's name is synced."""
    if path.is_dir():
        return
    make_folders(path.parent, sync=sync)
    with storage_errors("create", path):
        try:
            disk.make_folder(path)
        except FileExistsError:
            if not path.is_dir():
                raise
        if sync:  # without it: the files in the folder are synced and cannot be found
            disk.sync_folder(path.parent)


@contextlib.contextmanager
def build_folder(
    path: Path, *, overwrite: bool = False, may_remove: Callable[[Path], bool] = lambda _folder: True
) -> Iterator[Path]:
    """A sibling folder to fill; it becomes `path` when the block ends without an error, and is removed otherwise.

    With `overwrite` what was at `path` is moved aside first, moved back on an error, and removed last; so is what
    earlier overwrites that were killed have moved aside, if `may_remove` says so of it. The new folder has the owner,
    mode and attributes of the old one. Only a crash between the two renames leaves nothing at `path`; what was there is
    then beside it, whole, and `moved_aside` finds it. RunExistsError if somebody else made something at `path`
    meanwhile, StorageError if a file system is mounted there.
    """
    with storage_errors("create", path):
        make_folders(path.parent)
        mark = uuid.uuid4().hex[:8]
        partial = beside(path, "partial", mark)
        aside = beside(path, "replaced", mark) if overwrite and path.exists() else None
        if aside is not None and path.is_mount():
            raise StorageError(
                f"{path}: a file system is mounted there, so what it holds cannot be replaced in one step; remove that"
                " first, or choose a folder below it"
            )
        disk.make_folder(partial)
        try:
            if aside is not None:
                disk.copy_attributes(path, partial)
            yield partial
            disk.sync_folder(partial)  # without it: a folder in which names are missing
            _put_in_place(partial, path, aside)
        except BaseException:
            with contextlib.suppress(OSError):
                disk.remove_tree(partial)
            raise
        for replaced in moved_aside(path) if overwrite else ():  # also by an overwrite that was killed
            if replaced == aside or may_remove(replaced):
                disk.rename(replaced, partial)  # so that what is called `.replaced` is whole
                disk.remove_tree(partial)


def moved_aside(path: Path) -> list[Path]:
    """The folders that were at `path`, as `.NAME.XXXXXXXX.replaced` beside it, before overwrites that were killed."""
    replaced = re.compile(rf"\.{re.escape(_shortened(path.name))}\.[0-9a-f]{{8}}\.replaced")
    named = (other for other in listed(path.parent) if replaced.fullmatch(other.name))
    return sorted(other for other in named if other.is_dir() and not other.is_symlink())


def beside(path: Path, ending: str, mark: str | None = None) -> Path:
    """A new hidden name beside a path, of something that is to become it or was it."""
    return path.with_name(f".{_shortened(path.name)}.{mark or uuid.uuid4().hex[:8]}.{ending}")


def _shortened(name: str) -> str:
    """A name that leaves room for what `_beside` adds; of two long ones that begin alike the ends differ."""
    encoded = os.fsencode(name)
    room = MOST_NAME_BYTES - len("..12345678.replaced")
    if len(encoded) <= room:
        return name
    return f"{encoded[: room - 9].decode(errors='ignore')}~{zlib.crc32(encoded):08x}"


def _put_in_place(partial: Path, path: Path, aside: Path | None) -> None:
    """Rename `partial` to `path`, and what was there to `aside`; after an error everything is as before."""
    if aside is not None:
        disk.rename(path, aside)
    try:
        try:
            disk.rename(partial, path)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            left = f"; what it was to replace is {aside.name} beside it" if aside is not None else ""
            raise RunExistsError(f"{path}: somebody else has made something there meanwhile{left}") from error
        try:
            disk.sync_folder(path.parent)  # without it: what is written into the folder from now on has no name
        except BaseException:
            disk.rename(path, partial)
            raise
    except RunExistsError:
        raise
    except BaseException:
        if aside is not None:
            with storage_errors(f"move {aside} back", path):
                disk.rename(aside, path)
        raise


_TAKEN = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}


def folder_bytes(folder: Path) -> int:
    """What the files of a folder take, in bytes; what cannot be asked, as after it vanished, counts nothing."""
    total = 0
    for path in files_below(folder):
        with contextlib.suppress(OSError):
            status = path.stat()
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


def files_below(folder: Path) -> Iterator[Path]:
    """What is in a folder and below it and is no folder. Raises StorageError if the system cannot list one.

    What this user may not list, such as the `lost+found` of a mounted disk, is passed over.
    """

    def refused(error: OSError) -> None:
        if not isinstance(error, (FileNotFoundError, NotADirectoryError, PermissionError)):
            raise storage_error("list", Path(error.filename), error)

    for root, _, names in os.walk(folder, onerror=refused):
        yield from (Path(root, name) for name in names)
