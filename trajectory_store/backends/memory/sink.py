"""The sinks that need no disk: one keeps every frame in RAM, one forgets them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import SeriesNotFoundError, UsageError
from ...series_spec import Series
from ...spec import Frame, RunSpec
from ..sink import SinkContext, StepCursor


class MemorySink(SinkContext):
    """A sink that keeps every frame in RAM, as the notebooks do: for tests, and as the floor to compare with.

    Parameters
    ----------
    series : Mapping of str to Series
        What is recorded, by name.
    steps : int, optional
        How many steps there will be, step 0 included.

    Examples
    --------
    >>> sink = ts.MemorySink({"loss": ts.Series((), "float32")})
    >>> sink.append(0, loss=2.0)
    >>> sink["loss"]
    array([2.], dtype=float32)
    """

    def __init__(self, series: Mapping[str, Series], steps: int | None = None) -> None:
        self._spec = RunSpec(series, steps)
        self._cursor = StepCursor(self._spec, self._spec.next_due(0))
        self._frames: dict[int, Frame] = {}
        self._is_closed = False

    @property
    def spec(self) -> RunSpec:
        return self._spec

    @property
    def next_step(self) -> int | None:
        return self._cursor.next_step

    def append(self, step: int, /, **values: Any) -> None:
        if self._is_closed:
            raise UsageError("append after close")
        self._cursor.check(step)
        # By step, so that an append that was interrupted may be repeated.
        self._frames[step] = {name: row.copy() for name, row in self._spec.frame(step, values).items()}
        self._cursor.advance()

    def flush(self) -> int | None:
        """The last step appended; nothing in RAM survives anything."""
        return self._cursor.last_step

    def close(self) -> None:
        self._is_closed = True

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """A whole series in its logical dtype, shape (rows, …)."""
        if name not in self._spec.series:
            raise SeriesNotFoundError(f"no series {name!r}; there are {', '.join(sorted(self._spec.series))}")
        series = self._spec.series[name]
        rows = [frame[name] for frame in self._frames.values() if name in frame]
        stacked = np.array(rows, dtype=series.storage_dtype).reshape(-1, *series.shape)
        return stacked.view(series.logical_dtype)


class NullSink(SinkContext):
    """A sink that checks frames and forgets them: what recording itself costs is the difference to this.

    Parameters
    ----------
    series : Mapping of str to Series
        What is recorded, by name.
    steps : int, optional
        How many steps there will be, step 0 included.
    """

    def __init__(self, series: Mapping[str, Series], steps: int | None = None) -> None:
        self._spec = RunSpec(series, steps)
        self._cursor = StepCursor(self._spec, self._spec.next_due(0))

    @property
    def spec(self) -> RunSpec:
        return self._spec

    @property
    def next_step(self) -> int | None:
        return self._cursor.next_step

    def append(self, step: int, /, **values: Any) -> None:
        self._cursor.check(step)
        self._spec.frame(step, values)
        self._cursor.advance()

    def flush(self) -> int | None:
        return self._cursor.last_step

    def close(self) -> None:
        pass
