"""What one series is: its dtype, its shape, and the steps at which it is recorded.

Knows no file. A *row* is the series' array of one step; row r is of the r-th step at which the series is due.
"""

import bisect
import itertools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import naming
from .dtypes import DTYPES, storage_dtype
from .errors import SpecError

_MAX_ROW_BYTES = 2**31
MAX_AXES = 30
"""numpy's older versions have 32 at most. A chunk needs one more for its rows, the codec one for an item's bytes."""
MAX_STEPS = 2**48


@dataclass(frozen=True)
class Series:
    """One array recorded along steps: a declaration, which a run gives a name.

    Parameters
    ----------
    shape : tuple of int
        The shape of one step's row, () for a scalar.
    dtype : str
        "bfloat16", "float16", "float32", "float64", "bool", or an int's, such as "int64" or "uint8".
    dims : tuple of str, optional
        A name for each axis of `shape`; made from the series' name unless given.
    steps : int, range or sequence of int, optional
        At which steps it is recorded: every n-th from 0 for an int n, just those of a range or a sequence, every step
        unless given.

    Raises
    ------
    SpecError
        The declaration is none that can be recorded.
    """

    shape: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...] | None = None
    steps: int | range | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.shape, (int, np.integer)):
            raise SpecError(f"a series' shape is a tuple, found {self.shape!r}; write ({self.shape},)")
        try:
            object.__setattr__(self, "shape", tuple(operator.index(n) for n in self.shape))
        except TypeError as error:
            raise SpecError(f"shape {self.shape!r}: every axis is an int") from error
        if any(n < 1 for n in self.shape) or len(self.shape) > MAX_AXES:
            raise SpecError(f"shape {self.shape}: a series has {MAX_AXES} axes at most, each of one entry at least")
        if self.dtype not in DTYPES:
            raise SpecError(f"dtype {self.dtype!r} is not one a series can have; choose from {', '.join(DTYPES)}")
        if self.row_bytes > _MAX_ROW_BYTES:
            raise SpecError(f"a row of {self.row_bytes:,} bytes is above the limit of {_MAX_ROW_BYTES:,} bytes")
        if self.dims is not None:
            object.__setattr__(self, "dims", tuple(self.dims))
            if len(self.dims) != len(self.shape) or len(set(self.dims)) != len(self.dims):
                raise SpecError(f"dims {self.dims} must name each of the {len(self.shape)} axes of {self.shape} once")
            for dim in self.dims:
                if not naming.can_name_dimension(dim):
                    raise SpecError(f"dims {self.dims}: {dim!r} is not a dimension's name, or is the reserved 'step'")
        object.__setattr__(self, "steps", _checked_steps(self.steps))

    @property
    def storage_dtype(self) -> np.dtype[Any]:
        """The numpy dtype that holds this series' bits on disk."""
        return storage_dtype(self.dtype)

    @property
    def logical_dtype(self) -> np.dtype[Any]:
        """The numpy dtype that a reader is given; ml_dtypes' for bfloat16."""
        return DTYPES[self.dtype]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, uncompressed."""
        return math.prod(self.shape) * storage_dtype(self.dtype).itemsize

    def is_due(self, step: int) -> bool:
        """Tell whether this series is recorded at a step.

        Parameters
        ----------
        step : int
            The step.

        Returns
        -------
        bool
            Whether it is.
        """
        if self.steps is None:
            return True
        if isinstance(self.steps, int):
            return step % self.steps == 0
        row = bisect.bisect_left(self.steps, step)
        return row < len(self.steps) and self.steps[row] == step

    def rows_before(self, step: int) -> int:
        """Count the rows that the steps before a step make.

        Parameters
        ----------
        step : int
            The step.

        Returns
        -------
        int
            The rows of steps 0 … `step` − 1.
        """
        if self.steps is None:
            return step
        if isinstance(self.steps, int):
            return -(-step // self.steps)
        return bisect.bisect_left(self.steps, step)

    def steps_of(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return the steps of some rows.

        Parameters
        ----------
        start, stop : int
            The rows [start, stop).

        Returns
        -------
        ndarray of int64
            The step of each.
        """
        if self.steps is None:
            return np.arange(start, stop, dtype=np.int64)
        if isinstance(self.steps, int):
            return np.arange(start, stop, dtype=np.int64) * self.steps
        return np.asarray(self.steps[start:stop], dtype=np.int64)

    def steps_at(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the steps of some rows, and compute no more than those.

        Parameters
        ----------
        rows : sequence of int
            The rows.

        Returns
        -------
        ndarray of int64
            The step of each.
        """
        at = np.asarray(rows, dtype=np.int64)
        if self.steps is None:
            return at
        if isinstance(self.steps, int):
            return at * self.steps
        if isinstance(self.steps, range):
            return self.steps.start + at * self.steps.step
        return np.asarray([self.steps[row] for row in at.tolist()], dtype=np.int64)

    def step_range(self, start: int, stop: int) -> range:
        """Return the range from the first step of some rows to the last, without what lies behind what is declared.

        Parameters
        ----------
        start, stop : int
            The rows [start, stop), at least one.

        Returns
        -------
        range
            Every step number between them, due or not.
        """
        last = stop - 1 if self.steps is None or isinstance(self.steps, int) else min(stop, len(self.steps)) - 1
        first_step, last_step = self.steps_at([start, last]).tolist()
        return range(first_step, last_step + 1)

    def next_due(self, step: int) -> int | None:
        """Find the first step, from a step on, at which this series is due.

        Parameters
        ----------
        step : int
            The step.

        Returns
        -------
        int or None
            The step, which may be `step` itself; None if there is none.
        """
        if self.steps is None:
            return step
        if isinstance(self.steps, int):
            return self.rows_before(step) * self.steps
        row = bisect.bisect_left(self.steps, step)
        return self.steps[row] if row < len(self.steps) else None

    def to_json(self) -> dict[str, Any]:
        """Return the declaration as plain values, as the manifest holds it.

        Returns
        -------
        dict of str to Any
            Shape, dtype, dims and steps.
        """
        steps: Any = self.steps
        if isinstance(steps, range):
            steps = {"start": steps.start, "stop": steps.stop, "step": steps.step}
        elif isinstance(steps, tuple):
            steps = list(steps)
        return {"shape": list(self.shape), "dtype": self.dtype, "dims": list(self.dims or ()), "steps": steps}

    @staticmethod
    def from_json(value: Any) -> "Series":
        """Make a declaration from plain values: the inverse of `to_json`.

        Parameters
        ----------
        value : Any
            What `to_json` returned.

        Returns
        -------
        Series
            The declaration.

        Raises
        ------
        SpecError
            The value is anything else.
        """
        try:
            steps = value["steps"]
            if isinstance(steps, dict):
                steps = range(steps["start"], steps["stop"], steps["step"])
            return Series(tuple(value["shape"]), value["dtype"], tuple(value["dims"]), steps)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise SpecError(f"not a series' description: {error}") from error


def _checked_steps(steps: Any) -> int | range | tuple[int, ...] | None:
    if steps is None or isinstance(steps, bool):
        if steps is None:
            return None
        raise SpecError(f"steps={steps!r}: give None, an int, a range or a sequence of ints")
    if isinstance(steps, (int, np.integer)):
        if not 1 <= steps <= MAX_STEPS:
            raise SpecError(f"steps={steps}: 'every n-th step' needs n ≥ 1, and at most {MAX_STEPS}")
        return None if steps == 1 else int(steps)
    if not isinstance(steps, (range, Sequence, np.ndarray)) or isinstance(steps, (str, bytes)):
        raise SpecError(f"steps={steps!r}: give None, an int, a range or a sequence of ints")
    if isinstance(steps, range):  # it is never walked, because it may be of any length
        return _increasing(steps)
    if not all(isinstance(step, (int, np.integer)) for step in steps):
        raise SpecError("steps: every declared step is an int")
    return _increasing(tuple(int(step) for step in steps))


def _increasing(steps: range | tuple[int, ...]) -> range | tuple[int, ...]:
    if not steps or steps[0] < 0 or (isinstance(steps, range) and steps.step < 1):
        raise SpecError(f"steps={steps!r}: declared steps are ≥ 0, increasing, and at least one")
    if isinstance(steps, tuple) and any(b <= a for a, b in itertools.pairwise(steps)):
        raise SpecError("steps: declared steps must increase")
    if steps[-1] > MAX_STEPS:
        raise SpecError(f"steps: step {steps[-1]} is above the limit of {MAX_STEPS}")
    return steps
