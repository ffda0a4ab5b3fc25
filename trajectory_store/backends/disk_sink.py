"""What the sinks that write to disk share: after an interrupt the same sink goes on, as a resume would after a crash.

An interrupt (Ctrl-C, a signal handler that raises, no memory left) can come between any two changes of a sink's state
and of its files. So each call notes that it has begun to change them, and at its end that they are whole again. A call
that finds them not whole first does what opening the run does: it reads from disk what is recorded, and cuts what is
torn. No other code needs to know at which line the interrupt came.
"""

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVarTuple, Unpack

from ..errors import TrajectoryError, UsageError
from ..ownership import NotCopied
from ..spec import Frame, RunSpec
from .manifest import Manifest
from .recovery import Recovery
from .sink import SinkContext, StepCursor
from .writer_lock import WriterLock

_Arguments = TypeVarTuple("_Arguments")


class DiskSink(NotCopied, SinkContext):
    """Writes one run, which it holds locked. One thread of the process that made it appends, flushes and closes.

    A sink that is dropped lets go of the run as a process that dies does: what it recorded stays, nothing is ended.

    A backend says how a run is opened, a frame written, frames synced, and a run ended and let go. Each of these may be
    interrupted anywhere, and `_open` is called again after.
    """

    recovery: Recovery
    _manifest: Manifest
    _cursor: StepCursor

    def __init__(self, folder: Path, lock: WriterLock | None) -> None:
        self._folder = folder
        self._is_closed = False
        self._is_whole = False
        self._lock = lock or WriterLock(folder)
        self._lock.belongs_to(self)
        try:
            self.recovery = self._open()
        except BaseException:
            self._release()
            raise
        self._is_whole = True

    @property
    def spec(self) -> RunSpec:
        """What is recorded."""
        return self._manifest.spec

    @property
    def next_step(self) -> int | None:
        """The step that `append` expects; None once every declared step is there.

        After an `append` that was interrupted this says whether its frame was recorded.
        """
        self._make_whole()
        return self._cursor.next_step

    def append(self, step: int, /, **values: Any) -> None:
        """Record one frame; when this returns it survives the death of the process.

        Raises UsageError's children on a frame that does not fit, StorageError if the disk refuses; in both cases
        the frame is not recorded and may be appended again.
        """
        self._check_open()
        self._make_whole()
        self._cursor.check(step)
        self._change(self._record, step, self.spec.frame(step, values))

    def flush(self) -> int | None:
        """Make every appended frame survive power loss; returns the last such step, None if there is none.

        Waits for blocks that are being sealed. With durability "none" nothing is synced.
        """
        self._check_open()
        self._make_whole()
        self._change(self._sync_frames)
        return self._cursor.last_step

    def close(self) -> None:
        """End the run and let another writer in; harmless if called twice.

        On an error the lock is released all the same, and what is recorded stays. After an interrupt the sink is still
        open: call this again.
        """
        if not self._is_closed:
            self._lock.require_process(self._folder)
            try:
                self._make_whole()
                self._is_whole = False  # what was ended takes no frame; it is opened again if this is interrupted
                self._end()
            except TrajectoryError:
                self._is_closed = True
                self._release()
                raise
            self._is_closed = True
        self._release()

    def _check_open(self) -> None:
        if self._is_closed:
            self._release()  # what the close left, if it was interrupted: resume must find the run free
            raise UsageError(f"{self._folder}: this sink is closed; ts.resume opens the run again")
        self._lock.require_process(self._folder)

    def _make_whole(self) -> None:
        """Recover if the call before this one was interrupted."""
        if not self._is_whole and not self._is_closed:
            self._lock.require_process(self._folder)
            self._open()
            self._is_whole = True

    def _change(self, work: Callable[[Unpack[_Arguments]], None], *arguments: *_Arguments) -> None:
        """Do what changes state and files; an error of ours leaves both as they were, whatever else comes does not."""
        self._is_whole = False
        try:
            work(*arguments)
        except TrajectoryError:
            self._is_whole = True
            raise
        self._is_whole = True

    @abstractmethod
    def _open(self) -> Recovery:
        """Read from disk what is recorded, cut what is torn, and be ready for the next frame."""

    @abstractmethod
    def _record(self, step: int, frame: Frame) -> None:
        """Write one frame and go to the next step."""

    @abstractmethod
    def _sync_frames(self) -> None:
        """Make every frame survive power loss."""

    @abstractmethod
    def _end(self) -> None:
        """Bring the run into the form that it has when nobody writes it."""

    @abstractmethod
    def _release(self) -> None:
        """Give back files, threads and the lock; harmless if called twice."""
