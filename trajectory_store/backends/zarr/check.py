"""Walks a run of the zarr backend and yields what is wrong with it. Every file is read once, block by block."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ... import files
from ...blocks.block import Block
from ...blocks.layout import BlockPlace, Layout
from ...blocks.loaded_block import LoadedBlock
from ...errors import DamageError
from ...journal.segment import JOURNAL_FOLDER, Segment
from ...journal.tail import Tail, read_tail, scanned_segments
from ...progress import Meter
from .. import manifest as manifests
from ..finding import Finding, StepRanges
from ..manifest import Manifest
from .metadata import sealed_until_of, zarr_metadata
from .run_files import next_seal_until

_ATTEMPTS = 20


class ZarrCheck:
    """One check. With `is_live` another process writes the run; what it has not finished is no finding."""

    def __init__(self, path: Path, manifest: Manifest, meter: Meter, *, is_live: bool) -> None:
        self._path = path
        self._manifest = manifest
        self._meter = meter
        self._is_live = is_live

    def findings(self) -> Iterator[Finding]:
        """Everything that is wrong, in the order in which a reader would need it."""
        yield from self._metadata()
        yield from self._static()
        for name in self._manifest.spec.series:
            yield from self._blocks(name)
        yield from self._journal()

    # Metadata follows from the manifest; a seal writes it just before.

    def _metadata(self) -> Iterator[Finding]:
        for relative, expected in zarr_metadata(self._manifest).items():
            message = self._metadata_flaw(relative, self._manifest, expected)
            for _ in range(_ATTEMPTS if message is not None and self._is_live else 0):  # sealed meanwhile
                manifest = manifests.load(self._path)
                message = self._metadata_flaw(relative, manifest, zarr_metadata(manifest)[relative])
                if message is None:
                    break
            if message is not None:
                yield Finding("metadata", self._path / relative, message)

    def _metadata_flaw(self, relative: str, manifest: Manifest, expected: bytes) -> str | None:
        most = max(2 * len(expected), 1 << 16)
        try:
            with files.plain_file(self._path / relative) as file:
                found = file.read(most)
        except FileNotFoundError as error:
            return f"cannot be read: {error.strerror}; the next writer writes it again"
        self._meter.add(len(found))
        if found == expected:
            return None
        sealed_until = sealed_until_of(found, relative, manifest)
        if manifest.sealed_until < sealed_until <= next_seal_until(manifest):
            ahead = replace(manifest, sealed_until=sealed_until)
            if found == zarr_metadata(ahead)[relative] and self._has_blocks(manifest, ahead):
                return None
        return "is not what follows from the manifest; the next writer writes it again"

    def _has_blocks(self, manifest: Manifest, ahead: Manifest) -> bool:
        """Whether a seal that would end as `ahead` has written its blocks, as it does before the metadata."""
        are_new = []
        for name in manifest.spec.series:
            layout, n_rows = manifest.layout(name), ahead.sealed_rows(name)
            if n_rows == manifest.sealed_rows(name):
                continue
            block = (n_rows - 1) // layout.block_rows
            try:
                found = LoadedBlock(BlockPlace(self._path, layout, block)).committed
            except DamageError:
                return False
            are_new.append(found not in manifest.blocks[name][block:])
        return any(are_new)  # not all: rows that repeat the last one leave a block as it was

    # Static arrays.

    def _static(self) -> Iterator[Finding]:
        for name, array in self._manifest.static.items():
            path = array.chunk_path(self._path, name)
            try:
                array.read(self._path, name)
                self._meter.add(path.stat().st_size)
            except DamageError as error:
                yield Finding("static", path, _without_path(str(error), path), name)

    # Blocks.

    def _blocks(self, name: str) -> Iterator[Finding]:
        layout = self._manifest.layout(name)
        for block, committed in enumerate(self._manifest.blocks[name]):
            place = BlockPlace(self._path, layout, block)
            findings = list(self._block(place, committed, self._manifest.sealed_rows(name)))
            for _ in range(_ATTEMPTS if findings and self._is_live else 0):  # replaced by one with more rows
                manifest = manifests.load(self._path)
                findings = list(self._block(place, manifest.blocks[name][block], manifest.sealed_rows(name)))
                if not findings:
                    break
            yield from findings

    def _block(self, place: BlockPlace, committed: Block, sealed_rows: int) -> Iterator[Finding]:
        layout, path = place.layout, place.path
        n_rows = layout.rows_in(place.block, sealed_rows)
        steps = layout.steps_in(place.block, n_rows)
        try:
            whole = LoadedBlock(place)
        except DamageError as error:
            yield Finding("block", path, _without_path(str(error), path), layout.name, steps)
            return
        self._meter.add(whole.committed.n_bytes)
        if whole.committed == committed:
            return
        flaws = list(whole.flaws())
        for flaw in flaws:
            yield Finding("block", path, flaw.message, layout.name, steps, _tokens(layout, flaw.tile))
        if not flaws and not whole.is_committed(committed, n_rows):
            message = "sound, but not the file that the manifest commits; restore both from the same copy"
            yield Finding("block", path, message, layout.name, steps)

    # The journal.

    def _journal(self) -> Iterator[Finding]:
        spec, block_steps = self._manifest.spec, self._manifest.block_steps
        findings, n_bytes = [self._no_segments()], 0
        for attempt in range(_ATTEMPTS):
            identity = manifests.identity(self._path)
            sealed_until = manifests.load(self._path).sealed_until
            try:
                with scanned_segments(self._path / JOURNAL_FOLDER, spec, block_steps) as segments:
                    tail = read_tail(spec, segments, sealed_until)
                    findings = list(self._tail(segments, tail, sealed_until))
                    n_bytes = sum(segment.n_bytes for segment in segments)
            except FileNotFoundError:
                continue  # sealed meanwhile
            except DamageError as error:
                yield Finding("journal", self._path / JOURNAL_FOLDER, str(error))
                return
            if not self._is_live or (manifests.identity(self._path) == identity and (not findings or attempt > 2)):
                break
        self._meter.add(n_bytes)
        yield from findings

    def _no_segments(self) -> Finding:
        message = "a segment in it cannot be opened, though it is listed; restore it from a copy"
        return Finding("journal", self._path / JOURNAL_FOLDER, message)

    def _tail(self, segments: list[Segment], tail: Tail, sealed_until: int) -> Iterator[Finding]:
        ranges = StepRanges()
        for step, segment, index in tail.damaged():
            names: list[str | None] = [None] if index < 0 else [*segment.flawed_series(index)]
            for name in names:
                for (path, series), steps in ranges.add((segment.path, name), range(step, step + 1)):
                    yield _damaged_frames(path, series, steps)
        for (path, series), steps in ranges.rest():
            yield _damaged_frames(path, series, steps)
        torn_segment, torn_offset = tail.torn_at or (None, 0)
        for segment in segments:
            if segment.first_step < sealed_until:
                continue  # it only waits for its removal
            for gap in segment.gaps:
                if gap.step <= tail.synced_step:
                    yield Finding("journal", segment.path, str(gap))
            if segment is torn_segment:
                break
        if torn_segment is not None and not (self._is_live and not tail.dropped_steps):
            yield _torn(torn_segment, torn_offset, tail.dropped_steps)


def _damaged_frames(path: Path, series: str | None, steps: range) -> Finding:
    return Finding("journal", path, "was synced and fails its checksum; restore the file from a copy", series, steps)


def _torn(segment: Segment, offset: int, dropped_steps: list[int]) -> Finding:
    lost = range(dropped_steps[0], dropped_steps[-1] + 1) if dropped_steps else None
    behind = "; whole frames behind it were never synced and go with it" if lost else ""
    return Finding("torn", segment.path, f"torn at byte {offset:,} of {segment.n_bytes:,}{behind}", steps=lost)


def _tokens(layout: Layout, tile: int | None) -> range | None:
    if tile is None or not layout.series.shape:
        return None
    first = tile * layout.tile_tokens
    return range(first, min(first + layout.tile_tokens, layout.series.shape[0]))


def _without_path(message: str, path: Path) -> str:
    return message.removeprefix(str(path)).lstrip(",: ")
