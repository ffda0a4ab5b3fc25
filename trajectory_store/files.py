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
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from .errors import StorageError, TrajectoryError

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


def listed(folder: Path) -> list[Path]:
    """What is in a folder; nothing if there is no such folder."""
    with storage_errors("list", folder):
        try:
            return list(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []


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
