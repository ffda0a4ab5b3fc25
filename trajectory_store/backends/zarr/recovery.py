"""What a journal that nobody writes still holds, once its torn tail is cut."""

from dataclasses import dataclass
from pathlib import Path

from ...journal.record import FrameEntry
from ...journal.segment import JOURNAL_FOLDER
from ...journal.tail import cut_tail, read_tail, scanned_segments
from ..manifest import Manifest
from ..recovery import Recovery


@dataclass(frozen=True)
class RecoveredJournal:
    """What was kept of a journal: every frame behind the sealed ones, in order."""

    recovery: Recovery
    segments: tuple[list[FrameEntry], ...]
    """The frames of each segment that has any."""
    synced_step: int
    """The last step that a sync covers, −1 if there is none."""


def recover_journal(run_folder: Path, manifest: Manifest) -> RecoveredJournal:
    """Cut what a crash left behind the last whole frame of a run that nobody writes.

    Raises DamageError, and cuts nothing, if a step that was synced is damaged.
    """
    with scanned_segments(run_folder / JOURNAL_FOLDER, manifest.spec, manifest.block_steps) as segments:
        tail = read_tail(manifest.spec, segments, manifest.sealed_until)
        dropped_bytes = cut_tail(segments, tail)
        kept = [[entry for entry in segment.entries if entry.step in tail.places] for segment in segments]
        synced_step = max((segment.synced_step for segment in segments), default=-1)
    recovery = Recovery(tail.end(manifest.sealed_until), tuple(tail.dropped_steps), dropped_bytes)
    return RecoveredJournal(recovery, tuple(entries for entries in kept if entries), synced_step)
