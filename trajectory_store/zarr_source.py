"""The reader of the default backend: sealed chunks through a bounded cache, then the journal's tail.

Takes no lock and writes nothing. It follows a run that is being written: a refresh reads the manifest, then the
journal, and starts over where a seal came between the two.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import chunks, journal
from . import manifest as manifests
from .errors import DamageError
from .journal import Segment, Tail
from .manifest import Manifest
from .selection import Indices, Positions, pieces, stop_of
from .source import empty_rows
from .spec import RunSpec
from .tiles import DecodedTile

CACHE_BYTES = 128 << 20
"""Room for one block of the default size, so that reading step after step decodes each tile once."""
_REFRESH_ATTEMPTS = 100
_FEWEST_PARALLEL_TILES = 4


class ZarrSource:
    """One run of the default backend, read-only."""

    backend = "zarr"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._segments: dict[int, Segment] = {}
        self._tail = Tail()
        self._manifest = manifests.load(path)
        self._lock = threading.Lock()
        self._cache = TileCache(CACHE_BYTES)
        self._indices: dict[tuple[str, chunks.Block], list[tuple[int, int]]] = {}
        self.refresh()

    @property
    def manifest(self) -> Manifest:
        """What is sealed."""
        return self._manifest

    @property
    def tail(self) -> Tail:
        """What only the journal holds."""
        return self._tail

    @property
    def spec(self) -> RunSpec:
        return self._manifest.spec

    @property
    def attrs(self) -> Mapping[str, Any]:
        return self._manifest.attrs

    @property
    def recorded_until(self) -> int:
        return max(self._tail.places, default=self._manifest.sealed_until - 1) + 1

    @property
    def static_names(self) -> list[str]:
        return list(self._manifest.static)

    def static(self, name: str) -> npt.NDArray[Any]:
        return self._manifest.static[name].read(self.path, name)

    def block_rows(self, name: str) -> int:
        return self._manifest.layout(name).block_rows

    def refresh(self) -> None:
        for _ in range(_REFRESH_ATTEMPTS):
            manifest = manifests.load(self.path)
            if self._read_journal(manifest):
                self._manifest = manifest
                return
        raise DamageError(f"{self.path / journal.FOLDER}: its segments do not follow from the manifest")

    def _read_journal(self, manifest: Manifest) -> bool:
        """Read the tail behind `manifest`; False where the journal went on meanwhile and the manifest is stale."""
        folder = self.path / journal.FOLDER
        segments: dict[int, Segment] = {}
        for first_step in journal.segment_steps(folder):
            segment = self._segments.get(first_step)
            if segment is None or not segment.is_linked():
                try:
                    path = journal.segment_path(folder, first_step)
                    segment = Segment(path, manifest.spec, manifest.block_steps)
                except FileNotFoundError:
                    return False
            segments[first_step] = segment
        for segment in segments.values():
            segment.scan()
        tail = journal.read_tail(manifest.spec, list(segments.values()), manifest.sealed_until)
        follows = not tail.dropped_steps and not any(index < 0 for _, index in tail.places.values())
        if not follows and manifests.load(self.path).sealed_until != manifest.sealed_until:
            return False
        for first_step, segment in self._segments.items():
            if segments.get(first_step) is not segment:
                segment.close()
        self._segments, self._tail = segments, tail
        return True

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
            out[position] = values if tokens is None else values[_positions(tokens)]
        return out

    def _read_sealed(self, layout: chunks.Layout, rows: Indices, tokens: Indices | None, out: npt.NDArray[Any]) -> None:
        jobs = [
            (block, tile, block_positions, tile_positions, _target(out, out_rows, out_tokens))
            for block, out_rows, block_positions in pieces(rows, layout.block_rows)
            for tile, out_tokens, tile_positions in _tiles(tokens, layout)
        ]

        def run(job: tuple[int, int, Positions, Positions | None, Callable[[npt.NDArray[Any]], None]]) -> None:
            block, tile, block_positions, tile_positions, store = job
            decoded = self._tile(layout, block, tile).rows(stop_of(block_positions))
            part = decoded[block_positions]
            store(part if tile_positions is None else part[:, tile_positions])

        if len(jobs) < _FEWEST_PARALLEL_TILES:
            for job in jobs:
                run(job)
        else:  # zstd and the compiled loops run without the interpreter's lock
            for _ in _decoding_threads().map(run, jobs):
                pass

    def _tile(self, layout: chunks.Layout, block: int, tile: int) -> DecodedTile:
        committed = self._manifest.blocks[layout.name][block]
        key = (layout.name, block, tile, committed)
        with self._lock:
            decoded = self._cache.get(key)
            index = self._indices.get((layout.name, committed))
        if decoded is None:
            path = layout.block_path(self.path, block)
            if index is None:
                index = chunks.read_index(path, layout)
            decoded = chunks.read_tile(path, layout, tile, index[tile])
            with self._lock:
                self._indices[layout.name, committed] = index
                self._cache.put(key, decoded)
        return decoded

    def close(self) -> None:
        for segment in self._segments.values():
            segment.close()
        self._segments = {}
        self._cache.clear()


@cache
def _decoding_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="trajectory-decode")


def _target(out: npt.NDArray[Any], rows: Positions, tokens: Positions | None) -> Callable[[npt.NDArray[Any]], None]:
    """How one tile's part is put into its place of the result."""

    def store(part: npt.NDArray[Any]) -> None:
        if tokens is None:
            out[rows] = part
        elif isinstance(rows, slice) or isinstance(tokens, slice):
            out[rows, tokens] = part
        else:
            out[np.ix_(rows, tokens)] = part

    return store


class TileCache:
    """Decoded tiles, the least recently used going first, never more than a number of bytes. Not thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._n_bytes = 0
        self._tiles: OrderedDict[Any, DecodedTile] = OrderedDict()

    def get(self, key: Any) -> DecodedTile | None:
        """The tile, None where it is not there."""
        tile = self._tiles.get(key)
        if tile is not None:
            self._tiles.move_to_end(key)
        return tile

    def put(self, key: Any, tile: DecodedTile) -> None:
        """Add a tile and drop the oldest ones over the limit."""
        replaced = self._tiles.pop(key, None)  # two threads decoded the same tile
        self._tiles[key] = tile
        self._n_bytes += tile.nbytes - (replaced.nbytes if replaced is not None else 0)
        while self._n_bytes > self._max_bytes and len(self._tiles) > 1:
            _, dropped = self._tiles.popitem(last=False)
            self._n_bytes -= dropped.nbytes

    def clear(self) -> None:
        """Drop every tile."""
        self._tiles.clear()
        self._n_bytes = 0


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


def _tiles(tokens: Indices | None, layout: chunks.Layout) -> Iterator[tuple[int, Positions | None, Positions | None]]:
    if tokens is None:
        yield 0, None, None
        return
    yield from pieces(tokens, layout.tile_tokens)


def _positions(indices: Indices) -> Positions:
    """Indices as numpy takes them, a slice wherever they are evenly spaced."""
    if isinstance(indices, range):
        stop = indices.stop if indices.stop >= 0 else None
        return slice(indices.start, stop, indices.step)
    return indices
