"""The reader of the default backend: sealed chunks through a bounded cache, then the journal's tail.

It writes nothing, and locks nothing but the segments that it has open, so that they are not overwritten. It follows a
run that is being written: a refresh reads the manifest, then the journal, and starts over if a seal came between the
two.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...blocks.block import Block
from ...blocks.block_file import BlockFile, open_block
from ...blocks.layout import BlockPlace, Layout
from ...blocks.loaded_block import LoadedBlock
from ...blocks.tile_cache import TileCache
from ...blocks.tile_job import TileJob, tile_jobs
from ...codec.tile_codecs import DecodedTile
from ...cores import usable_cores
from ...errors import DamageError
from ...journal.segment import JOURNAL_FOLDER, Segment, segment_path, segment_steps
from ...journal.tail import Tail, read_tail
from ...ownership import LATE_IMPORT, after_fork, renew_in_children
from ...selection import Indices, positions_of, stop_of
from ...spec import RunSpec
from .. import manifest as manifests
from ..manifest import Manifest
from ..source import empty_rows

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

CACHE_BYTES = 128 << 20
"""The most bytes of decoded tiles, unless one block has more: to read step after step decodes each tile once."""
_REFRESH_ATTEMPTS = 100
_TORN_ATTEMPTS = 2
_FEWEST_BYTES_A_THREAD = 4 << 20
"""Another thread that decodes less than this costs more than it saves."""
_MOST_OPEN_BLOCKS = 16


class _TileKey(NamedTuple):
    """One tile of a block that was committed."""

    place: BlockPlace
    committed: Block
    tile: int

    @property
    def cached(self) -> tuple[str, int, Block, int]:
        """What it is known by: a block that is replaced by one with more rows is another one."""
        return self.place.layout.name, self.place.block, self.committed, self.tile


class ZarrSource:
    """One run of the default backend, read-only."""

    backend = "zarr"
    is_on_disk = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._segments: dict[int, Segment] = {}
        self._tail = Tail()
        self._is_whole = True  # not while a refresh reads on in segments that it knows
        self._manifest_identity = manifests.identity(path)
        self._manifest = manifests.load(path)
        self._lock = threading.RLock()
        self._cache = TileCache(max(CACHE_BYTES, *map(self._decoded_block_bytes, self.spec.series)))
        self._blocks: OrderedDict[tuple[str, int, Block], BlockFile | LoadedBlock] = OrderedDict()
        self.refresh()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin with a lock that nobody holds, and without tiles that a thread was undoing as the process forked."""
        self._lock = threading.RLock()
        self._cache.clear()

    @property
    def manifest(self) -> Manifest:
        """What is sealed."""
        return self._manifest

    @property
    def spec(self) -> RunSpec:
        return self._manifest.spec

    @property
    def attrs(self) -> Mapping[str, Any]:
        return self._manifest.attrs

    @property
    def recorded_until(self) -> int:
        return self._tail.end(self._manifest.sealed_until)

    @property
    def static_names(self) -> list[str]:
        return list(self._manifest.static)

    def static(self, name: str) -> npt.NDArray[Any]:
        return self._manifest.static[name].read(self.path, name)

    def block_rows(self, name: str) -> int:
        return self._manifest.layout(name).block_rows

    def mapped(self, name: str, start: int, stop: int) -> None:
        del name, start, stop

    def _decoded_block_bytes(self, name: str) -> int:
        layout = self._manifest.layout(name)
        return layout.n_tiles * layout.decoded_tile_bytes * 9 // 8  # the rows, and the little they are decoded from

    def refresh(self) -> None:
        opened: list[Segment] = []
        known = self._segments if self._is_whole else {}
        self._is_whole = False
        try:
            manifest, identity, segments, tail = self._read_now(known, opened)
        except BaseException:
            _close(opened)
            raise
        gone = [segment for segment in [*self._segments.values(), *opened] if segment not in segments.values()]
        self._manifest, self._manifest_identity = manifest, identity
        self._segments, self._tail = segments, tail
        self._is_whole = True
        _close(gone)

    def _read_now(
        self, known: dict[int, Segment], opened: list[Segment]
    ) -> tuple[Manifest, Any, dict[int, Segment], Tail]:
        """A manifest with the tail that follows from it; reads on in `known` segments, and adds to `opened`."""
        for attempt in range(_REFRESH_ATTEMPTS):
            identity = manifests.identity(self.path)
            manifest = self._manifest if identity == self._manifest_identity else manifests.load(self.path)
            segments = self._segments_now(manifest, known, opened)
            if segments is None:
                continue
            tail = read_tail(manifest.spec, list(segments.values()), manifest.sealed_until)
            # A seal lets segments go once the manifest has their frames: without a new manifest nothing was missed.
            # Frames that do not follow may be a folder that was listed while it grew; a torn tail looks the same.
            if manifests.identity(self.path) == identity and (not tail.dropped_steps or attempt >= _TORN_ATTEMPTS):
                return manifest, identity, segments, tail
        raise DamageError(f"{self.path / JOURNAL_FOLDER}: its segments do not follow from the manifest")

    def _segments_now(
        self, manifest: Manifest, known: dict[int, Segment], opened: list[Segment]
    ) -> dict[int, Segment] | None:
        """The journal's segments, scanned; None if one was sealed meanwhile, so that the manifest is stale."""
        folder = self.path / JOURNAL_FOLDER
        segments: dict[int, Segment] = {}
        for first_step in segment_steps(folder):
            segment = known.get(first_step)
            if segment is None or not segment.is_current():
                try:
                    segment = Segment(segment_path(folder, first_step), manifest.spec, manifest.block_steps)
                except FileNotFoundError:
                    return None
                opened.append(segment)
            segment.scan()
            segments[first_step] = segment
        return segments

    def read(self, name: str, rows: Indices, tokens: Indices | None) -> npt.NDArray[Any]:
        out = empty_rows(self.spec, name, rows, tokens)
        layout = self._manifest.layout(name)
        n_sealed = self._manifest.sealed_rows(name)
        sealed, tail = _split(rows, n_sealed)
        if len(sealed[0]):
            part = out if len(sealed[0]) == len(rows) else np.empty((len(sealed[0]), *out.shape[1:]), out.dtype)
            self._read_sealed(layout, sealed[0], tokens, part)
            if part is not out:
                out[sealed[1]] = part
        steps = self.spec.series[name].steps_of
        for position, row in zip(tail[1].tolist(), tail[0].tolist(), strict=True):
            values = self._tail.row(int(steps(row, row + 1)[0]), name)
            out[position] = values if tokens is None else values[positions_of(tokens)]
        return out

    def _read_sealed(self, layout: Layout, rows: Indices, tokens: Indices | None, out: npt.NDArray[Any]) -> None:
        jobs = tile_jobs(layout, rows, tokens)
        n_bytes = sum(job.work_bytes(layout) for job in jobs)
        _for_each(lambda job: self._read_tile(layout, job, out), jobs, n_bytes // _FEWEST_BYTES_A_THREAD)

    def _read_tile(self, layout: Layout, job: TileJob, out: npt.NDArray[Any]) -> None:
        key = _TileKey(
            BlockPlace(self.path, layout, job.block), self._manifest.blocks[layout.name][job.block], job.tile
        )
        # Whoever reads whole tiles goes on to the next ones.
        passes_by = job.wants_all(layout) and not self._is_cached(key)
        tile = (self._new_tile if passes_by else self._tile)(key)
        stop = stop_of(job.rows)
        if passes_by:
            tile.write(out[job.target])
        elif isinstance(job.tokens, slice) and job.tokens.step == 1:
            job.store(out, tile.rows(stop, job.tokens)[job.rows])
        else:
            part = tile.rows(stop)[job.rows]
            job.store(out, part if job.tokens is None else part[:, job.tokens])

    def _is_cached(self, key: _TileKey) -> bool:
        with self._lock:
            return key.cached in self._cache

    def _tile(self, key: _TileKey) -> DecodedTile:
        with self._lock:
            decoded = self._cache.get(key.cached)
        if decoded is None:
            decoded = self._new_tile(key)
            with self._lock:
                self._cache.put(key.cached, decoded)
        return decoded

    def _new_tile(self, key: _TileKey) -> DecodedTile:
        return self._block(key).tile(key.tile)

    def _block(self, key: _TileKey) -> BlockFile | LoadedBlock:
        """A block, known to be the one that was committed. The least recently opened ones are closed."""
        with self._lock:
            known = self._blocks.get(key.cached[:-1])
        if known is None:
            layout = key.place.layout
            n_rows = layout.rows_in(key.place.block, self._manifest.sealed_rows(layout.name))
            known = open_block(key.place, key.committed, n_rows)
            with self._lock:
                self._blocks[key.cached[:-1]] = known
                while len(self._blocks) > _MOST_OPEN_BLOCKS:
                    self._blocks.popitem(last=False)
        return known

    def close(self) -> None:
        for segment in self._segments.values():
            segment.close()
        self._segments = {}
        self._cache.clear()
        self._blocks.clear()


def _close(segments: Iterable[Segment]) -> None:
    for segment in segments:
        segment.close()


def _for_each(work: Callable[[TileJob], None], jobs: list[TileJob], most_threads: int) -> None:
    """Do the work of all jobs, on all cores, because zstd and the compiled loops run without the interpreter's lock."""
    threads, n_threads = _decoding_threads()
    n_shares = min(n_threads + 1, len(jobs), most_threads)
    left = iter(jobs)  # a free thread takes the next: a block of early steps takes ten times as long as a late one
    shares = [threads.submit(_do_all, work, left) for _ in range(1, n_shares)]
    _do_all(work, left)
    for share in shares:
        share.result()


def _do_all(work: Callable[[TileJob], None], jobs: Iterator[TileJob]) -> None:
    for job in jobs:
        work(job)


@cache
def _decoding_threads() -> "tuple[ThreadPoolExecutor, int]":
    """Threads beside the one that reads, and how many: one less than the usable cores, but one at least."""
    with LATE_IMPORT:
        from concurrent.futures import ThreadPoolExecutor

    n_threads = max(1, usable_cores() - 1)
    return ThreadPoolExecutor(n_threads, thread_name_prefix="trajectory-decode"), n_threads


# A forked child, such as a data loader's worker, has the pool but none of its threads.
after_fork(_decoding_threads.cache_clear)


def _split(
    rows: Indices, n_sealed: int
) -> tuple[tuple[Indices, npt.NDArray[np.int64]], tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """(rows, positions) of those that are sealed, and of those of the tail."""
    if len(rows) == 0 or (isinstance(rows, range) and max(rows[0], rows[-1]) < n_sealed):
        nothing = np.empty(0, dtype=np.int64)
        return (rows, nothing), (nothing, nothing)
    listed = np.asarray(rows, dtype=np.int64)
    is_sealed = listed < n_sealed
    at, after = np.flatnonzero(is_sealed), np.flatnonzero(~is_sealed)
    sealed: Indices = listed[at]
    if isinstance(rows, range):
        sealed = rows[: len(at)] if rows.step > 0 else rows[len(after) :]
    return (sealed, at), (listed[after], after)
