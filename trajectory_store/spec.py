"""What a run declares before its first step: its series, and what one frame of them is. Knows no file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import naming
from .bf16 import BFLOAT16 as BFLOAT16  # an `X as X` is for scripts that have it from here
from .dtypes import dtype_name as dtype_name
from .dtypes import storage_dtype as storage_dtype
from .errors import FrameError, LossyCastError, SpecError
from .series_spec import MAX_AXES as MAX_AXES
from .series_spec import MAX_STEPS, Series
from .values import as_row

Frame = Mapping[str, npt.NDArray[Any]]
"""Series name → one row, C-contiguous, little-endian, in the series' storage dtype."""

MAX_SERIES = 2**16 - 1
"""A frame counts its rows in 16 bits."""
_MOST_LISTED_STEPS = 1 << 24


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
        if not isinstance(self.series, Mapping):
            raise SpecError(
                f"series={self.series!r:.80}: expected a Series for each name, as {{'loss': ts.Series((), 'float32')}}"
            )
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
