"""Frames that are not sealed yet: the journal's segments as one sequence of steps, whose torn tail can be cut.

A journal is a folder of segments, each with the frames of one block. Records are only ever added at the end. Once the
manifest has committed a segment's block, its file is removed, or kept as the spare.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from .. import files
from ..errors import DamageError
from ..spec import RunSpec
from .segment import Segment, remove_segment, segment_path, segment_steps

_MOST_LOST_ROWS = 1 << 22


@contextlib.contextmanager
def scanned_segments(folder: Path, spec: RunSpec, block_steps: int) -> Iterator[list[Segment]]:
    """Every segment of a journal that nobody writes, scanned, and open until the block ends."""
    with contextlib.ExitStack() as stack:
        segments = [Segment(segment_path(folder, step), spec, block_steps) for step in segment_steps(folder)]
        for segment in segments:
            stack.callback(segment.close)
            segment.scan()
        yield segments


@dataclass
class Tail:
    """The frames that only the journal holds: segments in order, read as one sequence of steps."""

    synced_step: int = -1
    places: dict[int, tuple[Segment, int]] = field(default_factory=dict)
    """Step → its segment and its index there, in step order. The index of a lost step is −1."""
    torn_at: tuple[Segment, int] | None = None
    """Where recovery cuts: the first byte that is neither in a whole frame nor synced; None if there is none."""
    dropped_steps: list[int] = field(default_factory=list)
    """The steps of whole frames behind that place. They were never synced, and recovery drops them too."""

    def row(self, step: int, name: str) -> npt.NDArray[Any]:
        """One row of one step of the tail. Raises DamageError if it is lost."""
        segment, index = self.places[step]
        if index < 0:
            raise DamageError(f'{segment.path}: step {step} was synced and is damaged; run "trajectory-store check"')
        return segment.row(index, name)

    def end(self, sealed_until: int) -> int:
        """Every due step before this one is sealed or in the tail."""
        return next(reversed(self.places), sealed_until - 1) + 1

    def damaged(self) -> Iterator[tuple[int, Segment, int]]:
        """The steps that were synced and of which something is lost, each with its place."""
        for step, (segment, index) in self.places.items():
            if index < 0 or not segment.entries[index].is_sound:
                yield step, segment, index

    def raise_damage(self) -> None:
        """Raise DamageError if a step that was synced is damaged, because no recovery may cut it."""
        for step, segment, _ in self.damaged():
            raise DamageError(f"{segment.path}: step {step} was synced and is damaged; restore the file from a copy")


def read_tail(spec: RunSpec, segments: list[Segment], sealed_until: int) -> Tail:
    """What the scanned `segments`, in order, hold from step `sealed_until` on.

    Frames count up to the first flaw that no sync covers; the rest is torn off, as after a power loss. A flaw before
    the last sync is damage: its steps are lost, and the steps around them stay. A segment that begins before
    `sealed_until` was sealed as a whole and only waits for its removal, so nothing in it counts.
    """
    synced_step = max((segment.synced_step for segment in segments), default=-1)
    tail = Tail(synced_step)
    expected = spec.next_due(sealed_until)
    segments = [segment for segment in segments if segment.first_step >= sealed_until]
    for segment in segments:
        for index, entry in enumerate(segment.entries):
            if entry.step in tail.places:
                continue  # no writer of ours begins a segment before the last one's end
            follows = entry.step == expected and entry.after == entry.offset
            if tail.torn_at is None and not (follows and entry.is_sound):
                if expected is None or expected > synced_step:
                    tail.torn_at = (segment, entry.after)
                else:
                    _lose(tail, segment, spec, range(expected, entry.step))
            if tail.torn_at is not None:
                tail.dropped_steps.append(entry.step)
                continue
            tail.places[entry.step] = (segment, index)
            expected = spec.next_due(entry.step + 1)
        is_behind_sync = expected is None or expected > synced_step
        if tail.torn_at is None and segment.torn_bytes and is_behind_sync:
            tail.torn_at = (segment, segment.end)
    if tail.torn_at is None and segments and expected is not None:
        _lose(tail, segments[-1], spec, range(expected, synced_step + 1))  # the last frames that were synced are gone
    return tail


def _lose(tail: Tail, segment: Segment, spec: RunSpec, steps: range) -> None:
    """Note that the due steps among some are lost; DamageError on more than a few blocks, which no writer leaves."""
    n_rows = sum(series.rows_before(steps.stop) - series.rows_before(steps.start) for series in spec.series.values())
    if n_rows > _MOST_LOST_ROWS:
        raise DamageError(
            f"{segment.path}: the synced steps from {steps.start} to {steps.stop - 1} are gone from the journal;"
            " restore the file from a copy"
        )
    step = spec.next_due(steps.start)
    while step is not None and step < steps.stop:
        tail.places[step] = (segment, -1)
        step = spec.next_due(step + 1)


def cut_tail(segments: list[Segment], tail: Tail) -> int:
    """Cut what lies behind the last whole frame, and remove segments without frames. Returns the bytes torn off.

    What an earlier segment left in a file is cut too. Otherwise its frames could be taken for frames that are recorded
    anew with the same steps. Raises DamageError, and cuts nothing, if a step that was synced is damaged.
    """
    tail.raise_damage()
    dropped_bytes = 0
    torn_segment, torn_offset = tail.torn_at or (None, 0)
    is_behind = False
    for segment in segments:
        written_bytes = segment.end + segment.torn_bytes
        keep_bytes = 0 if is_behind else torn_offset if segment is torn_segment else written_bytes
        is_behind = is_behind or segment is torn_segment
        dropped_bytes += written_bytes - keep_bytes
        if not any(entry.step in tail.places for entry in segment.entries):
            remove_segment(segment.path.parent, segment.first_step)
        elif keep_bytes < segment.n_bytes:
            files.cut_file(segment.path, keep_bytes)
    if tail.torn_at is not None:
        folder = segments[0].path.parent
        with files.storage_errors("sync", folder):
            files.disk.sync_folder(folder)  # without it: segments that were dropped may come back
    return dropped_bytes
