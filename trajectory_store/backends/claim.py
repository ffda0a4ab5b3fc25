"""The place of a new run, claimed by one process: what is there is locked, the run is built, and put there in one step.

Whoever loses gets one error, and the place is as the winner left it. Order of durable calls: docs/design.md, "Commit
protocol".
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from .. import atomic, files
from ..errors import BusyError, RunExistsError, RunLockedError, TrajectoryError
from ..folders import build_folder, fill_folder, is_empty, moved_aside
from . import manifest as manifests
from . import writer_lock
from .run_files import other_files
from .table import run_files
from .writer_lock import WriterLock

_LOCK = {writer_lock.FILE_NAME}


@contextlib.contextmanager
def claim(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """An empty folder to build a run in; it is at `path` when the block ends without an error.

    A `WriterLock` of that folder, taken in the block, stays held, so nobody gets in between. What is at `path` may be
    nothing, an empty folder, which stays the folder that it is, or, with `overwrite`, a run. Raises RunExistsError and
    RunLockedError as `check_free` does; nothing is left behind after an error.
    """
    with rank_hint(), files.storage_errors("create", path), contextlib.ExitStack() as stack:
        check_free(path, overwrite=overwrite)
        stack.enter_context(_followed(path))
        if not path.exists():
            yield stack.enter_context(build_folder(path, overwrite=overwrite, may_remove=_is_left))
            return
        stack.enter_context(_locked(path))
        check_free(path, overwrite=overwrite, is_own=True)
        if is_empty(path, _LOCK):
            yield stack.enter_context(fill_folder(path, manifests.FILE_NAME, _LOCK))
        else:
            yield stack.enter_context(build_folder(path, overwrite=overwrite, may_remove=_is_left))


def check_free(path: Path, *, overwrite: bool, is_own: bool = False) -> None:
    """Raise unless a run may begin at `path`: nothing is there, an empty folder, or a run to overwrite.

    RunExistsError if something else is there, or beside it since an overwrite was killed; RunLockedError if a run there
    is being written, unless `is_own` says that this process has locked it.
    """
    if not path.exists():
        for moved in moved_aside(path):  # one that is being replaced is nowhere else at this moment
            WriterLock.require_free(moved)
        if not overwrite and (left := manifests.aside(path)):
            raise RunExistsError(f"{path}: {left}, or pass overwrite=True to do without it")
        return
    if path.is_dir() and not is_own and (overwrite or not manifests.is_there(path)):
        WriterLock.require_free(path)
    if path.is_dir() and is_empty(path, _LOCK):
        return
    if not overwrite:
        raise RunExistsError(f"{path}: already exists; resume it, choose another path, or pass overwrite=True")
    if not manifests.is_there(path):
        raise RunExistsError(f"{path}: exists and is not a run, so it will not be overwritten; choose another path")
    _require_nothing_else(path)


def _require_nothing_else(path: Path) -> None:
    """Raise RunExistsError if the folder of a run, all of which an overwrite removes, holds a file that is not its."""
    try:
        written = run_files(path)
    except TrajectoryError as error:
        raise RunExistsError(
            f"{error}; nothing else says which files are the run's, so {path} will not be overwritten; remove it"
            " yourself, or choose another path"
        ) from error
    others = set(other_files(path, written)) - set(atomic.unfinished(written))
    others -= {other for other in others if other.name == files.FOLDER_VIEW}  # nobody's work
    if others:
        raise RunExistsError(
            f"{path}: holds {min(others).relative_to(path)}, which is no part of a run, so it will not be overwritten;"
            " move that elsewhere, or choose another path"
        )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of what is at `path`; after an error no file `lock` is there that was not there before."""
    file = path / writer_lock.FILE_NAME
    was_there = file.exists()
    lock: WriterLock | None = None
    try:
        lock = WriterLock(path)
        yield
    except RunLockedError:  # the file is somebody's
        raise
    except BaseException:
        if not was_there:
            with contextlib.suppress(OSError):
                file.unlink()
        raise
    finally:
        if lock is not None:
            lock.release()


@contextlib.contextmanager
def _followed(path: Path) -> Iterator[None]:
    """Keep `path` the current folder if it is: with a folder that is replaced, every relative path would go."""
    is_current = False
    with contextlib.suppress(OSError):  # nothing is at `path`, or the current folder is gone
        is_current = path.samefile(os.curdir)
    yield
    if is_current:
        os.chdir(path)


def _is_left(folder: Path) -> bool:
    return not WriterLock.is_held(folder)


@contextlib.contextmanager
def rank_hint() -> Iterator[None]:
    """Say, if somebody else has the run and this process is one of several that a launcher started, which should."""
    try:
        yield
    except BusyError as error:
        if (rank := _rank()) is None:
            raise
        remedy = "so let only rank 0 record, or give each rank a path of its own"
        raise type(error)(f"{error}; {rank}, {remedy}") from error


_RANKS = (
    ("RANK", "WORLD_SIZE"),  # torchrun
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)


def _rank() -> str | None:
    for rank, size in _RANKS:
        if (n := os.environ.get(size, "")).isdecimal() and int(n) > 1 and rank in os.environ:
            return f"this is rank {os.environ[rank]} of {n}"
    return None
