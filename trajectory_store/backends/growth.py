"""What a run grows to: its manifest and its paths, known before the first step, so that what is begun can also end.

A limit that is met only when a block is sealed would leave frames that can neither be sealed nor closed.
"""

import bisect
import os
from pathlib import Path

from ..blocks.layout import BlockPlace, Layout
from ..errors import UsageError
from ..series_spec import MAX_STEPS
from .manifest import MAX_BYTES, MAX_DECLARED_BYTES, Manifest

_MAX_FILE_BYTES = 1 << 60
_MAX_PATH_BYTES = 4095
_PARTIAL_BYTES = len("..01234567.partial")


def check_growth(run_folder: Path, manifest: Manifest) -> None:
    """Refuse a new run that could not be sealed to its end.

    Parameters
    ----------
    run_folder : Path
        Where the run will be.
    manifest : Manifest
        Of the run before its first step, its static arrays included.

    Raises
    ------
    UsageError
        Its manifest, or the path of one of its files, would grow above the limit.
    """
    steps, declared_bytes = manifest.spec.steps, _declared_bytes(manifest)
    if declared_bytes > MAX_DECLARED_BYTES:
        raise UsageError(
            f"{run_folder}: what is declared makes a manifest of {declared_bytes:,} bytes, above the limit of"
            f" {MAX_DECLARED_BYTES:,} bytes; give fewer attrs, or declare steps as a range"
        )
    if steps is not None and room_until(manifest) <= steps:
        raise UsageError(
            f"{run_folder}: the blocks of {steps:,} steps would make its manifest larger than the limit of"
            f" {MAX_BYTES:,} bytes; take a larger block_steps, or declare no more steps than there will be"
        )
    if manifest.has_blocks:
        for name in manifest.spec.series:
            _check_path(run_folder, manifest.layout(name), MAX_STEPS if steps is None else steps)
    else:
        _check_rows(run_folder, manifest)


def room_until(manifest: Manifest) -> int:
    """Give the step before which every step can be sealed: the manifest has room for the blocks until there."""
    declared_bytes, steps = _declared_bytes(manifest), manifest.spec.steps
    most = MAX_STEPS if steps is None else steps
    if declared_bytes + _block_bytes(manifest, most) <= MAX_BYTES:
        return most + 1
    left_bytes = MAX_BYTES - declared_bytes
    return bisect.bisect_right(range(most), left_bytes, key=lambda until: _block_bytes(manifest, until)) - 1


def _declared_bytes(manifest: Manifest) -> int:
    """The most bytes of the manifest's file without its blocks."""
    return manifest.with_sealed(MAX_STEPS, dict.fromkeys(manifest.spec.series, ())).file_bytes


def _block_bytes(manifest: Manifest, until: int) -> int:
    """The most bytes that the blocks of the steps before `until` take in the manifest's file."""
    if manifest.backend != "zarr":
        return 0
    n_bytes = 0
    for name, series in manifest.spec.series.items():
        layout = manifest.layout(name)
        n_blocks = -(-series.rows_before(until) // layout.block_rows)
        n_bytes += n_blocks * len(f'[{layout.most_block_bytes},"00000000","00000000"],')
    return n_bytes


def _check_rows(run_folder: Path, manifest: Manifest) -> None:
    """Raise UsageError if one file cannot hold every row of a memmap run."""
    assert manifest.spec.steps is not None
    n_bytes = sum(
        series.rows_before(manifest.spec.steps) * series.row_bytes for series in manifest.spec.series.values()
    )
    if n_bytes > _MAX_FILE_BYTES:
        raise UsageError(
            f"{run_folder}: {manifest.spec.steps:,} steps take {n_bytes:,} bytes, more than one file can have;"
            " backend 'zarr' keeps only the steps that come"
        )


def _check_path(run_folder: Path, layout: Layout, steps: int) -> None:
    """Raise UsageError if a block's file, while it is written, has a longer path than the system takes."""
    last = BlockPlace(run_folder.absolute(), layout, layout.series.rows_before(steps) // layout.block_rows).path
    n_bytes = len(os.fsencode(last)) + _PARTIAL_BYTES
    if n_bytes > _MAX_PATH_BYTES:
        raise UsageError(
            f"{run_folder}: the files of series {layout.name!r} would have paths of {n_bytes:,} bytes, above the"
            f" limit of {_MAX_PATH_BYTES:,}; choose a place with a shorter path"
        )
