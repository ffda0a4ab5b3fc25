"""The spare: the file of a sealed segment, kept for the next segment to overwrite in place.

To add a page to a file costs the kernel more than to copy into it, so an append over pages that are there costs half.
Whoever reads a segment holds its file with a shared flock(2). A file that is held is removed instead, and who has it
open reads on.
"""

import contextlib
import fcntl
from pathlib import Path
from typing import IO

from .. import files
from ..ownership import NotCopied

NAME = ".spare"


def hold(descriptor: int) -> None:
    """Keep the writer from overwriting a segment's file until this descriptor, and its copies, are closed.

    A file that the writer is just making the spare cannot be held. It need not be, because the manifest has its block
    already. If the file system has no flock(2), the writer removes every segment.
    """
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


class Spare(NotCopied):
    """At most one spare file in a journal's folder. Segments are sealed in one thread, and begun in another.

    Nothing is synced. After a power loss a sealed segment may come back, under its own name or the spare's. Its own
    name is a step before `sealed_until`, so either name says that nothing in the file counts.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def keep(self, segment: Path) -> None:
        """Make a sealed segment's file the spare. Remove it instead if a reader holds it, or if there is a spare
        already.

        Its block MUST have been committed, and nobody in this process may use its bytes any more.
        """
        with files.storage_errors("remove", segment):
            if self._path.exists() or not self._renamed(segment):
                with contextlib.suppress(FileNotFoundError):
                    files.disk.unlink(segment)

    def take(self, segment: Path) -> IO[bytes] | None:
        """Give the spare the name `segment`: its file, open for reading and writing; None if there is none.

        What is in the file is still there.
        """
        try:
            file = files.open_for_update(self._path)
        except FileNotFoundError:
            return None
        # Readers cannot hold the next segment before the lock is gone under which its file became the spare.
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            fcntl.flock(file.fileno(), fcntl.LOCK_UN)
            files.disk.rename(self._path, segment)
        except BaseException:
            file.close()
            raise
        return file

    def remove(self) -> None:
        """Remove the spare, also one that a dead writer has left. Harmless if there is none."""
        with files.storage_errors("remove", self._path):
            if self._path.exists():
                files.disk.unlink(self._path)

    def _renamed(self, segment: Path) -> bool:
        """Whether nobody holds the segment's file, and it is the spare now."""
        try:
            file = files.open_for_update(segment)
        except OSError:
            return False
        with file:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # a reader holds it, or nobody can tell
                return False
            try:
                files.disk.rename(segment, self._path)
            finally:
                fcntl.flock(file.fileno(), fcntl.LOCK_UN)  # a child forked meanwhile would keep it
        return True
