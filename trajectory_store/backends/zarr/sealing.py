"""Complete segments become blocks, one after the other, in a thread of their own.

docs/design.md, "Commit protocol", has the order of durable calls. Sealing a segment writes the blocks' files, then the
arrays' metadata, then the manifest, and syncs each. Only then it lets the segment's file go, for the next segment to
overwrite.
"""

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from ... import atomic, files
from ...blocks.block import Block, write_block
from ...blocks.layout import BlockPlace
from ...blocks.loaded_block import LoadedBlock
from ...errors import DamageError
from ...journal.mapped_segment import MappedSegment
from ...journal.record import FrameEntry
from ...journal.segment import JOURNAL_FOLDER, segment_path
from ...journal.spare import Spare
from ...ownership import NotCopied
from ..manifest import Manifest
from ..writer_lock import WriterLock
from .metadata import zarr_metadata

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

MAX_WAITING_BLOCKS = 2
"""Complete segments that may wait to be sealed. With more of them the sink waits, so the journal stays bounded."""

_PIECE_BYTES = 1 << 20


class Sealer(NotCopied):
    """Seals the segments of one run in the order in which they were added.

    Its methods belong to the thread that writes the run; sealing runs in the executor's. An error of a seal is raised
    by the next `make_room` or `finish`. What could not be sealed stays in the journal, and the call after that tries
    again.
    """

    def __init__(
        self,
        run_folder: Path,
        manifest: Manifest,
        spare: Spare,
        executor: "Executor",
        lock: WriterLock,
        *,
        sync: bool,
    ) -> None:
        self._folder = run_folder
        self._lock = lock  # nobody else may have it while a seal runs, be the sink dropped meanwhile
        self._manifest = manifest
        self._spare = spare
        self._executor = executor
        self._sync = sync
        self._waiting: list[list[FrameEntry]] = []  # the frames of complete segments, oldest first
        self._running: Future[None] | None = None  # the seal of the first of them
        self._waited_s = 0.0
        # Held while a seal runs. Who is interrupted in a seal of its own may take it again.
        self._busy = threading.RLock()
        self._is_stopped = False

    @property
    def manifest(self) -> Manifest:
        """What is sealed."""
        return self._manifest

    @property
    def waited_s(self) -> float:
        """Seconds that `make_room` has waited."""
        return self._waited_s

    def queue(self, entries: list[FrameEntry]) -> None:
        """Keep a complete segment, with these frames, to be sealed behind the earlier ones."""
        self._waiting.append(entries)

    def add(self, entries: list[FrameEntry]) -> None:
        """Seal a complete segment, with these frames, once the earlier ones are sealed."""
        self.queue(entries)
        self._start()

    def make_room(self) -> None:
        """Wait until at most `MAX_WAITING_BLOCKS` segments wait."""
        self._raise_error()
        self._start()
        if len(self._waiting) > MAX_WAITING_BLOCKS:
            before_s = time.perf_counter()
            while len(self._waiting) > MAX_WAITING_BLOCKS:
                self._wait()
                self._start()
            self._waited_s += time.perf_counter() - before_s

    def finish(self) -> None:
        """Wait until every segment that was added is sealed."""
        self._raise_error()
        while self._waiting:
            self._start()
            self._wait()

    def stop(self) -> None:
        """Wait for the seal that runs, if one does, and begin no other. What is not sealed stays in the journal."""
        self._is_stopped = True
        with self._busy:
            pass

    def _start(self) -> None:
        """Start the seal of the oldest segment, unless one is running, or one failed and its error was not raised
        yet."""
        if self._running is None and self._waiting:
            self._running = self._executor.submit(self.seal, self._waiting[0])

    def _raise_error(self) -> None:
        if self._running is not None and self._running.done():
            self._wait()

    def _wait(self) -> None:
        if self._running is not None:
            running, self._running = self._running, None
            running.result()
            self._waiting.pop(0)

    # Sealing itself: in the executor's thread, or in the caller's while that one is idle.

    def seal(self, entries: list[FrameEntry]) -> None:
        """Seal the segment that has these frames, now."""
        with self._busy:
            if not self._is_stopped:
                self._seal(entries)

    def _seal(self, entries: list[FrameEntry]) -> None:
        first_step, sealed_until = entries[0].step, entries[-1].step + 1
        path = segment_path(self._folder / JOURNAL_FOLDER, first_step)
        segment = MappedSegment(path, self._manifest.spec, entries)
        blocks = {name: self._seal_series(name, segment, sealed_until) for name in self._manifest.spec.series}
        manifest = self._manifest.with_sealed(sealed_until, blocks)
        # Between the blocks and the manifest: a plain Zarr reader sees whole blocks only, and recovery rewrites these.
        write_metadata(self._folder, manifest, sync=self._sync)
        manifest.store(self._folder, sync=self._sync)  # the commit
        self._manifest = manifest
        self._spare.keep(path)

    def _seal_series(self, name: str, segment: MappedSegment, sealed_until: int) -> tuple[Block, ...]:
        """Write the blocks that the segment's rows of one series complete or enlarge. Returns all of its blocks."""
        layout = self._manifest.layout(name)
        old_rows, new_rows = self._manifest.sealed_rows(name), layout.series.rows_before(sealed_until)
        blocks = list(self._manifest.blocks[name])
        if new_rows == old_rows:
            return tuple(blocks)
        row = old_rows - old_rows % layout.block_rows
        spans = segment.spans(name, self._manifest.sealed_until)
        if row < old_rows:  # the last block was incomplete: it is written again with more rows
            place = BlockPlace(self._folder, layout, row // layout.block_rows)
            spans.insert(0, _committed_rows(place, blocks[place.block], old_rows - row))
        while row < new_rows:
            place = BlockPlace(self._folder, layout, row // layout.block_rows)
            n_rows = min(layout.block_rows, new_rows - row)
            head, spans = _take(spans, n_rows)
            blocks[place.block :] = [write_block(place, head, sync=self._sync)]
            row += n_rows
        return tuple(blocks)


def write_metadata(run_folder: Path, manifest: Manifest, *, sync: bool = True) -> None:
    """Write each zarr.json that differs from what follows from the manifest."""
    for relative, content in zarr_metadata(manifest).items():
        path = run_folder / relative
        if not _holds(path, content):
            files.make_folders(path.parent)
            atomic.put(path, content, sync=sync)


def _committed_rows(place: BlockPlace, committed: Block, n_rows: int) -> npt.NDArray[Any]:
    """The rows of an incomplete block that are sealed; DamageError unless they are those that were committed."""
    loaded = LoadedBlock(place)
    if not loaded.is_committed(committed, n_rows):
        raise DamageError(
            f'{place.describe(n_rows)}: not the file that the manifest commits; run "trajectory-store check"'
        )
    return loaded.rows(n_rows)


def _take(spans: list[npt.NDArray[Any]], n_rows: int) -> tuple[list[npt.NDArray[Any]], list[npt.NDArray[Any]]]:
    """The first `n_rows` rows of some spans, and the rest."""
    head: list[npt.NDArray[Any]] = []
    for at, span in enumerate(spans):
        if n_rows < len(span):
            return [*head, span[:n_rows]] if n_rows else head, [span[n_rows:], *spans[at + 1 :]]
        head.append(span)
        n_rows -= len(span)
    return head, []


def _holds(path: Path, content: bytes) -> bool:
    """Whether a file has this content, which is compared piece by piece: with large attrs it is large."""
    try:
        with files.open_plain(path) as file:
            if os.fstat(file.fileno()).st_size != len(content):
                return False
            pieces = range(0, len(content), _PIECE_BYTES)
            return all(file.read(_PIECE_BYTES) == content[at : at + _PIECE_BYTES] for at in pieces)
    except OSError:
        return False
