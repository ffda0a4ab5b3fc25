"""The files of a run of the zarr backend."""

from collections.abc import Iterator
from pathlib import Path

from ... import atomic, files
from ...blocks.layout import BlockPlace
from ...journal import spare
from ...journal.segment import JOURNAL_FOLDER, segment_path, segment_steps
from ..manifest import Manifest
from ..run_files import common_files
from .metadata import metadata_paths


def run_files(folder: Path, manifest: Manifest) -> set[Path]:
    """Every file that a run has, or has once a seal that was begun is done; of its blocks only those that are there."""
    written = common_files(folder) | {folder / relative for relative in metadata_paths(manifest)}
    written |= {array.chunk_path(folder, name) for name, array in manifest.static.items()}
    journal = folder / JOURNAL_FOLDER
    written |= {segment_path(journal, step) for step in segment_steps(journal)} | {journal / spare.NAME}
    until = next_seal_until(manifest)
    for name, series in manifest.spec.series.items():
        layout = manifest.layout(name)
        n_blocks = -(-series.rows_before(until) // layout.block_rows)
        written |= {BlockPlace(folder, layout, block).path for block in _blocks_there(folder / name / "c", n_blocks)}
    return written


def next_seal_until(manifest: Manifest) -> int:
    """How far the next seal may seal; the journal does not tell, the power may have taken what was sealed."""
    stop = (manifest.sealed_until // manifest.block_steps + 1) * manifest.block_steps
    if manifest.spec.steps is not None:
        stop = min(stop, manifest.spec.steps)
    last = manifest.spec.last_due_before(stop)
    return manifest.sealed_until if last is None else max(manifest.sealed_until, last + 1)


def _blocks_there(folder: Path, n_blocks: int) -> Iterator[int]:
    """The numbers below `n_blocks` by which something in a series' folder is called, finished or not."""
    for path in files.listed(folder):
        name = (atomic.partial_of(path) or path).name
        if name.isascii() and name.isdigit() and len(name) < 16 and int(name) < n_blocks:
            yield int(name)
