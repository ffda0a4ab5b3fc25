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
import uuid
from collections.abc import Iterator
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

    def write(self, descriptor: int, data: Any, offset: int) -> int:
        """Write `data` at `offset`, returning how many bytes were taken, as pwrite(2)."""
        return os.pwrite(descriptor, data, offset)

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


def write_all(descriptor: int, data: Any, offset: int) -> None:
    """Write every byte of `data` at `offset`: pwrite may take fewer."""
    view = memoryview(data).cast("B")
    while view.nbytes:
        taken = disk.write(descriptor, view, offset)
        offset += taken
        view = view[taken:]


class _SequentialWriter:
    """The part of a binary file that writers need, each write through the seam."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._offset = 0

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        write_all(self._descriptor, data, self._offset)
        self._offset += size
        return size

    def tell(self) -> int:
        return self._offset

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
        except Exception:
            with contextlib.suppress(OSError):
                disk.unlink(partial)
            raise
        if sync:  # without it the old name may come back after power loss
            disk.sync_folder(path.parent)


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
        except Exception:
            with contextlib.suppress(OSError):
                disk.remove_tree(partial)
            raise
        disk.sync_folder(path.parent)
        if old is not None:
            disk.remove_tree(old)


class WriterLock:
    """At most one writer a folder, held by the kernel: a killed process leaves no stale lock.

    The file `lock` names its holder for the message only; the lock itself is flock(2)'s and ends with the process.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "lock"
        with storage_errors("lock", path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
