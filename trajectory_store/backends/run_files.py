"""Which files are a run's. Every other file in its folder is somebody else's, and is neither removed nor replaced."""

from collections.abc import Iterator
from pathlib import Path

from .. import files
from ..folders import filling
from ..journal import spare
from ..journal.segment import JOURNAL_FOLDER, segment_path, segment_steps
from . import manifest as manifests
from . import writer_lock
from .manifest import Manifest
from .memmap.commit_log import COMMITS
from .memmap.row_file import FRAMES
from .zarr.metadata import zarr_metadata


def run_files(folder: Path, manifest: Manifest) -> set[Path]:
    """Every file that a run has, or has once a seal that was begun is done."""
    of_both = {folder / manifests.FILE_NAME, folder / writer_lock.FILE_NAME, *filling(folder)}
    if manifest.backend == "memmap":
        return of_both | {folder / FRAMES, folder / COMMITS}
    return of_both | _zarr_files(folder, manifest)


def other_files(folder: Path, written: set[Path]) -> list[Path]:
    """The files in a folder, and below it, that are not among `written`."""
    return sorted(path for path in files.files_below(folder) if path not in written)


def next_seals(manifest: Manifest) -> Iterator[int]:
    """Up to where the next seal may seal; the journal does not tell, the power may have taken what was sealed."""
    stop = (manifest.sealed_until // manifest.block_steps + 1) * manifest.block_steps
    step = manifest.spec.next_due(manifest.sealed_until)
    while step is not None and step < stop:
        yield step + 1
        step = manifest.spec.next_due(step + 1)


def _zarr_files(folder: Path, manifest: Manifest) -> set[Path]:
    written = {folder / relative for relative in zarr_metadata(manifest)}
    written |= {array.chunk_path(folder, name) for name, array in manifest.static.items()}
    journal = folder / JOURNAL_FOLDER
    written |= {segment_path(journal, step) for step in segment_steps(journal)} | {journal / spare.NAME}
    most = max([manifest.sealed_until, *next_seals(manifest)])
    for name, series in manifest.spec.series.items():
        layout = manifest.layout(name)
        n_blocks = -(-series.rows_before(most) // layout.block_rows)
        written |= {layout.block_path(folder, block) for block in range(n_blocks)}
    return written
