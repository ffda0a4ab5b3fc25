"""Walks one run and yields what is wrong with it; cuts a torn tail if asked to.

Every stored byte is under a checksum. The manifest has its own, and those of blocks and static arrays. The journal, or
the log of commits, has those of frames. Zarr's metadata follows from the manifest byte for byte.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import atomic, place
from .backends import manifest as manifests
from .backends.claim import rank_hint
from .backends.finding import Finding
from .backends.recovery import Recovery
from .backends.run_files import other_files
from .backends.table import BACKENDS, run_files
from .backends.writer_lock import WriterLock
from .errors import DamageError
from .files import folder_bytes
from .folders import remove_filling
from .progress import Meter, Progress


def check(path: str | os.PathLike[str], *, progress: Progress | None = None) -> Iterator[Finding]:
    """Read every byte of a run, and yield what is wrong with it.

    Parameters
    ----------
    path : str or PathLike
        The run's folder.
    progress : callable, optional
        Called with the bytes read and the bytes there are, first with 0 read.

    Yields
    ------
    Finding
        One thing that is wrong; nothing if the run is sound.

    Raises
    ------
    RunNotFoundError
        There is no run.
    FormatVersionError
        A newer version of this package wrote it.

    Notes
    -----
    Memory is bounded by a block. A run may be checked while another process writes it: what that one has not finished
    is no finding.

    Examples
    --------
    >>> with ts.create("mine", {"loss": ts.Series((), "float32")}) as sink:
    ...     sink.append(0, loss=2.0)
    >>> list(ts.check("mine"))
    []
    """
    where = place.local(path)
    meter = Meter(folder_bytes(where), progress)
    is_live = WriterLock.is_held(where)
    try:
        manifest = manifests.load(where)
    except DamageError as error:
        yield Finding("manifest", where / manifests.FILE_NAME, str(error))
        return
    of_backend = BACKENDS[manifest.backend].check(where, manifest, meter, is_live=is_live)
    yield from of_backend.findings()
    written = run_files(where)
    unfinished = atomic.unfinished(written)
    others = other_files(where, written)
    if is_live and others:  # files that came meanwhile are known by now
        written |= run_files(where)
        others = [path for path in others if path not in written and atomic.partial_of(path) not in written]
        others = [path for path in others if path.exists()]
    for path in others:
        if path in unfinished:
            yield Finding("torn", path, "a write that did not finish")
        else:
            yield Finding("unknown", path, "no part of a run; move it elsewhere")
    meter.finish()


@dataclass(frozen=True)
class Repair:
    """What a repair did.

    Attributes
    ----------
    recovery : Recovery
        Which steps were kept and dropped.
    removed : tuple of Path
        Files of writes that had not finished.
    findings : tuple of Finding
        What `check` finds after it.
    """

    recovery: Recovery
    removed: tuple[Path, ...]
    findings: tuple[Finding, ...]


def repair(path: str | os.PathLike[str]) -> Repair:
    """Cut the torn tail of a run that nobody writes, and nothing else; then check the run again.

    Parameters
    ----------
    path : str or PathLike
        The run's folder.

    Returns
    -------
    Repair
        What was cut and removed, and what is still wrong.

    Raises
    ------
    RunNotFoundError
        There is no run.
    RunLockedError
        Another process writes it.
    DamageError
        A step that was synced is damaged. Nothing is cut, because what is damaged may still be restored.
    """
    where = place.local(path)
    manifests.load(where)  # or a file `lock` would be made where there is no run
    with rank_hint(), _locked(where):
        remove_filling(where)
        manifest = manifests.load(where)
        recovery = BACKENDS[manifest.backend].recover(where, manifest)
        removed = tuple(atomic.remove_unfinished(run_files(where)))
    return Repair(recovery, removed, tuple(check(where)))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = WriterLock(folder)
    try:
        yield
    finally:
        lock.release()
