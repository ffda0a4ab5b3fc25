"""Runs from the files that people have: safetensors, HDF5, .npy and .npz, in constant memory, bit for bit.

An array whose first axis is as long as that of `loss` or, without one, of the largest array, is a series, its row r
step r; others are static arrays, unless `first_step` says at which step they begin. The run appears whole or not at
all. What was taken for something else than the file says, or left out, is a finding.
"""

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy.typing as npt

from .. import files
from ..backends.sink import Sink
from ..conventions import rows_along_steps
from ..errors import RunNotFoundError, SeriesNotFoundError, SpecError, UsageError
from ..options import takes
from ..progress import Meter, Progress
from ..recording import check_free, create
from ..spec import Series
from ..words import Backend, Codec
from .conversion import Conversion, is_supported
from .foreign import ForeignArray, ForeignFile, ForeignSafetensors
from .hdf5_file import ForeignHdf5
from .numpy_file import ForeignNumpy

PIECE_BYTES = 64 << 20
"""What is read at once, of all series together."""
LARGEST_STATIC_BYTES = 256 << 20
"""A static array is held in memory."""

_MAX_FIRST_STEP = 1 << 31

StrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Imported:
    """What an import made: the run's folder and steps, its series and static arrays, and what is to be known of it.

    findings: a sentence each. lossy: series whose values are not, or may well not be, those that were recorded once.
    """

    path: Path
    steps: int
    series: tuple[str, ...]
    static: tuple[str, ...]
    findings: tuple[str, ...]
    lossy: tuple[str, ...]


class ImportOptions(TypedDict, total=False):
    """How a file becomes a run; all of it may be left out.

    backend, codec, block_steps: as for `create`. bfloat16: the arrays whose values are bfloat16: uint16 is taken for
    its bit patterns, float32 is narrowed, which must be exact, and float16 is converted, which asks for allow_lossy.
    Left out or None it is every uint16 series, as the notebooks store bfloat16; () is none. first_step: series → the
    step of its first row, for arrays that are shorter than the others. attrs: beside those of the file. allow_lossy:
    round what bfloat16 cannot hold, to nearest even. overwrite: replace a run that is already there.
    """

    backend: Backend
    codec: Codec
    block_steps: int | None
    bfloat16: Iterable[str] | None
    first_step: Mapping[str, int]
    attrs: Mapping[str, Any]
    allow_lossy: bool
    overwrite: bool
    progress: Progress | None


@takes(ImportOptions)
def import_safetensors(file: StrPath, run_path: StrPath, **options: Unpack[ImportOptions]) -> Imported:
    """Make a run of a safetensors file, in memory bounded by a block; options as in `ImportOptions`.

    Raises RunNotFoundError and MalformedFileError where the file cannot be read, UsageError's children on options that
    do not fit it, LossyCastError where bits would be lost, RunExistsError where something is at `run_path`, and
    StorageError where the disk refuses; nothing is left behind then.
    """
    return _import(ForeignSafetensors(Path(file)), Path(run_path), **options)


@takes(ImportOptions)
def import_hdf5(file: StrPath, run_path: StrPath, **options: Unpack[ImportOptions]) -> Imported:
    """Make a run of an HDF5 file, as `import_safetensors` does; needs the extra `hdf5`.

    Datasets in groups are called with "." for "/", and the file's own attributes become the run's. A compressed chunk
    is decoded whole, so memory is bounded by the larger of a block and the file's chunks.
    """
    return _import(ForeignHdf5(Path(file)), Path(run_path), **options)


@takes(ImportOptions)
def import_numpy(
    file: StrPath, run_path: StrPath, *, name: str | None = None, **options: Unpack[ImportOptions]
) -> Imported:
    """Make a run of a .npz archive or a .npy file, as `import_safetensors` does; nothing is unpickled.

    name: what the array of a .npy file is called; by default as the file.
    """
    return _import(ForeignNumpy(Path(file), name), Path(run_path), **options)


@takes(ImportOptions)
def import_file(
    file: StrPath, run_path: StrPath, *, name: str | None = None, **options: Unpack[ImportOptions]
) -> Imported:
    """Make a run of a file of any of these kinds; its first bytes say which."""
    path = Path(file)
    try:
        with files.plain_file(path) as opened:
            start = opened.read(8)
    except FileNotFoundError as error:
        raise RunNotFoundError(f"{path}: cannot be read: {error.strerror}") from error
    if start.startswith((b"PK", b"\x93NUMPY")):
        return import_numpy(path, run_path, name=name, **options)
    if name is not None:
        raise UsageError(f"{path}: only the array of a .npy file can be given a name")
    if start == b"\x89HDF\r\n\x1a\n":
        return import_hdf5(path, run_path, **options)
    return import_safetensors(path, run_path, **options)


@dataclass(frozen=True)
class _Recorded:
    """An array that becomes a series: its rows begin at a step."""

    array: ForeignArray
    first_step: int
    conversion: Conversion

    @property
    def stop_step(self) -> int:
        return self.first_step + self.array.shape[0]


def _import(
    foreign: ForeignFile,
    run_path: Path,
    *,
    backend: Backend = "zarr",
    codec: Codec = "temporal",
    block_steps: int | None = None,
    bfloat16: Iterable[str] | None = None,
    first_step: Mapping[str, int] | None = None,
    attrs: Mapping[str, Any] | None = None,
    allow_lossy: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Imported:
    with contextlib.closing(foreign):
        check_free(run_path, overwrite=overwrite)
        findings = [f"left out: {what}" for what in foreign.left_out]
        arrays = _importable(foreign, findings)
        conversions = _conversions(foreign.path, arrays, _named(bfloat16), first_step or {}, allow_lossy=allow_lossy)
        recorded = _recorded(foreign.path, arrays, conversions, first_step or {})
        steps = max(one.stop_step for one in recorded.values())
        static = {
            name: _static(foreign, name, array, conversions[name])
            for name, array in arrays.items()
            if name not in recorded
        }
        with files.build_folder(run_path, overwrite=overwrite) as folder:
            about = {"imported_from": foreign.path.name, **foreign.attrs, **(attrs or {})}
            with create(
                folder,
                _series(recorded, steps),
                steps=steps,
                backend=backend,
                codec=codec,
                block_steps=block_steps,
                static=static,
                attrs=about,
            ) as sink:
                _append(sink, foreign, recorded, steps, progress)
    made = list(conversions.values())
    return Imported(
        path=run_path,
        steps=steps,
        series=tuple(recorded),
        static=tuple(static),
        findings=(*findings, *(finding for one in made if (finding := one.finding()))),
        lossy=tuple(one.name for one in made if one.is_lossy),
    )


def _named(names: Iterable[str] | None) -> set[str] | None:
    return None if names is None else {names} if isinstance(names, str) else set(names)


def _importable(foreign: ForeignFile, findings: list[str]) -> dict[str, ForeignArray]:
    arrays = {}
    for name, array in foreign.arrays.items():
        if not is_supported(array.dtype):
            findings.append(f"left out: {name!r} has dtype {array.dtype}")
        elif array.n_bytes == 0:
            findings.append(f"left out: {name!r} of shape {array.shape} is empty")
        else:
            arrays[name] = array
    return arrays


def _conversions(
    path: Path,
    arrays: Mapping[str, ForeignArray],
    bfloat16: set[str] | None,
    first_step: Mapping[str, int],
    *,
    allow_lossy: bool,
) -> dict[str, Conversion]:
    for name in (*(bfloat16 or ()), *first_step):
        if name not in arrays:
            raise SeriesNotFoundError(f"{path}: no array {name!r}; it has {', '.join(arrays)}")
    if bfloat16 is None:
        along_steps = _along_steps(arrays, first_step)
        bfloat16 = {name for name in along_steps if arrays[name].dtype == "uint16"}
    return {
        name: Conversion(name, array.dtype, to_bfloat16=name in bfloat16, allow_lossy=allow_lossy)
        for name, array in arrays.items()
    }


def _along_steps(arrays: Mapping[str, ForeignArray], first_step: Mapping[str, int]) -> dict[str, int]:
    """What is recorded along steps: name → the step of its first row."""
    others = {name: (one.shape, one.n_bytes) for name, one in arrays.items() if name not in first_step}
    n_rows = rows_along_steps(others)
    found = {name: 0 for name, (shape, _) in others.items() if n_rows and shape[:1] == (n_rows,)}
    return {name: found.get(name, first_step.get(name, 0)) for name in arrays if name in found or name in first_step}


def _recorded(
    path: Path,
    arrays: Mapping[str, ForeignArray],
    conversions: Mapping[str, Conversion],
    first_step: Mapping[str, int],
) -> dict[str, _Recorded]:
    recorded = {}
    for name, step in _along_steps(arrays, first_step).items():
        if not arrays[name].shape:
            raise UsageError(f"{path}: {name!r} is a single value and begins at no step")
        if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step < _MAX_FIRST_STEP:
            raise UsageError(f"{path}: {name!r} cannot begin at step {step!r}; give an int ≥ 0 and < {_MAX_FIRST_STEP}")
        recorded[name] = _Recorded(arrays[name], step, conversions[name])
    if not recorded:
        raise SpecError(f"{path}: no array in it has a first axis of steps")
    return recorded


def _series(recorded: Mapping[str, _Recorded], steps: int) -> dict[str, Series]:
    """The declaration; rows of two axes as large as the largest series' have the dimensions token and dim."""
    matrix = max((one.array for one in recorded.values()), key=lambda array: array.n_bytes).shape[1:]
    return {
        name: Series(
            one.array.shape[1:],
            one.conversion.dtype,
            dims=("token", "dim") if one.array.shape[1:] == matrix and len(matrix) == 2 else None,
            steps=None if (one.first_step, one.stop_step) == (0, steps) else range(one.first_step, one.stop_step),
        )
        for name, one in recorded.items()
    }


def _static(foreign: ForeignFile, name: str, array: ForeignArray, conversion: Conversion) -> npt.NDArray[Any]:
    if array.n_bytes > LARGEST_STATIC_BYTES:
        raise SpecError(
            f"{foreign.path}: {name!r} of shape {array.shape} is not as long as the series and too large for a static"
            f" array; if it is recorded along steps, say from which one, such as first_step={{{name!r}: 1}}"
        )
    return conversion.convert(foreign.read(name, 0, array.shape[0] if array.shape else 1), 0)


def _append(
    sink: Sink, foreign: ForeignFile, recorded: Mapping[str, _Recorded], steps: int, progress: Progress | None
) -> None:
    meter = Meter(sum(one.array.n_bytes for one in recorded.values()), progress)
    at_once = _steps_at_once([one.array for one in recorded.values()])
    for start in range(0, steps, at_once):
        _append_some(sink, foreign, recorded, range(start, min(start + at_once, steps)), meter)


def _append_some(
    sink: Sink, foreign: ForeignFile, recorded: Mapping[str, _Recorded], steps: range, meter: Meter
) -> None:
    pieces: dict[str, tuple[int, npt.NDArray[Any]]] = {}
    for name, one in recorded.items():
        first, last = max(steps.start, one.first_step), min(steps.stop, one.stop_step)
        if first < last:
            row = first - one.first_step
            rows = foreign.read(name, row, last - one.first_step)
            pieces[name] = (first, one.conversion.convert(rows, row))
            meter.add(rows.nbytes)
    for step in steps if pieces else ():
        frame = {name: rows[step - first] for name, (first, rows) in pieces.items() if 0 <= step - first < len(rows)}
        if frame:
            sink.append(step, **frame)


def _steps_at_once(arrays: list[ForeignArray]) -> int:
    """Steps whose rows fit, in whole chunks of the file where one fits."""
    n_steps = max(1, PIECE_BYTES // sum(array.row_bytes for array in arrays))
    chunk_rows = max(array.chunk_rows for array in arrays)
    return n_steps - n_steps % chunk_rows if chunk_rows <= n_steps else n_steps
