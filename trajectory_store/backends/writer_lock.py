"""At most one writer a run, and how others see that there is one."""

import contextlib
import fcntl
import os
import time
import weakref
from pathlib import Path

from ..errors import RunLockedError
from ..files import storage_error, storage_errors

FILE_NAME = "lock"


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
        path = folder / FILE_NAME
        with storage_errors("lock", path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
            try:
                _lock_exclusively(self._descriptor)
            except BlockingIOError as error:
                holder = os.pread(self._descriptor, 200, 0).decode(errors="replace").strip()
                self.release()
                raise RunLockedError(
                    f"{folder}: another process writes this run ({holder or 'unknown'}); wait for it or stop it"
                ) from error
            except BaseException:
                self.release()
                raise
            with contextlib.suppress(OSError):  # on a full disk the holder goes without a name
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
        _locks.add(self)

    @staticmethod
    def is_held(folder: Path) -> bool:
        """Whether some process writes this run now."""
        try:
            descriptor = os.open(folder / FILE_NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:  # nobody can tell
            raise storage_error("open", folder / FILE_NAME, error) from error
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


_locks: weakref.WeakSet[WriterLock] = weakref.WeakSet()


def _release_inherited() -> None:
    """A forked worker, of a data loader say, would keep its parent's lock after the parent's death."""
    for lock in _locks:
        lock.release()


os.register_at_fork(after_in_child=_release_inherited)
