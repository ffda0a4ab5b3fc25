"""What a run is read from: the Source protocol, which each backend and a plain safetensors file implement."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .. import buffers
from ..selection import Indices, positions_of
from ..spec import RunSpec


class Source(Protocol):
    """Recorded rows as bit patterns, read-only. Thread-safe, except `refresh` and `close`."""

    path: Path
    backend: str
    is_on_disk: bool
    """Whether any process can open it by its path."""

    @property
    def spec(self) -> RunSpec:
        """What is recorded."""

    @property
    def attrs(self) -> Mapping[str, Any]:
        """What the run's author said about it."""

    @property
    def recorded_until(self) -> int:
        """Every due step before this one is recorded."""

    @property
    def static_names(self) -> list[str]:
        """The static arrays there are."""

    def static(self, name: str) -> npt.NDArray[Any]:
        """One static array in its logical dtype."""

    def read(self, name: str, rows: Indices, tokens: Indices | None) -> npt.NDArray[Any]:
        """Rows of a series in storage dtype, shape (rows, tokens, …); a copy. tokens is None for a scalar series."""

    def mapped(self, name: str, start: int, stop: int) -> npt.NDArray[Any] | None:
        """Rows [start, stop) of a series in storage dtype as they lie in a file, verified; None if they lie in none.

        The view is of the file: it is to be used at once and not to be written to.
        """

    def block_rows(self, name: str) -> int:
        """How many rows are read together most cheaply."""

    def refresh(self) -> None:
        """Look for steps that were recorded since."""

    def close(self) -> None:
        """Give back files and memory."""


def empty_rows(spec: RunSpec, name: str, rows: Indices, tokens: Indices | None) -> npt.NDArray[Any]:
    """An array for `Source.read` to fill. Its memory comes from `buffers`, and goes back there with its last view."""
    series = spec.series[name]
    axes = () if tokens is None else (len(tokens), *series.shape[1:])
    shape, dtype = (len(rows), *axes), series.storage_dtype
    return buffers.take(math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)


def taken(array: npt.NDArray[Any], rows: Indices, tokens: Indices | None) -> npt.NDArray[Any]:
    """A copy of some rows, and of some entries of each. Of a mapped array only those are touched."""
    at = positions_of(rows)
    if tokens is None:
        return array[at].copy() if isinstance(at, slice) else array[at]
    of_row = positions_of(tokens)
    if isinstance(at, slice) and isinstance(of_row, slice):
        return array[at, of_row].copy()
    return array[at, of_row] if isinstance(at, slice) or isinstance(of_row, slice) else array[np.ix_(at, of_row)]
