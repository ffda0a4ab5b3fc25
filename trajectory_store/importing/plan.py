"""What becomes of every array of a foreign file: a series, a static array, or a sentence that says why neither.

One array that cannot be imported never refuses the others. Only the options of a call are refused.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..conventions import rows_along_steps
from ..errors import MalformedFileError, SeriesNotFoundError, SpecError, UsageError
from ..naming import names_for
from ..series_spec import MAX_AXES, Series
from ..spec import check_new_names
from .conversion import Conversion, is_supported
from .foreign import ForeignArray, ForeignFile, RenamedFile, UnreadableArrayError

LARGEST_STATIC_BYTES = 256 << 20
"""A static array is held in memory."""
LARGEST_ATTRS_BYTES = 1 << 20
"""A file's own attributes, all of them, as JSON: the manifest that holds them is written at every seal."""

_MAX_FIRST_STEP = 1 << 31
_MOST_REASONS = 20
"""An error names so many at most; findings name all."""


@dataclass(frozen=True)
class PlannedSeries:
    """An array that becomes a series: its rows begin at a step."""

    array: ForeignArray
    first_step: int
    conversion: Conversion

    @property
    def stop_step(self) -> int:
        """The step behind its last row."""
        return self.first_step + self.array.shape[0]


class ImportPlan:
    """What an import makes of a file, by the names of the run.

    file: the arrays that can be imported. recorded: the series. steps: how many the run has. conversions: of every
    array of `file`. Raises SeriesNotFoundError and UsageError if options do not fit the file, LossyCastError if they
    lose bits, and SpecError if nothing is left that can be a series; MalformedFileError, if that is because arrays are
    broken.
    """

    def __init__(
        self,
        foreign: ForeignFile,
        unreadable: Mapping[str, str],
        *,
        rename: Mapping[str, str] | None = None,
        first_step: Mapping[str, int] | None = None,
        bfloat16: Iterable[str] | None = None,
        allow_lossy: bool = False,
    ) -> None:
        """unreadable: name in the file → what was found when its values were read."""
        self._foreign = foreign
        self._left_out = [*foreign.left_out, *unreadable.values()]
        for option, given in (("rename", rename), ("first_step", first_step)):
            if not isinstance(given, (Mapping, NoneType)):
                raise UsageError(f"{option}={given!r:.80}: give a mapping by the names of arrays")
        self._renamed = dict(rename or {})
        self._names = self._name(list(self._importable(unreadable)))
        self.file = RenamedFile(foreign, self._names)
        self._first_step = {self._known(name): _checked_step(name, n) for name, n in (first_step or {}).items()}
        self._along_steps = self._find_along_steps()
        self.conversions = self._convert(bfloat16, allow_lossy=allow_lossy)
        self.recorded = dict(self._record())
        if not self.recorded:
            raise (MalformedFileError if unreadable else SpecError)(
                f"{foreign.path}: no array in it has a first axis of steps{_reasons(self._left_out)}"
            )
        self.steps = max(one.stop_step for one in self.recorded.values())

    def _importable(self, unreadable: Mapping[str, str]) -> Iterator[str]:
        for name, array in self._foreign.arrays.items():
            if name in unreadable:
                continue
            if not is_supported(array.dtype):
                self._left_out.append(f"{name!r} has dtype {array.dtype!s:.80}, which no series can have")
            elif array.n_bytes == 0:
                self._left_out.append(f"{name!r} of shape {array.shape!s:.80} is empty")
            elif len(array.shape) > MAX_AXES + 1:  # that of the steps, before those of a row
                self._left_out.append(f"{name!r} has {len(array.shape)} axes, above the limit of {MAX_AXES + 1}")
            else:
                yield name

    def _name(self, kept: Sequence[str]) -> dict[str, str]:
        """Name in the file → name in the run, in the file's order."""
        check_new_names(self._renamed.values())
        for own, name in self._renamed.items():
            if own not in self._foreign.arrays:
                raise SeriesNotFoundError(f"{self._foreign.path}: no array {own!r} to rename{self._which(kept)}")
            if list(self._renamed.values()).count(name) > 1:
                raise UsageError(f"{self._foreign.path}: two arrays are renamed to {name!r}")
        return names_for(kept, {own: name for own, name in self._renamed.items() if own in kept})

    def _which(self, names: Iterable[str]) -> str:
        return f"; it has {', '.join(names) or 'none that can be imported'}{_reasons(self._left_out)}"

    def _known(self, name: str) -> str:
        """The name in the run of what an option names, as in the run or as in the file."""
        if name in self._names.values():
            return name
        if name not in self._names:
            raise SeriesNotFoundError(f"{self._foreign.path}: no array {name!r}{self._which(self._names.values())}")
        return self._names[name]

    def _find_along_steps(self) -> dict[str, int]:
        """What is recorded along steps: name → the step of its first row."""
        arrays = {name: (one.shape, one.n_bytes) for name, one in self.file.arrays.items()}
        lengths = rows_along_steps({name: one for name, one in arrays.items() if name not in self._first_step})
        found = {}
        for name, (shape, _) in arrays.items():
            if name in self._first_step and not shape:
                raise UsageError(f"{self.file.path}: {name!r} is a single value and begins at no step")
            if name in self._first_step or (shape and shape[0] in lengths):
                found[name] = self._first_step.get(name, 0)
        return found

    def _convert(self, bfloat16: Iterable[str] | None, *, allow_lossy: bool) -> dict[str, Conversion]:
        if bfloat16 is None:
            chosen = {name for name in self._along_steps if self.file.arrays[name].dtype == "uint16"}
        else:
            chosen = {self._known(name) for name in ([bfloat16] if isinstance(bfloat16, str) else bfloat16)}
        return {
            name: Conversion(name, array.dtype, to_bfloat16=name in chosen, allow_lossy=allow_lossy)
            for name, array in self.file.arrays.items()
        }

    def _record(self) -> Iterator[tuple[str, PlannedSeries]]:
        for name, step in self._along_steps.items():
            array, conversion = self.file.arrays[name], self.conversions[name]
            try:
                Series(array.shape[1:], conversion.dtype)
            except SpecError as error:
                self._left_out.append(f"{name!r}: {error}")
            else:
                yield name, PlannedSeries(array, step, conversion)

    def series(self) -> dict[str, Series]:
        """The declaration; rows of two axes as large as the largest series' have the dimensions token and dim."""
        matrix = max((one.array for one in self.recorded.values()), key=lambda array: array.n_bytes).shape[1:]
        return {
            name: Series(
                one.array.shape[1:],
                one.conversion.dtype,
                dims=("token", "dim") if one.array.shape[1:] == matrix and len(matrix) == 2 else None,
                steps=None
                if (one.first_step, one.stop_step) == (0, self.steps)
                else range(one.first_step, one.stop_step),
            )
            for name, one in self.recorded.items()
        }

    def read_static(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays that are no series, but for those that are too large."""
        static = {}
        broken: dict[str, str] = {}
        for name, array in self.file.arrays.items():
            if name in self._along_steps:
                continue
            if len(array.shape) > MAX_AXES:
                self._left_out.append(f"{name!r} has {len(array.shape)} axes, and a static array {MAX_AXES} at most")
                continue
            if array.n_bytes > LARGEST_STATIC_BYTES:
                self._left_out.append(
                    f"{name!r} of shape {array.shape} is not as long as {', '.join(self.recorded)}, and too large for a"
                    f" static array; if it is recorded along steps, say from which one, such as"
                    f" first_step={{{name!r}: 1}}"
                )
                continue
            try:
                rows = self.file.read(name, 0, array.shape[0] if array.shape else 1)
            except UnreadableArrayError as error:
                broken |= error.found
            else:
                static[name] = self.conversions[name].convert(rows, 0)
        if broken:
            raise UnreadableArrayError(broken)
        return static

    def attrs(self) -> dict[str, Any]:
        """What the file says about itself, but for what is too large."""
        kept, n_bytes = {}, 0
        for name, value in self._foreign.attrs.items():
            value_bytes = len(json.dumps([name, value]))
            if n_bytes + value_bytes > LARGEST_ATTRS_BYTES:
                self._left_out.append(f"attribute {name!r} is too large")
                continue
            n_bytes += value_bytes
            kept[name] = value
        return kept

    def findings(self, static: Iterable[str]) -> Iterator[str]:
        """What is to be known of a run with these static arrays: a sentence each."""
        yield from (f"left out: {what}" for what in self._left_out)
        for own, name in self._names.items():
            if own not in self._renamed and name != own.replace("/", "."):
                yield f"{name}: called {own!r} in the file; choose another name with rename={{{own!r}: …}}"
        yield from self._foreign.remarks
        yield from self._guesses(static)

    def _guesses(self, static: Iterable[str]) -> Iterator[str]:
        """What was guessed of the axis of steps and may be wrong."""
        guessed = {name: one.array.shape[0] for name, one in self.recorded.items() if name not in self._first_step}
        most_rows = max(guessed.values(), default=0)
        shorter = [name for name, n in guessed.items() if n < most_rows]
        if shorter:
            longer = ", ".join(name for name, n in guessed.items() if n == most_rows)
            yield (
                f"{', '.join(shorter)}: one row fewer than {longer}, and its first row taken for step 0; if that is"
                f" step 1, say first_step={{{shorter[0]!r}: 1}}"
            )
        most_bytes = max(array.n_bytes for array in self.file.arrays.values())
        for name in static:
            array = self.file.arrays[name]
            n_rows = array.shape[0] if array.shape else 0
            is_near = len(array.shape) > 1 and abs(n_rows - most_rows) == 1
            if is_near or (n_rows and array.n_bytes == most_bytes):
                yield (
                    f"{name}: a static array, since it has {n_rows:,} rows and not {most_rows:,}; if it is recorded"
                    f" along steps, say from which one, such as first_step={{{name!r}: {int(n_rows < most_rows)}}}"
                )


def _checked_step(name: str, step: object) -> int:
    number = int(step) if isinstance(step, (int, np.integer)) and not isinstance(step, bool) else -1
    if not 0 <= number < _MAX_FIRST_STEP:
        raise UsageError(f"{name!r} cannot begin at step {step!r}; give an int ≥ 0 and < {_MAX_FIRST_STEP}")
    return number


def _reasons(left_out: Sequence[str]) -> str:
    more = f"; and {len(left_out) - _MOST_REASONS:,} more" if len(left_out) > _MOST_REASONS else ""
    return "".join(f"; {why}" for why in left_out[:_MOST_REASONS]) + more
