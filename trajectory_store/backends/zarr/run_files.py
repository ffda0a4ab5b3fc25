"""The files of a run of the zarr backend."""

from collections.abc import Iterator
from pathlib import Path

from ...blocks.layout import BlockPlace
from ...journal import spare
from ...journal.segment import JOURNAL_FOLDER, segment_path, segment_steps
from ..manifest import Manifest
from ..run_files import common_files
from .metadata import zarr_metadata


def run_files(folder: Path, manifest: Manifest) -> set[Path]:
    """Every file that a run has, or has once a seal that was begun is done."""
    written = common_files(folder) | {folder / relative for relative in zarr_metadata(manifest)}
    written |= {array.chunk_path(folder, name) for name, array in manifest.static.items()}
    journal = folder / JOURNAL_FOLDER
    written |= {segment_path(journal, step) for step in segment_steps(journal)} | {journal / spare.NAME}
    most = max([manifest.sealed_until, *next_seals(manifest)])
    for name, series in manifest.spec.series.items():
        layout = manifest.layout(name)
        n_blocks = -(-series.rows_before(most) // layout.block_rows)
        written |= {BlockPlace(folder, layout, block).path for block in range(n_blocks)}
    return written


def next_seals(manifest: Manifest) -> Iterator[int]:
    """Up to where the next seal may seal; the journal does not tell, the power may have taken what was sealed."""
    stop = (manifest.sealed_until // manifest.block_steps + 1) * manifest.block_steps
    step = manifest.spec.next_due(manifest.sealed_until)
    while step is not None and step < stop:
        yield step + 1
        step = manifest.spec.next_due(step + 1)
