"""Walks a run of the memmap backend and yields what is wrong with it, a row at a time."""

from collections.abc import Iterator
from pathlib import Path

from ...errors import DamageError
from ...progress import Meter
from ..finding import Finding, StepRanges
from ..manifest import Manifest
from .commit_log import COMMITS, CommitLog
from .row_file import FRAMES, RowFile


class MemmapCheck:
    """One check. With `is_live` another process writes the run; what it has not finished is no finding.

    Rows of steps that are not recorded are no data, so nothing is said about them.
    """

    def __init__(self, path: Path, manifest: Manifest, meter: Meter, *, is_live: bool) -> None:
        self._path = path
        self._spec = manifest.spec
        self._manifest = manifest
        self._meter = meter
        self._is_live = is_live

    def findings(self) -> Iterator[Finding]:
        """Everything that is wrong, in the order in which a reader would need it."""
        log = CommitLog(self._path / COMMITS, self._spec, self._manifest.sealed_until)
        try:
            log.scan()
        except DamageError as error:
            yield Finding("commits", log.path, str(error))
            return
        try:
            rows = RowFile(self._path / FRAMES, self._spec, self._manifest.static)
            log.check_room(rows)
        except DamageError as error:
            yield Finding("metadata", self._path / FRAMES, str(error))
            return
        for name in self._manifest.static:
            try:
                self._meter.add(rows.static(name).nbytes)
            except DamageError as error:
                yield Finding("static", rows.path, str(error), name)
        yield from self._commits(log)
        yield from self._rows(log, rows)

    def _commits(self, log: CommitLog) -> Iterator[Finding]:
        self._meter.add(log.end)
        ranges = StepRanges()
        for damaged in log.damaged_steps():
            for _, steps in ranges.add(None, damaged):
                yield _lost_commits(log, steps)
        for _, steps in ranges.rest():
            yield _lost_commits(log, steps)
        for gap in log.gaps:
            if gap.step <= log.synced_step:
                yield Finding("commits", log.path, str(gap))
        n_bytes = log.path.stat().st_size
        if log.recorded_until < log.stop_step:
            dropped = range(log.recorded_until, log.stop_step)
            message = "bytes before the first of these commits are lost, none was synced"
            yield Finding("torn", log.path, message, steps=dropped)
        elif log.end < n_bytes and not self._is_live:
            yield Finding("torn", log.path, f"torn at byte {log.end:,} of {n_bytes:,}")

    def _rows(self, log: CommitLog, rows: RowFile) -> Iterator[Finding]:
        ranges = StepRanges()
        torn_from = log.sound_until(rows)
        step = self._spec.next_due(0)
        while step is not None and step < min(torn_from, log.stop_step):  # what is behind has no commit
            if not log.is_lost(step):
                for name in log.flawed_series(rows, step):
                    for series, steps in ranges.add(name, range(step, step + 1)):
                        yield _damaged_rows(rows, series, steps)
            self._meter.add(sum(series.row_bytes for series in self._spec.due(step).values()))
            step = self._spec.next_due(step + 1)
        for series, steps in ranges.rest():
            yield _damaged_rows(rows, series, steps)
        if torn_from < log.recorded_until:
            message = "the first of these steps fails its checksum, none was synced"
            yield Finding("torn", rows.path, message, steps=range(torn_from, log.recorded_until))


def _lost_commits(log: CommitLog, steps: range) -> Finding:
    return Finding("commits", log.path, "the commit is damaged or gone; restore the file from a copy", steps=steps)


def _damaged_rows(rows: RowFile, series: str, steps: range) -> Finding:
    return Finding("row", rows.path, "fails its checksum; restore the file from a copy", series, steps)
