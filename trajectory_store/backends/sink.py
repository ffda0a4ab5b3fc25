"""What a trainer writes frames to: the Sink protocol, and the sinks that need no disk."""

from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from ..errors import ForkedSinkError, StepOrderError
from ..series_spec import Series
from ..spec import RunSpec
from .recovery import Recovery


class Sink(Protocol):
    """Takes one frame a step, in step order. Not thread-safe: one thread appends, flushes and closes."""

    @property
    def spec(self) -> RunSpec:
        """What is recorded."""

    @property
    def next_step(self) -> int | None:
        """The step that `append` expects; None once every declared step is there."""

    def append(self, step: int, /, **values: Any) -> None:
        """Record one frame.

        Parameters
        ----------
        step : int
            The step, which is `next_step`.
        **values : array_like
            One value for each series that is due at `step`, of the series' shape: a numpy array, a torch tensor on any
            device, a Python number, lists of them, or whatever `numpy.asarray` makes an array of. Arrays are taken bit
            for bit, uint16 as bfloat16's patterns too; one of another dtype is cast if that dtype's every number is one
            of the series'. Python's floats are rounded to the series' dtype, its ints are not. The values' memory may
            be used again when this returns.

        Raises
        ------
        StepOrderError
            Another step is the next one.
        FrameError
            A series is missing, unknown or not due, or its value is no array of its shape; of a sparse tensor, a
            DTensor, a masked array and the like it says what to pass instead.
        LossyCastError
            Bits of a value would change.
        """

    def flush(self) -> int | None:
        """Make every appended frame survive power loss; returns the last such step, None if there is none."""

    def close(self) -> None:
        """Finish: no more frames. Harmless if called twice."""


class StoredSink(Sink, Protocol):
    """A sink that writes to disk; a context manager."""

    recovery: Recovery
    """What opening the run found: for a new run, nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: Any) -> None: ...


class SinkContext:
    """`with` for a sink: closes it at the end of the block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except ForkedSinkError:
            if error is None:  # what a forked child leaves the block with says more, `sys.exit` for example
                raise

    def close(self) -> None:
        raise NotImplementedError


class StepCursor:
    """The order of steps: which one is next, and which one was last."""

    def __init__(self, spec: RunSpec, next_step: int | None) -> None:
        self._spec = spec
        self.next_step = next_step

    def check(self, step: int) -> None:
        """Raise StepOrderError unless `step` is the next one."""
        if isinstance(step, bool) or not isinstance(step, (int, np.integer)):
            raise StepOrderError(f"a step is an int, found {step!r}")
        if step == self.next_step:
            return
        if self.next_step is None:
            raise StepOrderError(f"step {step}: the run already has its last declared step")
        how = "was appended before" if step < self.next_step else "skips steps"
        raise StepOrderError(f"step {step} {how}; expected step {self.next_step}")

    def advance(self) -> None:
        """Go to the next due step."""
        assert self.next_step is not None
        self.next_step = self._spec.next_due(self.next_step + 1)

    @property
    def last_step(self) -> int | None:
        """The last due step before the next one."""
        before = self.next_step
        if before is None:
            before = max(_end(self._spec, series) for series in self._spec.series.values())
        return self._spec.last_due_before(before)


def _end(spec: RunSpec, series: Series) -> int:
    return spec.steps if spec.steps is not None else int(series.steps[-1]) + 1  # type: ignore[index]
