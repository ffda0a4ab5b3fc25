"""The only caller of write, fsync, rename, truncate, unlink and lock: the seam that tests break.

Every change a run makes on disk goes through `disk`, so a test that swaps it (`files.disk = …`) can stop at the n-th
call, forget what was not synced, tear a write or fill the disk. Calls raise StorageError with the path and the cause.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from .errors import RunLockedError, StorageError

_REMEDIES = {
    errno.ENOSPC: "make room and resume",
    errno.EDQUOT: "raise the quota or make room, and resume",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.EMFILE: "too many files are open; raise `ulimit -n`",
}


@contextlib.contextmanager
def storage_errors(verb: str, path: Path) -> Iterator[None]:
    """Turn an OSError into a StorageError that says what could not be done to which path, and the remedy."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        message = f"{path}: cannot {verb}: {error.strerror or error}" + (f"; {remedy}" if remedy else "")
        wrapped = StorageError(message)
        wrapped.errno = error.errno
        raise wrapped from error


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


_MOST_BUFFERS = 512  # IOV_MAX is 1,024 on Linux and macOS


def _bytes_of(buffer: Any) -> memoryview:
    view = memoryview(buffer)
    return view.cast("B") if view.nbytes else memoryview(b"")  # an empty array cannot be cast


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
        """Nothing is buffered here; torch.save asks all the same."""


@contextlib.contextmanager
def write_atomically(path: Path, *, sync: bool = True) -> Iterator[IO[bytes]]:
    """A binary file to write; `path` appears, or is replaced, whole and synced, when the block ends without an error.

    The file's mode respects the umask. On an error nothing is left behind and an existing `path` is untouched.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    with storage_errors("write", path):
        descriptor = disk.create(partial)
        try:
            try:
                yield _SequentialWriter(descriptor)  # type: ignore[misc]
                if sync:  # a rename that outlives its data would commit an empty file
                    disk.sync(descriptor)
            finally:
                os.close(descriptor)
            disk.rename(partial, path)
        except BaseException:  # Ctrl-C too leaves nothing behind
            with contextlib.suppress(OSError):
                disk.unlink(partial)
            raise
        if sync:  # without it the old name may come back after power loss
            disk.sync_folder(path.parent)


@contextlib.contextmanager
def write_in_place_atomically(path: Path, n_bytes: int) -> Iterator[int]:
    """The descriptor of a file of `n_bytes` zeros, its space reserved; it becomes `path` as in `write_atomically`."""
    with write_atomically(path) as file:
        descriptor: int = file.fileno()
        disk.allocate(descriptor, n_bytes)
        yield descriptor


def put(path: Path, data: Any, *, sync: bool = True) -> None:
    """Create or replace a file with `data`, atomically."""
    with write_atomically(path, sync=sync) as file:
        file.write(data)


@contextlib.contextmanager
def build_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A sibling folder to fill; it becomes `path` when the block ends without an error, and is removed otherwise.

    With `overwrite` what was at `path` is moved aside first and removed last, so that `path` is always whole.
    """
    with storage_errors("create", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        mark = uuid.uuid4().hex[:8]
        partial = path.with_name(f".{path.name}.{mark}.partial")
        disk.make_folder(partial)
        try:
            yield partial
            disk.sync_folder(partial)
            old = path.with_name(f".{path.name}.{mark}.replaced") if overwrite and path.exists() else None
            if old is not None:
                disk.rename(path, old)
            disk.rename(partial, path)
        except BaseException:
            with contextlib.suppress(OSError):
                disk.remove_tree(partial)
            raise
        disk.sync_folder(path.parent)
        if old is not None:
            disk.remove_tree(old)


def _lock_exclusively(descriptor: int) -> None:
    """Try for a moment: `WriterLock.is_held` holds the lock too, for microseconds."""
    for attempt in range(5):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if attempt == 4:
                raise
            time.sleep(0.02)


class WriterLock:
    """At most one writer a folder, held by the kernel: a killed process leaves no stale lock.

    The file `lock` names its holder for the message only; the lock itself is flock(2)'s and ends with the process.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "lock"
        with storage_errors("lock", path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                _lock_exclusively(self._descriptor)
            except BlockingIOError as error:
                holder = os.pread(self._descriptor, 200, 0).decode(errors="replace").strip()
                os.close(self._descriptor)
                raise RunLockedError(
                    f"{folder}: another process writes this run ({holder or 'unknown'}); wait for it or stop it"
                ) from error
            except BaseException:
                os.close(self._descriptor)
                raise
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)

    @staticmethod
    def is_held(folder: Path) -> bool:
        """Whether some process writes this run now."""
        try:
            descriptor = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def release(self) -> None:
        """Let another writer in; harmless when called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
