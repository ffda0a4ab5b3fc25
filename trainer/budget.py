"""What a run will need, worked out before step 0, and whether there is room for it.

Law: only an estimate that would surely not fit refuses a run; every figure says what it counts.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import trajectory_store as ts
from trajectory_store.blocks.layout import block_steps_for
from trajectory_store.errors import StorageError, UsageError
from trajectory_store.sizes import format_bytes

from .config import Config

# Raw bytes over stored ones, below what recordings of 100 and of 1,200 steps with 3,705 dead tokens gave: for the steps
# in which everything still moves, and for those after, when weights freeze and gradients do not.
_MOVING_STEPS = 256
_RATIOS = {"W": (5.5, 40.0), "m": (4.5, 8.0), "v": (5.5, 15.0), "g": (2.5, 2.5)}
_TRAINING_BYTES_PER_LOGIT = 16  # peak over a step, measured at 13 on the CPU with batches of 8 and 32
_JOURNAL_BLOCKS = 2  # one being filled and one being encoded
_BLOCKS_IN_MEMORY = 3  # one being filled, one being encoded, its chunks
_BASE_BYTES = 400_000_000  # Python, torch and the tokenizer


@dataclass(frozen=True)
class Budget:
    """Bytes that a run needs and bytes that there are.

    Parameters
    ----------
    frame_bytes : int
        One step, raw.
    raw_bytes : int
        All steps, raw.
    disk_bytes : int
        All steps as they are stored, estimated.
    journal_bytes : int
        Steps that are raw until their block is encoded.
    checkpoint_bytes, checkpoint_count : int
        One checkpoint, and how many there are at once.
    export_bytes : int
        The exported file; 0 without one.
    memory_bytes : int
        Of the process at its peak, estimated.
    free_disk_bytes : int
        Free where the run is.
    free_memory_bytes : int or None
        Available; None if the system does not say.
    """

    frame_bytes: int
    raw_bytes: int
    disk_bytes: int
    journal_bytes: int
    checkpoint_bytes: int
    checkpoint_count: int
    export_bytes: int
    memory_bytes: int
    free_disk_bytes: int
    free_memory_bytes: int | None

    def lines(self) -> list[str]:
        """Give the budget as it is printed.

        Returns
        -------
        list of str
            A line a figure.
        """
        memory = (
            f"{format_bytes(self.free_memory_bytes)} available" if self.free_memory_bytes is not None else "not known"
        )
        ratio = f" (1/{self.raw_bytes / self.disk_bytes:.0f} of it)" if self.raw_bytes > self.disk_bytes > 0 else ""
        return [
            "This run needs:",
            f"  a step      {format_bytes(self.frame_bytes)}",
            f"  all, raw    {format_bytes(self.raw_bytes)}",
            f"  on disk     about {format_bytes(self.disk_bytes)}{ratio}",
            *([f"  journal     {format_bytes(self.journal_bytes)} while recording"] if self.journal_bytes else []),
            f"  checkpoints {self.checkpoint_count} × {format_bytes(self.checkpoint_bytes)}",
            *([f"  export      {format_bytes(self.export_bytes)}"] if self.export_bytes else []),
            f"  free disk   {format_bytes(self.free_disk_bytes)}",
            f"  memory      about {format_bytes(self.memory_bytes)} ({memory})",
        ]

    def require_room(self, folder: Path) -> None:
        """Raise if disk or memory cannot hold the run.

        Parameters
        ----------
        folder : Path
            The run's folder, for the message.

        Raises
        ------
        StorageError
            The disk is too small.
        UsageError
            The memory is too small.
        """
        disk = self.disk_bytes + self.journal_bytes + self.checkpoint_count * self.checkpoint_bytes + self.export_bytes
        if disk > self.free_disk_bytes:
            raise StorageError(
                f"{folder}: the run needs about {format_bytes(disk)} on disk and {format_bytes(self.free_disk_bytes)}"
                " are free; make room, choose another place, or take fewer steps"
            )
        if self.free_memory_bytes is not None and self.memory_bytes > self.free_memory_bytes:
            raise UsageError(
                f"the run needs about {format_bytes(self.memory_bytes)} of memory and"
                f" {format_bytes(self.free_memory_bytes)} are available; use a smaller batch_size"
            )


def estimate(
    config: Config,
    series: Mapping[str, ts.Series],
    folder: Path,
    *,
    backend: str,
    device: str,
    checkpoint_bytes: int,
    with_export: bool,
) -> Budget:
    """Work out what a run in `folder` will need.

    Parameters
    ----------
    config : Config
        What is trained.
    series : Mapping of str to Series
        What is recorded; empty for a run that records nothing.
    folder : Path
        Where the run is, or will be: its disk is asked for room.
    backend : str
        "zarr" or "memmap".
    device : str
        "cpu", "cuda" or "mps".
    checkpoint_bytes : int
        What one checkpoint takes.
    with_export : bool
        Whether the run is also exported, which takes its raw bytes once more.

    Returns
    -------
    Budget
        Bytes needed and bytes there are.
    """
    frames = config.total_steps + 1
    rows = {name: s.row_bytes for name, s in series.items()}
    raw_bytes = sum(s.row_bytes * s.rows_before(frames) for s in series.values())
    disk_bytes = raw_bytes if backend == "memmap" else sum(_stored(name, size, frames) for name, size in rows.items())
    frame_bytes = sum(rows.values())
    logits = config.batch_size * config.seq_len * config.vocab_size
    block_bytes = block_steps_for(list(series.values())) * frame_bytes
    memory_bytes = _BASE_BYTES + _BLOCKS_IN_MEMORY * block_bytes
    if device != "cuda":  # there the step's own memory is the device's
        memory_bytes += _TRAINING_BYTES_PER_LOGIT * logits
    return Budget(
        frame_bytes=frame_bytes,
        raw_bytes=raw_bytes,
        disk_bytes=disk_bytes,
        journal_bytes=0 if backend == "memmap" else min(raw_bytes, _JOURNAL_BLOCKS * block_bytes),
        checkpoint_bytes=checkpoint_bytes,
        checkpoint_count=len(config.checkpoint_steps) + bool(config.checkpoint_every),
        export_bytes=raw_bytes if with_export else 0,
        memory_bytes=memory_bytes,
        free_disk_bytes=_free_disk(folder),
        free_memory_bytes=_free_memory(),
    )


def _stored(name: str, row_bytes: int, frames: int) -> int:
    if name not in _RATIOS:
        return row_bytes * frames
    moving, still = _RATIOS[name]
    first = min(frames, _MOVING_STEPS)
    return int(row_bytes * (first / moving + (frames - first) / still))


def _free_disk(folder: Path) -> int:
    """Free bytes where `folder` is or will be."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _free_memory() -> int | None:
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
