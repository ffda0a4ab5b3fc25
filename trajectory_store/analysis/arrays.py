"""What an analysis can be asked about: a run, one of its series, a MemorySink, or a plain array, as a lazy series."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.memory.sink import MemorySink
from ..backends.memory.source import ArraySource
from ..errors import UsageError
from ..run import LazySeries, Run
from ..series_spec import Series
from ..spec import RunSpec

Recorded = Run | LazySeries | MemorySink | npt.NDArray[Any]
"""Anything that holds recorded rows; an array is one series, its first axis the steps from 0."""


def as_series(recorded: Recorded, name: str) -> LazySeries:
    """The series `name` of whatever holds it. A lazy series or an array is its own series.

    Raises SeriesNotFoundError if there is none of that name, and UsageError on anything but a `Recorded`.
    """
    if isinstance(recorded, LazySeries):
        return recorded
    if isinstance(recorded, Run):
        return recorded[name]
    if isinstance(recorded, MemorySink):
        array = recorded[name]
        series = recorded.spec.series[name]
        source = ArraySource(RunSpec({name: series}, _steps_of(series, len(array))), {name: _stored(array)})
        return LazySeries(source, name)
    if isinstance(recorded, np.ndarray) and recorded.ndim >= 1 and len(recorded):
        dtype = recorded.dtype.name
        spec = RunSpec({name: Series(recorded.shape[1:], dtype)}, len(recorded))
        return LazySeries(ArraySource(spec, {name: _stored(recorded)}), name)
    raise UsageError(f"an analysis needs a run, a series of one, or an array, found {type(recorded).__name__}")


def _steps_of(series: Series, n_rows: int) -> int:
    return int(series.steps_of(n_rows - 1, n_rows)[0]) + 1 if n_rows else 1


def _stored(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array
