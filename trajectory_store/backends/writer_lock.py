"""At most one writer a run, and how others see that there is one."""

import contextlib
import errno
import fcntl
import gc
import io
import os
import sys
import time
import weakref
from pathlib import Path

from ..errors import RunLockedError, StorageError
from ..files import storage_error, storage_errors
from ..ownership import NotCopied, after_fork, require_process

FILE_NAME = "lock"
_NO_LOCKS = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL}


class WriterLock(NotCopied):
    """At most one writer a folder, held by the kernel: a killed process leaves no stale lock.

    The file `lock` names its holder for the message only; the lock itself is flock(2)'s. It ends with `release`, with
    this object, or with the process. It stays held where the folder is renamed. A forked child does not have it.
    """

    def __init__(self, folder: Path) -> None:
        self._process = os.getpid()
        self._made_at = _users_line()
        self._sink: weakref.ref[object] | None = None
        path = folder / FILE_NAME
        # An interrupt, at whatever line, must not leave it locked: so the finalizer is there before there is a file.
        self._held: list[io.FileIO] = []
        weakref.finalize(self, _close, self._held).atexit = False  # the kernel does it, after every thread has ended
        with storage_errors("lock", path):
            self._held.append(_locked(path))
        descriptor = self._held[0].fileno()
        with contextlib.suppress(OSError):  # on a full disk the holder goes without a name
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
        _locks[_identity(descriptor)] = self

    @staticmethod
    def is_held(folder: Path) -> bool:
        """Whether some process, perhaps this one, writes this run now."""
        return _holder(folder / FILE_NAME) is not None

    @staticmethod
    def require_free(folder: Path) -> None:
        """Raise RunLockedError if some process, perhaps this one, writes this run now; takes no lock."""
        if (holder := _holder(folder / FILE_NAME)) is not None:
            raise RunLockedError(f"{folder}: {holder}")

    def require_process(self, folder: Path) -> None:
        """Raise ForkedSinkError in a forked child: the run in `folder` belongs to the process that took the lock."""
        require_process(self._process, folder)

    def belongs_to(self, sink: object) -> None:
        """Say whose it is: once the sink is gone, the lock waits only for a seal that still runs."""
        self._sink = weakref.ref(sink)

    @property
    def is_dropped(self) -> bool:
        """Whether the sink that had it is gone."""
        return self._sink is not None and self._sink() is None

    def release(self) -> None:
        """Let another writer in; harmless if called twice."""
        _close(self._held)

    @property
    def made_at(self) -> str:
        """The user's line of code that took the lock."""
        return self._made_at


_locks: "weakref.WeakValueDictionary[tuple[int, int], WriterLock]" = weakref.WeakValueDictionary()
"""The locks of this process, by their files."""


def _close(held: list[io.FileIO]) -> None:
    for file in held:
        file.close()


def _release_inherited() -> None:
    """A forked worker, of a data loader say, would keep its parent's lock after the parent's death."""
    for lock in list(_locks.values()):
        lock.release()
    _locks.clear()


after_fork(_release_inherited)


def _locked(path: Path) -> io.FileIO:
    """The lock's file, locked, once it is known that the name still leads to it.

    A run that is replaced takes its lock's file along: who waited for that one would hold the lock of a run that is
    gone.
    """
    while True:
        file = io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666), "r+")
        try:
            try:
                _lock_exclusively(file.fileno())
            except BlockingIOError as error:
                raise RunLockedError(f"{path.parent}: {_who(file.fileno())}") from error
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                raise StorageError(
                    f"{path.parent}: this file system has no locks (flock: {error.strerror}), so nothing would keep two"
                    " writers apart; record on another one, a local disk for example, and copy the run here"
                ) from error
            if _leads_to(path, file.fileno()):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _lock_exclusively(descriptor: int) -> None:
    """Try for a moment: others who look whether it is held hold it too, for microseconds."""
    for attempt in range(5):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if attempt == 4:
                raise
            if attempt == 0:
                _let_go_of_dropped(descriptor)
            time.sleep(0.02)


def _holder(path: Path) -> str | None:
    """Who holds the lock of that file, in words; None if nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:  # nobody can tell
        raise storage_error("open", path, error) from error
    try:
        for is_last in (False, True):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            except BlockingIOError:
                if is_last or not _let_go_of_dropped(descriptor):
                    return _who(descriptor)
            except OSError:  # a file system without locks: nobody can write the run
                return None
    finally:
        os.close(descriptor)
    return None


def _let_go_of_dropped(descriptor: int) -> bool:
    """If it is this process that has the lock, collect a sink that was dropped; returns whether that let go of it.

    A sink may be in a circle, of an error and its traceback for example, and a seal that it began still runs.
    """
    identity = _identity(descriptor)
    if identity not in _locks:
        return False
    gc.collect()
    stop_s = time.monotonic() + _LONGEST_SEAL_S
    while (lock := _locks.get(identity)) is not None and lock.is_dropped and time.monotonic() < stop_s:
        del lock
        time.sleep(0.01)
    return identity not in _locks


_LONGEST_SEAL_S = 30.0


def _leads_to(path: Path, descriptor: int) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))


def _who(descriptor: int) -> str:
    own = _locks.get(_identity(descriptor))
    if own is not None:
        return (
            f"this very process writes this run, because the sink made at {own.made_at} is not closed; close it, or"
            " delete what still refers to it (after an error its traceback may)"
        )
    holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "unknown"
    return f"another process writes this run ({holder}); wait for it, or stop it"


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _users_line() -> str:
    """The innermost line that is not of this package: where a user asked for what needs a lock."""
    frame = sys._getframe(1)
    package = (__package__ or "").split(".")[0]
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in (package, "contextlib"):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
