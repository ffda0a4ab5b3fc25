"""A run as one safetensors file, byte for byte what `save_file` writes for the same tensors, in constant memory.

Every series and every static array becomes a tensor of its name. bfloat16 is declared as asked for, and its bits never
change; widening it to float32 is exact. The file appears whole and synced, or not at all.
"""

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import atomic, bf16, files, place, safetensors_format
from .blocks.layout import BLOCK_BYTES
from .dtypes import dtype_name
from .errors import RunExistsError, SeriesNotFoundError, StepNotRecordedError, UsageError
from .progress import Meter, Progress
from .run import LazySeries, Run, opened
from .selection import Indices, pieces
from .series_spec import Series
from .words import DeclaredAs, check_word

PIECE_BYTES = BLOCK_BYTES
"""So much is read and written at once: a whole block, because half blocks would be decoded twice as often."""


def export_safetensors(
    run: Run | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    dtype: DeclaredAs = "uint16",
    steps: slice | None = None,
    widen: Iterable[str] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write a run to a safetensors file, equal to `safetensors.torch.save_file` of its arrays.

    Parameters
    ----------
    run : Run, str or PathLike
        The run, or where it is.
    path : str or PathLike
        The file to write, outside of the run.
    dtype : {"uint16", "bfloat16"}
        What bfloat16 is declared as; the bits are the same. "uint16" is the notebooks' way.
    steps : slice, optional
        Step numbers, as numpy takes a slice from the steps 0 to the last recorded one, but forwards only; all by
        default.
    widen : iterable of str
        bfloat16 series and static arrays to write as float32, exactly.
    overwrite : bool
        Replace a file that is there.
    progress : callable, optional
        Called with the bytes written and the bytes there are, first with 0 written.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    UsageError
        An option is wrong, or the path is inside the run.
    SeriesNotFoundError
        `widen` names a series that is not there.
    RunExistsError
        Something is at `path`, and `overwrite` is not set.
    StepNotRecordedError
        `steps` selects none.
    DamageError
        What is read fails its checksum.
    StorageError
        The disk refuses. Nothing is left behind.

    Notes
    -----
    The file appears whole and synced, or not at all: its space is reserved first, and it is renamed into its place. Its
    mode respects the umask. Memory is bounded by a block of the run.
    """
    target = place.to_write(path)
    check_word("dtype", dtype, DeclaredAs)
    with opened(run) as source:
        check_target(target, source.path, overwrite=overwrite)
        _check_widened(source, widened := {widen} if isinstance(widen, str) else set(widen))
        wanted = _wanted_steps(source, steps)
        rows = {name: _rows_at(series, wanted) for name, series in source.series.items()}
        shapes = {name: (series.dtype, (len(rows[name]), *series.shape)) for name, series in source.series.items()}
        shapes |= {name: (dtype_name(array.dtype), array.shape) for name, array in source.static.items()}
        declared = {
            name: (_declared(own, dtype, is_widened=name in widened), shape) for name, (own, shape) in shapes.items()
        }
        header, tensors = safetensors_format.layout(declared)
        n_bytes = len(header) + sum(tensor.n_bytes for tensor in tensors.values())
        meter = Meter(n_bytes, progress)
        with atomic.write_in_place_atomically(target, n_bytes, replace=overwrite) as descriptor:
            offset = files.write_all(descriptor, [header], 0)
            meter.add(offset)
            for name in tensors:
                for part in _parts(source, name, rows.get(name)):
                    values = bf16.to_float32(part) if name in widened else part
                    offset = files.write_all(descriptor, [values], offset)
                    meter.add(values.nbytes)
                    del part, values  # otherwise two blocks would be held while the next one is read
    return target


def _parts(run: Run, name: str, rows: Indices | None) -> Iterator[npt.NDArray[Any]]:
    """The bit patterns of a tensor in order: a static array's at once, a series' some rows at a time."""
    if rows is None:
        array = np.ascontiguousarray(run.static[name])
        yield array.view(f"<u{array.dtype.itemsize}")
        return
    patterns = run[name].bits
    at_once = _rows_at_once(patterns)
    for piece, _, positions in pieces(rows, at_once):
        first = piece * at_once
        if isinstance(positions, slice):
            is_whole = positions.step == 1
            part = run.source.mapped(name, first + positions.start, first + positions.stop) if is_whole else None
            if part is not None:
                # Written as they lie in the file, no copy between: half the time (947 MB in 0.8–1.5 s, not 1.0–2.6).
                yield part.view(patterns.dtype)
                continue
            yield patterns[slice(first + positions.start, first + positions.stop, positions.step)]
        else:
            yield patterns[first + positions]


def _rows_at_once(series: LazySeries) -> int:
    """A whole block's rows, halved until they fit."""
    n_rows = series.block_rows
    while n_rows > 1 and n_rows * series.spec.row_bytes > PIECE_BYTES:
        n_rows = -(-n_rows // 2)
    return n_rows


def _declared(own: str, bfloat16_as: str, *, is_widened: bool) -> str:
    if is_widened:
        return "float32"
    return bfloat16_as if own == "bfloat16" else own


def _wanted_steps(run: Run, steps: slice | None) -> range:
    """The step numbers that a slice selects from 0 to the last recorded step."""
    if steps is not None and not isinstance(steps, slice):
        raise UsageError(f"steps={steps!r}: give a slice of step numbers, such as slice(1000, 2000)")
    last = run.source.spec.last_due_before(run.source.recorded_until)
    if last is None:
        raise StepNotRecordedError(f"{run.path}: no step is recorded yet, so there is nothing to export")
    n_steps = last + 1
    try:
        wanted = range(*(steps or slice(None)).indices(n_steps))
    except (TypeError, ValueError) as error:
        raise UsageError(f"steps={steps!r}: {error}") from error
    if wanted.step < 1:
        raise UsageError(f"steps={steps!r}: a run is exported forwards; give a step ≥ 1")
    if len(wanted) == 0:
        raise StepNotRecordedError(f"{run.path}: {steps} selects none of the steps 0 to {n_steps - 1}")
    return wanted


def _rows_at(series: Series, steps: range) -> Indices:
    """The rows of a series at some of the steps, in order."""
    if series.steps is None:
        return steps
    first, last = series.rows_before(steps[0]), series.rows_before(steps[-1] + 1)
    if steps.step == 1 or first == last:
        return range(first, last)
    if isinstance(series.steps, tuple):
        is_wanted = (series.steps_of(first, last) - steps.start) % steps.step == 0
        return first + np.flatnonzero(is_wanted)
    # Evenly spaced rows at evenly spaced steps: if any are wanted, every `period`-th is.
    apart = series.steps if isinstance(series.steps, int) else series.steps.step
    common = math.gcd(apart, steps.step)
    ahead, period = steps.start - int(series.steps_at([first])[0]), steps.step // common
    if ahead % common:
        return range(0)
    return range(first + ahead // common * pow(apart // common, -1, period) % period, last, period)


def _check_widened(run: Run, widened: set[str]) -> None:
    dtypes = {name: series.dtype for name, series in run.series.items()}
    dtypes |= {name: dtype_name(array.dtype) for name, array in run.static.items()}
    for name in sorted(widened):
        if name not in dtypes:
            raise SeriesNotFoundError(f"{run.path}: no series {name!r} to widen; it has {', '.join(sorted(dtypes))}")
        if dtypes[name] != "bfloat16":
            raise UsageError(f"{run.path}: series {name!r} is {dtypes[name]}; only bfloat16 is widened to float32")


def check_target(path: Path, run_path: Path, *, overwrite: bool) -> None:
    """Raise UsageError if `path` is inside the run, and RunExistsError if something is there, unless it may be
    replaced."""
    where, run_where = path.resolve(), run_path.resolve()
    if where == run_where or run_where in where.parents:
        raise UsageError(f"{path}: belongs to the run that is exported; choose another path")
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_file():
        raise RunExistsError(f"{path}: exists and is not a file; choose another path")
    if not overwrite:
        raise RunExistsError(f"{path}: already exists; choose another path, or overwrite it")
