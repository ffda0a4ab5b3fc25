"""What one frame is: the series a run records, their dtypes, shapes and steps.

Knows no file. A *row* is one series' array of one step; row r of a series is the r-th step at which it is due.
"""

import bisect
import itertools
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import naming
from .bf16 import BFLOAT16
from .errors import FrameError, LossyCastError, SpecError
from .values import as_row

Frame = Mapping[str, npt.NDArray[Any]]
"""Series name → one row, C-contiguous, little-endian, in the series' storage dtype."""

DTYPES: dict[str, np.dtype[Any]] = {
    "bfloat16": BFLOAT16,
    **{
        name: np.dtype(name).newbyteorder("<")
        for name in (
            *("float16", "float32", "float64", "int8", "int16", "int32", "int64"),
            *("uint8", "uint16", "uint32", "uint64", "bool"),
        )
    },
}
"""Every dtype a series can have, by the name used in code, on disk and on the command line."""

_MAX_ROW_BYTES = 2**31
MAX_AXES = 30
"""numpy's older versions have 32 at most. A chunk needs one more for its rows, the codec one for an item's bytes."""
MAX_STEPS = 2**48
MAX_SERIES = 2**16 - 1
"""A frame counts its rows in 16 bits."""
_MOST_LISTED_STEPS = 1 << 24


def dtype_name(dtype: np.dtype[Any]) -> str:
    """The name of a numpy dtype, as specs have it."""
    return "bfloat16" if dtype == BFLOAT16 else dtype.name


def storage_dtype(dtype_name: str) -> np.dtype[Any]:
    """The numpy dtype that holds the bits on disk: uint16 for bfloat16, else the dtype itself."""
    return np.dtype("<u2") if dtype_name == "bfloat16" else DTYPES[dtype_name]


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


@dataclass(frozen=True)
class RunSpec:
    """Everything that a run declares before its first step.

    Parameters
    ----------
    series : Mapping of str to Series
        What is recorded, by name.
    steps : int, optional
        How many steps there will be, step 0 included: a run that ends with step 10,000 has 10,001 of them.

    Raises
    ------
    SpecError
        The declaration is none that can be recorded.
    """

    series: Mapping[str, Series]
    steps: int | None = None

    def __post_init__(self) -> None:
        if not self.series:
            raise SpecError("a run needs at least one series")
        if len(self.series) > MAX_SERIES:
            raise SpecError(f"{len(self.series):,} series are above the limit of {MAX_SERIES:,}; stack some into one")
        if self.steps is not None and (
            not isinstance(self.steps, (int, np.integer)) or not 1 <= self.steps <= MAX_STEPS
        ):
            raise SpecError(
                f"steps={self.steps!r}: a run's number of steps is an int from 1 to {MAX_STEPS}, or None if not known"
            )
        named: dict[str, Series] = {}
        sizes: dict[str, tuple[int, str]] = {}
        for name, series in self.series.items():
            check_name(name)
            if not isinstance(series, Series):
                raise SpecError(f"series {name!r} is {series!r}; expected a Series")
            dims = series.dims if series.dims else tuple(f"{name}_dim_{axis}" for axis in range(len(series.shape)))
            for dim, size in zip(dims, series.shape, strict=True):
                known_size, owner = sizes.setdefault(dim, (size, name))
                if known_size != size:
                    raise SpecError(
                        f"dimension {dim!r} has {known_size} entries in series {owner!r} and {size} in {name!r};"
                        " give them different names"
                    )
            if self.steps is not None and isinstance(series.steps, (range, tuple)) and series.steps[-1] >= self.steps:
                raise SpecError(f"series {name!r} declares step {series.steps[-1]}, past the run's {self.steps} steps")
            named[name] = Series(series.shape, series.dtype, dims, series.steps)
        object.__setattr__(self, "series", named)
        object.__setattr__(self, "steps", None if self.steps is None else int(self.steps))

    def next_due(self, step: int) -> int | None:
        """Find the first step, from a step on, at which any series is due.

        Parameters
        ----------
        step : int
            The step.

        Returns
        -------
        int or None
            The step, which may be `step` itself; None if there is none, or the run is over by then.
        """
        due = [at for series in self.series.values() if (at := series.next_due(step)) is not None]
        first = min(due, default=None)
        return None if first is None or (self.steps is not None and first >= self.steps) else first

    def last_due_before(self, step: int) -> int | None:
        """Find the last step before a step at which any series is due.

        Parameters
        ----------
        step : int
            The step.

        Returns
        -------
        int or None
            None if there is none.
        """
        last: int | None = None
        for series in self.series.values():
            rows = series.rows_before(step)
            if rows:
                at = int(series.steps_at([rows - 1])[0])
                last = at if last is None else max(last, at)
        return last

    def n_steps_before(self, step: int) -> int | None:
        """Count the steps before a step at which any series is due.

        Parameters
        ----------
        step : int
            The step.

        Returns
        -------
        int or None
            How many `steps_before` lists. None if no series is due at every step, and those that are due at different
            ones have too many rows to be compared.
        """
        schedules = {series.steps: series for series in self.series.values()}
        if None in schedules:
            return step
        n_rows = [series.rows_before(step) for series in schedules.values()]
        if len(n_rows) == 1:
            return n_rows[0]
        return len(self.steps_before(step)) if sum(n_rows) <= _MOST_LISTED_STEPS else None

    def steps_before(self, step: int) -> npt.NDArray[np.int64]:
        """Return every step before a step at which any series is due.

        Parameters
        ----------
        step : int
            The step.

        Returns
        -------
        ndarray of int64
            Increasing.
        """
        if any(series.steps is None for series in self.series.values()):
            return np.arange(step, dtype=np.int64)
        every = [series.steps_of(0, series.rows_before(step)) for series in self.series.values()]
        return np.unique(np.concatenate(every))

    def due(self, step: int) -> dict[str, Series]:
        """Return the series that are recorded at a step.

        Parameters
        ----------
        step : int
            The step.

        Returns
        -------
        dict of str to Series
            In declared order.
        """
        return {name: series for name, series in self.series.items() if series.is_due(step)}

    def frame(self, step: int, values: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """Check one step's values against the declaration.

        Parameters
        ----------
        step : int
            The step that they are of.
        values : mapping of str to array_like
            One value for each series that is due; what it can be is said at `Sink.append`.

        Returns
        -------
        dict of str to numpy.ndarray
            The rows in storage dtype, in declared order. They may share memory with `values`.

        Raises
        ------
        FrameError
            A series is missing, unknown or not due, or its value is no array of its shape.
        LossyCastError
            Bits would change.
        """
        due = self.due(step)
        if values.keys() != due.keys():
            for name in values:
                if name not in self.series:
                    raise FrameError(f"step {step}: no series {name!r} was declared; the run has {_names(self.series)}")
                if name not in due:
                    raise FrameError(f"step {step}: series {name!r} is not declared for this step")
            raise FrameError(f"step {step}: series {_names(due.keys() - values.keys())} missing from the frame")
        rows = {}
        for name, series in due.items():
            try:
                rows[name] = as_row(values[name], series.shape, series.logical_dtype)
            except (FrameError, LossyCastError) as error:
                raise type(error)(f"step {step}, series {name!r}: {error}") from error.__cause__
        return rows

    def to_json(self) -> dict[str, Any]:
        """Return the declaration as plain values, as the manifest holds it.

        Returns
        -------
        dict of str to Any
            Steps and series.
        """
        return {"steps": self.steps, "series": {name: series.to_json() for name, series in self.series.items()}}

    @staticmethod
    def from_json(value: Any) -> "RunSpec":
        """Make a declaration from plain values: the inverse of `to_json`.

        Parameters
        ----------
        value : Any
            What `to_json` returned.

        Returns
        -------
        RunSpec
            The declaration.

        Raises
        ------
        SpecError
            The value is anything else.
        """
        try:
            return RunSpec({name: Series.from_json(s) for name, s in value["series"].items()}, value["steps"])
        except (KeyError, TypeError, AttributeError) as error:
            raise SpecError(f"not a run's description: {error}") from error


def check_name(name: object) -> None:
    """Raise SpecError unless a series or a static array of a run can be called `name`."""
    if not naming.can_name(name):
        raise _unfit(name)


def check_new_names(names: Iterable[object]) -> None:
    """Raise SpecError unless a new run may have these names. Those that exist already may have a few more."""
    for name in names:
        if not naming.can_name_in_new_run(name):
            raise _unfit(name)


def _unfit(name: object) -> SpecError:
    remedy = f"; {naming.nearest_name(name)!r} would do" if isinstance(name, str) else ""
    return SpecError(
        f"{name!r:.300} cannot name a series: use letters, digits, '_', '-' and '.', {naming.MAX_CHARACTERS} at most,"
        f" not beginning with '-', '.' or '__', and none of {_names(naming.RESERVED)}{remedy}"
    )


def _names(names: Any) -> str:
    return ", ".join(repr(name) for name in sorted(names))
