"""The log of commits of a memmap run: one journal header for each step, with the CRC-32C of each row.

A step is recorded once its header is there. docs/format.md, "Memmap runs", has the layout.
"""

import bisect
import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ... import files
from ...checksum import crc32c
from ...errors import DamageError
from ...journal import record
from ...journal.record import Gap, Record
from ...spec import RunSpec
from ..recovery import Recovery
from .row_file import RowFile

COMMITS = "commits"


class CommitLog:
    """The log of commits, read as far as its headers are sound. `scan` again to follow a live run."""

    def __init__(self, path: Path, spec: RunSpec, sealed_until: int) -> None:
        self.path = path
        self._spec = spec
        self._sealed_until = sealed_until
        self._expected = spec.next_due(0)
        self.crcs: dict[str, array[int]] = {name: array("I") for name in spec.series}
        """For each series, the CRC-32C of each row; 0 for those of lost steps."""
        self.lost_steps: list[int] = []
        """Steps whose header is damaged, while a later one is sound; increasing."""
        self.synced_step = -1
        self.end = 0  # where the last sound header ends
        self.gaps: list[Gap] = []
        self._last_step = -1
        self._starts: list[tuple[int, int]] = []  # (step, where its header starts) of steps that were not synced

    @property
    def stop_step(self) -> int:
        """The step after the last one with a sound header."""
        return self._last_step + 1

    @property
    def recorded_until(self) -> int:
        """Every due step before this one was committed; or it was promised, and is lost now."""
        flawed = [*self.lost_steps, *(gap.step for gap in self.gaps)]
        torn = min((step for step in flawed if step >= self._promised_until), default=self.stop_step)
        return max(torn, self._promised_until)

    @property
    def _promised_until(self) -> int:
        """Every due step before this one was synced, or is counted by the manifest."""
        return max(self.synced_step + 1, self._sealed_until)

    def check_room(self, rows: RowFile) -> None:
        """Raise DamageError if more steps were committed than the file has rows."""
        if max(self.stop_step, self.recorded_until) > rows.steps:
            raise DamageError(
                f"{rows.path}: has room for {rows.steps} steps while {self.recorded_until} are recorded;"
                " restore it from a copy"
            )

    def is_lost(self, step: int) -> bool:
        """Whether the header of a recorded step is damaged or gone."""
        at = bisect.bisect_left(self.lost_steps, step)
        return step >= self.stop_step or (at < len(self.lost_steps) and self.lost_steps[at] == step)

    def steps_from(self, step: int) -> Iterator[int]:
        """The steps with a sound header from `step` on."""
        at = self._spec.next_due(step)
        while at is not None and at < self.stop_step:
            if not self.is_lost(at):
                yield at
            at = self._spec.next_due(at + 1)

    def scan(self) -> None:
        """Read the headers after the last sound one. Stops, without a complaint, if none follows."""
        try:
            with files.plain_file(self.path) as file:
                # No further than it reaches now: a header that comes while the bytes before it were already looked at
                # would seem to follow a gap.
                n_bytes = os.fstat(file.fileno()).st_size
                self._scan(
                    lambda offset, size: files.read_at(file.fileno(), max(0, min(size, n_bytes - offset)), offset)
                )
        except FileNotFoundError as error:
            raise DamageError(f"{self.path}: cannot be read: {error.strerror}") from error

    def _scan(self, read: record.Reader) -> None:
        n_at_once = n_alone = _FEWEST_AT_ONCE
        one_by_one = _buffered(read)
        while True:
            if n_alone >= _FEWEST_AT_ONCE:  # or looking for many would cost more than it saves: syncs may come often
                n_taken = self._take_consecutive(read, n_at_once)
                n_at_once = min(2 * n_at_once, _MOST_AT_ONCE) if n_taken == n_at_once else _FEWEST_AT_ONCE
                if n_taken:
                    continue
                n_alone = 0
            found = record.find_head(self._spec, one_by_one, self.end, self._can_follow)
            if found is None:
                return
            self._take(*found)
            n_alone += 1

    def _take_consecutive(self, read: record.Reader, n: int) -> int:
        """Take up to `n` sound headers of frames that follow each other here, and return how many there are."""
        if self._expected is None:
            return 0
        assert self._spec.steps is not None
        first, head_bytes = self._expected, record.largest_head_bytes(self._spec)
        n = min(n, self._spec.steps - first)
        heads = record.consecutive_heads(self._spec, read(self.end, n * head_bytes), first)
        if len(heads) == 0:
            return 0
        for crcs, column in zip(self.crcs.values(), heads["crcs"].T, strict=True):
            crcs.extend(column.tolist())
        self._starts += [(first + i, self.end + i * head_bytes) for i in range(len(heads))]
        self._last_step = first + len(heads) - 1
        self._expected = self._spec.next_due(self._last_step + 1)
        self._synced(int(heads["synced_step"].max()))
        self.end += len(heads) * head_bytes
        return len(heads)

    def _take(self, offset: int, head: Record) -> None:
        if offset > self.end:
            self.gaps.append(Gap.before(head, self.end, offset))
        if head.kind == record.FRAME:
            self._commit(head)
        self._synced(head.synced_step)
        self.end = offset + head.head_bytes

    def _synced(self, step: int) -> None:
        if step > self.synced_step:
            self.synced_step = step
            self._starts = [(at, start) for at, start in self._starts if at > step]

    def _can_follow(self, head: Record, offset: int) -> bool:
        """Whether a header can be the next one: those that are lost between must have had room for their bytes."""
        assert self._spec.steps is not None
        if head.kind == record.SYNC:
            return head.step < self._spec.steps
        if self._expected is None or not self._expected <= head.step < self._spec.steps:
            return False
        n_lost = max(s.rows_before(head.step) - s.rows_before(self._expected) for s in self._spec.series.values())
        return n_lost * record.SMALLEST_BYTES <= offset - self.end

    def _commit(self, head: Record) -> None:
        while self._expected is not None and self._expected < head.step:
            self.lost_steps.append(self._expected)
            self._starts.append((self._expected, self.end))
            for name in self._spec.due(self._expected):
                self.crcs[name].append(0)
            self._expected = self._spec.next_due(self._expected + 1)
        for name, (_, crc) in head.rows.items():
            self.crcs[name].append(crc)
        self._starts.append((head.step, self.end))
        self._last_step = head.step
        self._expected = self._spec.next_due(head.step + 1)

    def damaged_steps(self) -> Iterator[range]:
        """Recorded steps whose header is damaged or gone; those at the end of the log as one range, however many."""
        yield from (range(step, step + 1) for step in self.lost_steps if step < self._promised_until)
        last = self._spec.last_due_before(self._promised_until)
        if self._expected is not None and last is not None and self._expected <= last:
            yield range(self._expected, last + 1)

    def is_sound(self, rows: RowFile, step: int) -> bool:
        """Whether every row of a committed step has its checksum."""
        return not any(self.flawed_series(rows, step))

    def flawed_series(self, rows: RowFile, step: int) -> Iterator[str]:
        """The series whose row of a committed step fails its checksum."""
        for name, series in self._spec.due(step).items():
            row = series.rows_before(step)
            if crc32c(np.ascontiguousarray(rows.rows(name)[row])) != self.crcs[name][row]:
                yield name

    def sound_until(self, rows: RowFile) -> int:
        """The step before which every row that was never synced has its checksum. Recovery cuts there."""
        step, recorded_until = self._spec.next_due(self._promised_until), self.recorded_until
        while step is not None and step < recorded_until:
            if not self.is_sound(rows, step):
                return step
            step = self._spec.next_due(step + 1)
        return recorded_until

    def cut(self, rows: RowFile) -> Recovery:
        """Cut the log behind its last sound step, once it is scanned and nobody writes it.

        Raises DamageError, and cuts nothing, where a step that was synced is damaged.
        """
        self.check_room(rows)
        for steps in self.damaged_steps():
            raise DamageError(f"{self.path}: the commit of step {steps[0]} is damaged; restore the file from a copy")
        kept_until = self.sound_until(rows)
        keep_bytes = self.end if kept_until == self.recorded_until == self.stop_step else self.end_of(kept_until)
        dropped_steps = tuple(self.steps_from(kept_until))
        with files.storage_errors("read", self.path):
            dropped_bytes = self.path.stat().st_size - keep_bytes
        if dropped_bytes:
            files.cut_file(self.path, keep_bytes)
        self.end = keep_bytes
        return Recovery(kept_until, dropped_steps, dropped_bytes)

    def end_of(self, step: int) -> int:
        """Where the headers of the steps before `step`, which was not synced, end."""
        return next((start for at, start in self._starts if at >= step), self.end)


_READ_BYTES = 1 << 16
_FEWEST_AT_ONCE, _MOST_AT_ONCE = 64, 4096


def _buffered(read: record.Reader) -> record.Reader:
    """Read the same bytes in fewer calls, because headers are small and follow each other."""
    start, data = 0, b""

    def buffered(offset: int, size: int) -> bytes:
        nonlocal start, data
        if not start <= offset <= offset + size <= start + len(data):
            start, data = offset, read(offset, max(size, _READ_BYTES))
        return data[offset - start : offset - start + size]

    return buffered
