"""The writer of the default backend: frame → journal → (in the background) sealed block → manifest.

docs/design.md, "Commit protocol", has the order of durable calls. A frame is in the journal when `append` returns. When
a block of steps is complete, its segment is handed to the sealer.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from ... import atomic, files
from ...blocks.static_array import STATIC_FOLDER, described
from ...errors import SpecError, UsageError
from ...journal.segment import JOURNAL_FOLDER
from ...journal.writer import JournalWriter
from ...spec import Frame
from ...words import Durability
from .. import manifest as manifests
from ..disk_sink import DiskSink
from ..growth import room_until
from ..manifest import Manifest
from ..recovery import Recovery
from ..sink import StepCursor
from ..writer_lock import WriterLock
from .metadata import zarr_metadata
from .recovery import recover_journal
from .run_files import run_files
from .sealing import Sealer, write_metadata

if TYPE_CHECKING:
    from concurrent.futures import Executor


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
        atomic.put(path, chunk)
    files.make_folders(folder / JOURNAL_FOLDER)
    for name in manifest.spec.series:
        _refuse_shared_folder(folder / name)
        files.make_folders(folder / name)
    for relative, content in zarr_metadata(manifest).items():
        path = folder / relative
        files.make_folders(path.parent)
        atomic.put(path, content)
    manifest.store(folder)


def _refuse_shared_folder(path: Path) -> None:
    """Raise SpecError if a folder of a new run is already there: the file system takes two names for one."""
    if path.exists():
        raise SpecError(
            f"{path.name!r} names a folder that is there under another name: this file system does not tell capital"
            " letters from small ones; choose names that differ in more"
        )


class ZarrSink(DiskSink):
    """Writes one run. `append`, `flush` and `close` belong to one thread; sealing runs in `executor`'s, which has one.

    An error of the sealing thread is raised at the next `append`, `flush` or `close`, before anything else happens;
    what it could not seal stays in the journal and is tried again at the call after.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durability: Durability = "process",
        executor: "Executor | None" = None,
        lock: WriterLock | None = None,
    ) -> None:
        from concurrent.futures import ThreadPoolExecutor  # whoever only reads need not wait for it

        self._durability = durability
        self._executor = executor or ThreadPoolExecutor(1, thread_name_prefix="trajectory-seal")
        self._journal: JournalWriter | None = None
        self._sealer: Sealer | None = None
        super().__init__(folder, lock)

    @property
    def waited_s(self) -> float:
        """Seconds that appends have waited for blocks to be sealed: more than nothing if frames come too fast."""
        return 0.0 if self._sealer is None else self._sealer.waited_s

    def _open(self) -> Recovery:
        was_interrupted = self._journal is not None
        self._stop()
        folder, sync = self._folder, self._durability != "none"
        self._manifest = manifests.load(folder)
        self._room_until = room_until(self._manifest)
        files.make_folders(folder / JOURNAL_FOLDER)  # empty in a closed run: some ways of copying drop it
        kept = recover_journal(folder, self._manifest)
        self._journal = JournalWriter(folder / JOURNAL_FOLDER, sync_every_frame=self._durability == "power")
        self._journal.spare.remove()  # of a writer that died
        atomic.remove_unfinished(run_files(folder, self._manifest))
        write_metadata(folder, self._manifest)
        self._sealer = Sealer(folder, self._manifest, self._journal.spare, self._executor, self._lock, sync=sync)
        next_step = self.spec.next_due(kept.recovery.kept_until)
        self._cursor = StepCursor(self.spec, next_step)
        self._segment_step: int | None = None  # first step of the segment that frames go to
        for entries in kept.segments:
            if next_step is not None and self._block_of(entries[-1].step) == self._block_of(next_step):
                self._segment_step = entries[0].step
                self._journal.reopen(self._segment_step, entries, kept.synced_step, must_rewrite=was_interrupted)
            else:
                self._sealer.queue(entries)
        return kept.recovery

    def _record(self, step: int, frame: Frame) -> None:
        assert self._journal is not None
        assert self._sealer is not None
        if step >= self._room_until:
            raise UsageError(
                f"{self._folder}: the manifest has no room for the blocks from step {step} on; what is recorded stays:"
                " close this run, and go on in a new one with fewer attrs or a larger block_steps"
            )
        self._sealer.make_room()
        if self._segment_step is None:
            self._journal.start(step)
            self._segment_step = step
        self._journal.append(step, frame)
        self._cursor.advance()
        if self._cursor.next_step is None or self._block_of(self._cursor.next_step) != self._block_of(step):
            self._segment_step = None
            self._sealer.add(self._journal.entries)

    def _sync_frames(self) -> None:
        assert self._journal is not None
        assert self._sealer is not None
        self._sealer.finish()
        if self._durability != "none" and self._segment_step is not None:
            self._journal.flush()

    def _end(self) -> None:
        """Seal what the journal holds; on an error it keeps what could not be sealed."""
        assert self._journal is not None
        assert self._sealer is not None
        self._sealer.finish()
        if self._segment_step is not None and self._journal.entries:
            self._segment_step = None
            self._sealer.add(self._journal.entries)
            self._sealer.finish()
        self._journal.spare.remove()

    def _release(self) -> None:
        self._stop()
        self._executor.shutdown()
        self._lock.release()

    def _stop(self) -> None:
        """Let the seal that runs end, and let go of the journal: whatever is changed next is changed by one thread."""
        if self._sealer is not None:
            self._sealer.stop()
        if self._journal is not None:
            self._journal.close()

    def _block_of(self, step: int) -> int:
        return step // self._manifest.block_steps
