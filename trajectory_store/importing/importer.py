"""Runs from the files that people have: safetensors, HDF5, .npy, .npz and .pt, in constant memory, bit for bit.

An array is a series if its first axis is as long as that of `loss`, or of the largest array if there is no `loss`; its
row r is step r. Other arrays are static, unless `first_step` says at which step they begin. The run appears whole or
not at all. One array that cannot be imported never refuses the others. What was taken for something else than the file
says, has another name or was left out, is a finding.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

from .. import place
from ..backends.claim import check_free, claim
from ..errors import UsageError
from ..options import takes
from ..progress import Progress
from ..recording import create
from ..spec import check_new_names
from ..words import Backend, Codec
from . import file_kind
from .foreign import ForeignFile, ForeignSafetensors, UnreadableArrayError
from .hdf5_file import ForeignHdf5
from .numpy_file import ForeignNumpy
from .plan import ImportPlan
from .torch_file import ForeignTorch
from .transfer import append_rows

StrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Imported:
    """What an import made of a file.

    Parameters
    ----------
    path : Path
        The run's folder.
    steps : int
        How many steps it has, step 0 included.
    series : tuple of str
        What is recorded along steps.
    static : tuple of str
        What is not.
    findings : tuple of str
        What is to be known of it, a sentence each: what was left out and why, what has another name than in the file,
        and what was taken for something else than the file says.
    lossy : tuple of str
        Arrays whose values changed in the import, or have probably changed before it, since they were recorded.
    """

    path: Path
    steps: int
    series: tuple[str, ...]
    static: tuple[str, ...]
    findings: tuple[str, ...]
    lossy: tuple[str, ...]


class ImportOptions(TypedDict, total=False):
    """How a file becomes a run; all of it may be left out.

    Parameters
    ----------
    backend, codec, block_steps
        As for `create`.
    bfloat16 : iterable of str, optional
        Arrays whose values are bfloat16: uint16 is taken for its bit patterns, float32 is narrowed, which must be
        exact, and float16 is converted, which asks for `allow_lossy`. By default it is every uint16 series, as the
        notebooks store bfloat16; an empty iterable is none.
    first_step : mapping of str to int
        The step of a series' first row, for arrays that are longer or shorter than the others.
    rename : mapping of str to str
        Name in the file → name in the run. An array that is not renamed has its own name, with "." for the "/" of
        groups and folders, or the nearest one that a series can have.
    attrs : mapping of str to Any
        Attributes of the run, beside those of the file.
    allow_lossy : bool
        Whether what bfloat16 cannot hold is rounded, to nearest even.
    overwrite : bool
        Whether a run that is already there is replaced.
    progress : callable, optional
        Called with the bytes that are done and the bytes that there are.
    """

    backend: Backend
    codec: Codec
    block_steps: int | None
    bfloat16: Iterable[str] | None
    first_step: Mapping[str, int]
    rename: Mapping[str, str]
    attrs: Mapping[str, Any]
    allow_lossy: bool
    overwrite: bool
    progress: Progress | None


@takes(ImportOptions)
def import_safetensors(file: StrPath, run_path: StrPath, **options: Unpack[ImportOptions]) -> Imported:
    """Make a run of a safetensors file.

    Memory is bounded by a block of the run. The run appears whole and synced, or not at all.

    Parameters
    ----------
    file : str or path
        The file; its name does not matter.
    run_path : str or path
        The run's folder, which must not exist unless `overwrite` is given.
    **options : ImportOptions
        `backend`, `codec`, `block_steps`, `bfloat16`, `first_step`, `rename`, `attrs`, `allow_lossy`, `overwrite` and
        `progress`, all of them optional.

    Returns
    -------
    Imported
        What was made, and in `findings` what was left out and why.

    Raises
    ------
    RunNotFoundError
        The file cannot be read.
    MalformedFileError
        The file breaks its format, so that nothing in it can be trusted.
    UsageError
        The options do not fit the file, or nothing in it can be a series.
    LossyCastError
        bfloat16 cannot hold a value, and `allow_lossy` is not given.
    RunExistsError
        Something is at `run_path`.
    StorageError
        The disk refuses.

    Notes
    -----
    An array whose first axis is as long as that of `loss` or, if there is none, of the largest array, is a series, and
    its row r is step r. If the largest array has one row more than `loss`, arrays of that length are series too. All
    others are static arrays, unless `first_step` names them.
    """
    return _import(lambda: ForeignSafetensors(place.local(file)), place.to_write(run_path), **options)


@takes(ImportOptions)
def import_hdf5(file: StrPath, run_path: StrPath, **options: Unpack[ImportOptions]) -> Imported:
    """Make a run of an HDF5 file: netCDF-4 and MATLAB 7.3 too; needs the extra `hdf5`.

    A dataset in a group is called with "." for "/", and the file's own attributes become the run's. A compressed
    chunk is decoded whole, so memory is bounded by the larger of a block and the file's chunks.

    Parameters
    ----------
    file : str or path
        The file; its name does not matter.
    run_path : str or path
        The run's folder.
    **options : ImportOptions
        As for `import_safetensors`.

    Returns
    -------
    Imported
        What was made. Text, compound and virtual datasets, links, values in other files, and datasets that were not
        wholly written are left out, and `findings` says so.

    Raises
    ------
    UsageError
        h5py is missing, or as `import_safetensors`, whose other errors are raised too.
    BusyError
        Another program has the file open for writing.
    """
    return _import(lambda: ForeignHdf5(place.local(file)), place.to_write(run_path), **options)


@takes(ImportOptions)
def import_numpy(
    file: StrPath, run_path: StrPath, *, name: str | None = None, **options: Unpack[ImportOptions]
) -> Imported:
    """Make a run of a .npz archive or a .npy file; nothing is unpickled.

    Parameters
    ----------
    file : str or path
        The file; its name does not matter.
    run_path : str or path
        The run's folder.
    name : str, optional
        What the array of a .npy file is called; by default as the file.
    **options : ImportOptions
        As for `import_safetensors`.

    Returns
    -------
    Imported
        What was made. Arrays of objects, text and records are left out, and `findings` says so.

    Raises
    ------
    TrajectoryError
        As `import_safetensors`.
    """
    check_new_names([name] if name is not None else [])
    return _import(lambda: ForeignNumpy(place.local(file), name), place.to_write(run_path), **options)


@takes(ImportOptions)
def import_torch(
    file: StrPath, run_path: StrPath, *, name: str | None = None, **options: Unpack[ImportOptions]
) -> Imported:
    """Make a run of a file of torch.save, none of whose code is run; needs torch.

    Every tensor and numpy array in the saved object is an array, called by the keys and positions on the way to it with
    "." between them; plain numbers and texts become the run's attributes. The file is mapped into memory.

    Parameters
    ----------
    file : str or path
        The file, a zip archive as torch writes it since 1.6; its name does not matter.
    run_path : str or path
        The run's folder.
    name : str, optional
        What an object is called that is one tensor; by default as the file.
    **options : ImportOptions
        As for `import_safetensors`.

    Returns
    -------
    Imported
        What was made. Sparse and quantized tensors are left out, and `findings` says so.

    Raises
    ------
    UsageError
        torch is missing, or refuses to load the file without running code of it; or as `import_safetensors`, whose
        other errors are raised too.
    """
    check_new_names([name] if name is not None else [])
    return _import(lambda: ForeignTorch(place.local(file), name), place.to_write(run_path), **options)


@takes(ImportOptions)
def import_file(
    file: StrPath, run_path: StrPath, *, name: str | None = None, **options: Unpack[ImportOptions]
) -> Imported:
    """Make a run of a file of any of these kinds; its content says which.

    Parameters
    ----------
    file : str or path
        A safetensors, HDF5, .npy or .npz file, or one of torch.save, whatever its name.
    run_path : str or path
        The run's folder.
    name : str, optional
        What the array is called in a file that has one without a name.
    **options : ImportOptions
        As for `import_safetensors`.

    Returns
    -------
    Imported
        What was made, and in `findings` what was left out and why.

    Raises
    ------
    UsageError
        The file is of another kind; or as the import of its kind, whose other errors are raised too.
    """
    path = place.local(file)
    kind = file_kind.kind_of(path)
    if kind == file_kind.NUMPY:
        return import_numpy(path, run_path, name=name, **options)
    if kind == file_kind.TORCH:
        return import_torch(path, run_path, name=name, **options)
    if name is not None:
        raise UsageError(f"{path}: its arrays have names, so name={name!r} does not fit; rename one instead")
    return (import_hdf5 if kind == file_kind.HDF5 else import_safetensors)(path, run_path, **options)


def _import(open_file: Callable[[], ForeignFile], run_path: Path, **options: Unpack[ImportOptions]) -> Imported:
    """Import without the arrays that turn out to be broken as they are read. Each of them costs a new beginning."""
    unreadable: dict[str, str] = {}
    while True:
        with contextlib.closing(open_file()) as foreign:
            try:
                return _import_readable(foreign, unreadable, run_path, **options)
            except UnreadableArrayError as error:
                unreadable |= error.found


def _import_readable(
    foreign: ForeignFile,
    unreadable: Mapping[str, str],
    run_path: Path,
    *,
    backend: Backend = "zarr",
    codec: Codec = "temporal",
    block_steps: int | None = None,
    bfloat16: Iterable[str] | None = None,
    first_step: Mapping[str, int] | None = None,
    rename: Mapping[str, str] | None = None,
    attrs: Mapping[str, Any] | None = None,
    allow_lossy: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Imported:
    check_free(run_path, overwrite=overwrite)
    plan = ImportPlan(
        foreign, unreadable, rename=rename, first_step=first_step, bfloat16=bfloat16, allow_lossy=allow_lossy
    )
    static = plan.read_static()
    about = {"imported_from": foreign.path.name, **plan.attrs(), **(attrs or {})}
    with (
        claim(run_path, overwrite=overwrite) as folder,
        create(
            folder,
            plan.series(),
            steps=plan.steps,
            backend=backend,
            codec=codec,
            block_steps=block_steps,
            static=static,
            attrs=about,
        ) as sink,
    ):
        append_rows(sink, plan.file, plan.recorded, plan.steps, progress)
    made = [plan.conversions[name] for name in (*plan.recorded, *static)]
    return Imported(
        path=run_path,
        steps=plan.steps,
        series=tuple(plan.recorded),
        static=tuple(static),
        findings=(*plan.findings(static), *(finding for one in made if (finding := one.finding()))),
        lossy=tuple(one.name for one in made if one.is_lossy),
    )
