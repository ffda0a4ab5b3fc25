"""Where a capture's frames go: to the run's sink, in step order.

Law: what was taken is in the sink before the sink is flushed or closed, so a checkpoint that is written after a flush
is never ahead of the recording. A sink that failed is given nothing more.
"""

import contextlib
import math
from types import TracebackType
from typing import Any, Protocol, Self

from .capture import Capture
from .rows import Frame
from .state import TrainingState


class Sink(Protocol):
    """As much of a sink as a recording needs."""

    def append(self, step: int, /, **values: Any) -> None:
        """Take one step's values.

        Parameters
        ----------
        step : int
            Updates made.
        **values : Any
            Of each series, and the loss.
        """

    def flush(self) -> int | None:
        """Make what was taken survive power loss."""

    def close(self) -> None:
        """Flush, and take no more."""


class NoRecording:
    """The sink of a run that records nothing, to see what recording costs."""

    def append(self, step: int, /, **values: Any) -> None:
        """Take nothing."""

    def flush(self) -> None:
        """Nothing to keep."""

    def close(self) -> None:
        """Nothing to close."""


class Recorder:
    """A capture and the sink of its frames, which this closes. One thread, that of the training.

    Parameters
    ----------
    capture : Capture
        Takes steps out of the training.
    sink : Sink
        Is given its frames.
    """

    def __init__(self, capture: Capture, sink: Sink) -> None:
        self._capture = capture
        self._sink = sink
        self._is_sound = True  # the sink took all it was given
        self.last_loss = math.nan  # of the newest step that came out

    def take(self, state: TrainingState) -> None:
        """Record the state's step, now or a few steps later.

        Parameters
        ----------
        state : TrainingState
            After an update, before the next.
        """
        self._give(self._capture.take(state))

    def flush(self) -> None:
        """Make every step taken so far survive power loss."""
        self._give(self._capture.drain())
        self._sink.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._give(self._capture.drain())
            elif self._is_sound:
                # As many steps as can be had, but the error to be told is the first one: a device that fails, fails
                # here too.
                with contextlib.suppress(Exception):
                    self._give(self._capture.drain())
        finally:
            self._sink.close()

    def _give(self, frames: list[Frame]) -> None:
        for frame in frames:
            self._is_sound = False
            self._sink.append(frame.step, **frame.values)
            self._is_sound = True
            self.last_loss = frame.values["loss"]
