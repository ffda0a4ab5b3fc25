"""Ctrl-C and SIGTERM as a wish that the loop grants after its step, not as an exception in the middle of one.

A second signal acts as if nothing caught it, for a user who cannot wait.
"""

import signal
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """While this is entered, the first signal sets `signal_number`. Main thread only."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._handlers_before: dict[signal.Signals, Any] = {}

    @property
    def is_wanted(self) -> bool:
        """Whether a signal came."""
        return self.signal_number is not None

    def __enter__(self) -> Self:
        self._handlers_before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal_number = number
        self._restore()

    def _restore(self) -> None:
        while self._handlers_before:
            signal.signal(*self._handlers_before.popitem())
