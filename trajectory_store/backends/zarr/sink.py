"""The writer of the default backend: frame → journal → (in the background) sealed block → manifest.

Order of durable calls: docs/design.md, "Commit protocol". A frame is in the journal when `append` returns. When a
block of steps is complete its segment is handed to the sealing thread, which writes the block's files, the arrays'
metadata, the manifest, each synced, and only then lets the segment's file go, for the next one to be written over.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from ... import files
from ...blocks.block import Block, write_block
from ...blocks.layout import Layout
from ...blocks.loaded_block import LoadedBlock
from ...blocks.static_array import STATIC_FOLDER, described
from ...errors import DamageError, SpecError, UsageError
from ...journal.mapped_segment import MappedSegment
from ...journal.record import Entry
from ...journal.segment import JOURNAL_FOLDER, Segment, segment_path
from ...journal.tail import Tail, cut_tail, read_tail, scanned_segments
from ...journal.writer import JournalWriter
from ...spec import RunSpec
from .. import manifest as manifests
from ..growth import room_until
from ..manifest import Manifest
from ..recovery import Recovery
from ..run_files import run_files
from ..sink import SinkContext, StepCursor
from ..writer_lock import WriterLock
from .metadata import zarr_metadata

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

MAX_WAITING_BLOCKS = 2
"""Complete blocks that may wait to be sealed; past that `append` waits, so that the journal stays bounded."""

_MAX_METADATA_BYTES = 1 << 28


def create(folder: Path, manifest: Manifest, static_arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Fill an empty folder with a run of no steps; the caller moves it into place."""
    encoded = {name: described(array) for name, array in static_arrays.items()}
    manifest = replace(
        manifest,
        static={name: array for name, (array, _) in encoded.items()},
        blocks=dict.fromkeys(manifest.spec.series, ()),
    )
    for name, (array, chunk) in encoded.items():
        _refuse_shared_folder(folder / STATIC_FOLDER / name)
        path = array.chunk_path(folder, name)
        files.make_folders(path.parent)
        files.put(path, chunk)
    files.make_folders(folder / JOURNAL_FOLDER)
    for name in manifest.spec.series:
        _refuse_shared_folder(folder / name)
        files.make_folders(folder / name)
    for relative, content in zarr_metadata(manifest).items():
        path = folder / relative
        files.make_folders(path.parent)
        files.put(path, content)
    manifest.store(folder)


def _refuse_shared_folder(path: Path) -> None:
    """Raise SpecError if a folder of a new run is already there: the file system takes two names for one."""
    if path.exists():
        raise SpecError(
            f"{path.name!r} names a folder that is there under another name: this file system does not tell capital"
            " letters from small ones; choose names that differ in more"
        )


class ZarrSink(SinkContext):
    """Writes one run. `append`, `flush` and `close` belong to one thread; sealing runs in `executor`'s.

    An error of the sealing thread is raised at the next `append`, `flush` or `close`, before anything else happens;
    what it could not seal stays in the journal and is tried again at the call after.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durability: str = "process",
        executor: "Executor | None" = None,
        lock: WriterLock | None = None,
    ) -> None:
        from concurrent.futures import ThreadPoolExecutor  # whoever only reads need not wait for it

        self._folder = folder
        self._sync = durability != "none"
        self._executor = executor or ThreadPoolExecutor(1, thread_name_prefix="trajectory-seal")
        self._lock = lock or WriterLock(folder)
        self._is_closed = False
        self._waited_s = 0.0
        self._sealing: Future[None] | None = None
        self._unsealed: list[list[Entry]] = []  # the frames of complete segments, oldest first
        self._segment_step: int | None = None  # first step of the segment that frames go to
        try:
            self._manifest = manifests.load(folder)
            self._room_until = room_until(self._manifest)
            self._journal = JournalWriter(folder / JOURNAL_FOLDER, sync_every_frame=durability == "power")
            self.recovery = self._recover()
        except BaseException:
            self._lock.release()
            self._executor.shutdown()
            raise

    @property
    def spec(self) -> RunSpec:
        """What is recorded."""
        return self._manifest.spec

    @property
    def next_step(self) -> int | None:
        """The step that `append` expects; None once every declared step is there."""
        return self._cursor.next_step

    @property
    def waited_s(self) -> float:
        """Seconds that appends have waited for blocks to be sealed: more than nothing where frames come too fast."""
        return self._waited_s

    def append(self, step: int, /, **values: Any) -> None:
        """Record one frame; when this returns it survives the death of the process.

        Raises UsageError's children on a frame that does not fit, StorageError where the disk refuses; in both cases
        the frame is not recorded and may be appended again.
        """
        self._check_open()
        self._cursor.check(step)
        frame = self.spec.frame(step, values)
        if step >= self._room_until:
            raise UsageError(
                f"{self._folder}: the manifest has no room for the blocks from step {step} on; what is recorded stays:"
                " close this run, and go on in a new one with fewer attrs or a larger block_steps"
            )
        self._raise_sealing_error()
        self._make_room()
        if self._segment_step is None:
            self._journal.start(step)
            self._segment_step = step
        self._journal.append(step, frame)
        self._cursor.advance()
        if self._cursor.next_step is None or self._block_of(self._cursor.next_step) != self._block_of(step):
            self._unsealed.append(self._journal.entries)
            self._segment_step = None
            self._start_sealing()

    def flush(self) -> int | None:
        """Make every appended frame survive power loss; returns the last such step, None where there is none.

        Waits for blocks that are being sealed. With durability "none" it only waits.
        """
        self._check_open()
        self._seal_all()
        if self._sync and self._segment_step is not None:
            self._journal.flush()
        return self._cursor.last_step

    def close(self) -> None:
        """Seal what the journal holds, stop the sealing thread and let another writer in.

        On an error the lock is released all the same, and the journal keeps what could not be sealed.
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._seal_all()
            if self._segment_step is not None and self._journal.entries:
                self._journal.close()
                self._seal(self._journal.entries)
            self._journal.spare.remove()
        finally:
            self._journal.close()
            self._executor.shutdown()
            self._lock.release()

    def _check_open(self) -> None:
        if self._is_closed:
            raise UsageError(f"{self._folder}: this sink is closed; ts.resume opens the run again")

    def _block_of(self, step: int) -> int:
        return step // self._manifest.block_steps

    # Sealing, from the training thread's side.

    def _make_room(self) -> None:
        self._raise_sealing_error()
        self._start_sealing()
        if len(self._unsealed) > MAX_WAITING_BLOCKS:
            before = time.perf_counter()
            while len(self._unsealed) > MAX_WAITING_BLOCKS:
                self._wait()
                self._start_sealing()
            self._waited_s += time.perf_counter() - before

    def _start_sealing(self) -> None:
        """Start sealing the oldest complete segment, unless one is being sealed or its error was not raised yet."""
        if self._sealing is None and self._unsealed:
            self._sealing = self._executor.submit(self._seal, self._unsealed[0])

    def _seal_all(self) -> None:
        self._raise_sealing_error()
        while self._unsealed:
            self._start_sealing()
            self._wait()

    def _raise_sealing_error(self) -> None:
        if self._sealing is not None and self._sealing.done():
            self._wait()

    def _wait(self) -> None:
        if self._sealing is not None:
            sealing, self._sealing = self._sealing, None
            sealing.result()
            self._unsealed.pop(0)

    # Sealing itself: in the executor's thread, or in the caller's once that one is idle.

    def _seal(self, entries: list[Entry]) -> None:
        first_step, sealed_until = entries[0].step, entries[-1].step + 1
        path = segment_path(self._folder / JOURNAL_FOLDER, first_step)
        segment = MappedSegment(path, self.spec, entries)
        old = self._manifest
        blocks = {name: self._seal_series(name, segment, sealed_until) for name in self.spec.series}
        new = old.with_sealed(sealed_until, blocks)
        # Between the blocks and the manifest: a plain Zarr reader sees whole blocks only, and recovery rewrites these.
        for relative, content in zarr_metadata(new).items():
            if content != _content(self._folder / relative):
                files.put(self._folder / relative, content, sync=self._sync)
        new.store(self._folder, sync=self._sync)  # the commit
        self._manifest = new
        self._journal.spare.keep(path)

    def _seal_series(self, name: str, segment: MappedSegment, sealed_until: int) -> tuple[Block, ...]:
        """Write the blocks that the segment's rows of one series complete or enlarge; returns all its blocks."""
        layout, series = self._manifest.layout(name), self.spec.series[name]
        old_rows, new_rows = self._manifest.sealed_rows(name), series.rows_before(sealed_until)
        blocks = list(self._manifest.blocks[name])
        if new_rows == old_rows:
            return tuple(blocks)
        row = old_rows - old_rows % layout.block_rows
        spans = segment.spans(name, self._manifest.sealed_until)
        if row < old_rows:  # the last block was incomplete: it is written again with more rows
            spans.insert(0, self._committed_rows(layout, row // layout.block_rows))
        while row < new_rows:
            block, n_rows = row // layout.block_rows, min(layout.block_rows, new_rows - row)
            head, spans = _take(spans, n_rows)
            blocks[block:] = [write_block(self._folder, layout, block, head, sync=self._sync)]
            row += n_rows
        return tuple(blocks)

    def _committed_rows(self, layout: Layout, block: int) -> npt.NDArray[Any]:
        """The rows of an incomplete block that are sealed; DamageError unless they are those that were committed."""
        n_rows = layout.rows_in(block, self._manifest.sealed_rows(layout.name))
        whole = LoadedBlock(self._folder, layout, block)
        if not whole.is_committed(self._manifest.blocks[layout.name][block], n_rows):
            raise DamageError(
                f"{layout.block_path(self._folder, block)}, {layout.describe(block, n_rows)}: not the file that the"
                ' manifest commits; run "trajectory-store check"'
            )
        return whole.rows(n_rows)

    # Recovery.

    def _recover(self) -> Recovery:
        files.make_folders(self._folder / JOURNAL_FOLDER)  # empty in a closed run: some ways of copying drop it
        folder, spec = self._folder / JOURNAL_FOLDER, self.spec
        with scanned_segments(folder, spec, self._manifest.block_steps) as segments:
            tail = read_tail(spec, segments, self._manifest.sealed_until)
            dropped_bytes = cut_tail(segments, tail)
            self._go_on(segments, tail)
        self._journal.spare.remove()  # of a writer that died
        files.remove_unfinished(run_files(self._folder, self._manifest))
        for relative, content in zarr_metadata(self._manifest).items():
            if content != _content(self._folder / relative):
                files.make_folders((self._folder / relative).parent)
                files.put(self._folder / relative, content)
        return Recovery(tail.end(self._manifest.sealed_until), tuple(tail.dropped_steps), dropped_bytes)

    def _go_on(self, segments: list[Segment], tail: Tail) -> None:
        """Queue the complete segments that recovery kept, and go on with the last one."""
        next_step = self.spec.next_due(tail.end(self._manifest.sealed_until))
        self._cursor = StepCursor(self.spec, next_step)
        synced_step = max((segment.synced_step for segment in segments), default=-1)
        for segment in segments:
            entries = [entry for entry in segment.entries if entry.step in tail.places]
            if not entries:
                continue
            if next_step is not None and self._block_of(entries[-1].step) == self._block_of(next_step):
                self._journal.reopen(segment.first_step, entries, synced_step)
                self._segment_step = segment.first_step
            else:
                self._unsealed.append(entries)


def _take(spans: list[npt.NDArray[Any]], n_rows: int) -> tuple[list[npt.NDArray[Any]], list[npt.NDArray[Any]]]:
    """The first `n_rows` rows of some spans, and the rest."""
    head: list[npt.NDArray[Any]] = []
    for at, span in enumerate(spans):
        if n_rows < len(span):
            return [*head, span[:n_rows]] if n_rows else head, [span[n_rows:], *spans[at + 1 :]]
        head.append(span)
        n_rows -= len(span)
    return head, []


def _content(path: Path) -> bytes | None:
    try:
        with files.open_plain(path) as file:
            # Not more than it has: a read allocates what it is asked for.
            return file.read(min(os.fstat(file.fileno()).st_size, _MAX_METADATA_BYTES))
    except OSError:
        return None
