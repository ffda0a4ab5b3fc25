"""The accumulator of analyses that say some numbers of each row, to be added up over the tokens."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from .scanned_block import ScannedBlock
from .scanning import Extent
from .slab import SlabPlace

R = TypeVar("R")


class RowSums(Generic[R]):
    """Adds up columns (rows, n_columns) of the slabs, and makes the result of (extent, sums) in the end.

    Sums are float64, taken in the order in which a scan gives the parts, so that counts up to 2^53 are exact and the
    result is the same bits on any number of threads.
    """

    def __init__(self, extent: Extent, n_columns: int, result: Callable[[Extent, npt.NDArray[np.float64]], R]) -> None:
        self._extent = extent
        self._sums = np.zeros((len(extent.steps), n_columns))
        self._result = result

    def update(self, block: ScannedBlock, parts: Sequence[tuple[SlabPlace, npt.NDArray[Any]]]) -> None:
        """Add the parts of the next block."""
        del block
        for place, columns in parts:
            self._sums[place.rows] += columns

    def result(self) -> R:
        """What was found."""
        return self._result(self._extent, self._sums)
