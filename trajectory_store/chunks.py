"""Sealed blocks as Zarr arrays: the layout of one series, writing one block, reading any tile.

A series is a Zarr v3 array whose shards are its blocks, one file a block, and whose chunks tile a block over the
first axis of its rows. Layout: docs/format.md, "Sealed blocks". The last block of a series may hold fewer rows than
a whole one; it is replaced, never appended to, when more of its rows are sealed.
"""

import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import files
from .checksum import crc32c
from .errors import DamageError
from .spec import Series
from .tiles import DecodedTile, codec_named

BLOCK_BYTES = 128 << 20
"""What a block may take uncompressed, at most: it bounds the memory of every reader."""
BLOCK_STEPS = 256
SPARSE_BLOCK_BYTES = 16 << 20
"""The same for a series that is not due at every step: its last block is rewritten at every seal."""
TILE_ROW_BYTES = 8 << 10
"""64 tokens of 64 bfloat16: 32 and 128 stored within 1 % of it; 2 MB tiles of 256 steps stay in a core's cache."""

_INDEX_ENTRY = struct.Struct("<QQ")
_CRC = struct.Struct("<I")


def block_steps_for(series: Sequence[Series]) -> int:
    """How many steps a block has by default: 256, or the power of two that keeps a block under `BLOCK_BYTES`."""
    step_bytes = sum(s.row_bytes for s in series if s.steps is None)
    steps = BLOCK_STEPS
    while steps > 1 and steps * step_bytes > BLOCK_BYTES:
        steps //= 2
    return steps


@dataclass(frozen=True)
class Layout:
    """How the rows of one series lie in blocks and tiles."""

    name: str
    series: Series
    block_steps: int
    codec_name: str

    @property
    def block_rows(self) -> int:
        """Rows in a whole block."""
        if self.series.steps is None:
            return self.block_steps
        return max(1, min(self.block_steps, SPARSE_BLOCK_BYTES // self.series.row_bytes))

    @property
    def tile_tokens(self) -> int:
        """Entries of a row's first axis in a tile; 1 for a scalar series."""
        if not self.series.shape:
            return 1
        token_bytes = self.series.row_bytes // self.series.shape[0]
        return max(1, min(self.series.shape[0], TILE_ROW_BYTES // token_bytes))

    @property
    def n_tiles(self) -> int:
        """Tiles in a block."""
        return -(-self.series.shape[0] // self.tile_tokens) if self.series.shape else 1

    @property
    def tile_shape(self) -> tuple[int, ...]:
        """(rows, tokens, …) of a tile; tiles at the far edge are padded to it."""
        return (self.block_rows, *((self.tile_tokens, *self.series.shape[1:]) if self.series.shape else ()))

    @property
    def decoded_tile_bytes(self) -> int:
        """Bytes of one decoded tile."""
        return math.prod(self.tile_shape) * self.series.storage_dtype.itemsize

    def block_path(self, run_folder: Path, block: int) -> Path:
        """The file of a block, under Zarr's default chunk key."""
        return run_folder.joinpath(self.name, "c", str(block), *["0"] * len(self.series.shape))

    def zarr_metadata(self, n_rows: int) -> dict[str, Any]:
        """The array's zarr.json once `n_rows` rows are sealed."""
        series, dtype = self.series, self.series.storage_dtype
        attributes: dict[str, Any] = {"logical_dtype": series.dtype}
        if series.steps is not None:
            attributes["steps"] = series.to_json()["steps"]
        tile = self.tile_shape
        shard = [tile[0], *([self.n_tiles * tile[1], *tile[2:]] if series.shape else [])]
        sharding = {
            "chunk_shape": list(tile),
            "codecs": codec_named(self.codec_name).zarr_codecs(len(tile), dtype),
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
            "index_location": "end",
        }
        first_dim = "step" if series.steps is None else f"{self.name}_step"
        return zarr_array(
            (n_rows, *series.shape),
            dtype,
            tuple(shard),
            [{"name": "sharding_indexed", "configuration": sharding}],
            (first_dim, *(series.dims or ())),
            attributes,
        )


def zarr_group(attributes: dict[str, Any], nodes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The zarr.json of a group with the zarr.json of every node below it, as zarr-python consolidates them."""
    return {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": attributes,
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": nodes},
    }


def zarr_array(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunk_shape: tuple[int, ...],
    codecs: list[dict[str, Any]],
    dimension_names: tuple[str, ...],
    attributes: dict[str, Any],
) -> dict[str, Any]:
    """The zarr.json of an array, Zarr v3 core specification."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk_shape)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": False if dtype.kind == "b" else 0 if dtype.kind in "iu" else 0.0,
        "codecs": codecs,
        "attributes": attributes,
        "dimension_names": list(dimension_names),
        "storage_transformers": [],
    }


@dataclass(frozen=True)
class Block:
    """A block that was committed: its file's size in bytes and CRC-32C."""

    n_bytes: int
    crc32c: int


def write_block(
    run_folder: Path, layout: Layout, block: int, spans: Sequence[npt.NDArray[Any]], *, sync: bool
) -> Block:
    """Encode the rows of a block, from its first, tile by tile into its file; replaces a block with fewer rows.

    spans: the rows in order, as arrays of shape (n, …); one tile is in memory beside them. Synced unless told.
    """
    path = layout.block_path(run_folder, block)
    codec = codec_named(layout.codec_name)
    with files.storage_errors("create", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    crc, index = 0, b""
    with files.write_atomically(path, sync=sync) as file:
        for tile in range(layout.n_tiles):
            chunk = codec.encode(_gather_tile(layout, spans, tile))
            index += _INDEX_ENTRY.pack(file.tell(), len(chunk))
            file.write(chunk)
            crc = crc32c(chunk, crc)
        index += _CRC.pack(crc32c(index))
        file.write(index)
        n_bytes = file.tell()
    return Block(n_bytes, crc32c(index, crc))


def _gather_tile(layout: Layout, spans: Sequence[npt.NDArray[Any]], tile: int) -> npt.NDArray[Any]:
    patterns = np.empty(layout.tile_shape, dtype=layout.series.storage_dtype)
    first = tile * layout.tile_tokens
    row = 0
    for span in spans:
        target = patterns[row : row + len(span)]
        if layout.series.shape:
            part = span[:, first : first + layout.tile_tokens]
            target[:, : part.shape[1]] = part
            target[:, part.shape[1] :] = 0
        else:
            target[:] = span
        row += len(span)
    patterns[row:] = patterns[row - 1]  # rows to come: no difference costs next to nothing
    return patterns


def read_index(path: Path, layout: Layout) -> list[tuple[int, int]]:
    """(offset, size) of each chunk of a block's file, checked against its checksum and the file's size."""
    size = layout.n_tiles * _INDEX_ENTRY.size
    with _opened(path) as file:
        n_bytes = os.fstat(file.fileno()).st_size
        data = os.pread(file.fileno(), size + _CRC.size, max(0, n_bytes - size - _CRC.size))
    if len(data) != size + _CRC.size or _CRC.unpack_from(data, size)[0] != crc32c(data[:size]):
        raise DamageError(f"{path}: the index of its chunks fails its checksum")
    index = list(_INDEX_ENTRY.iter_unpack(data[:size]))
    if any(offset + length > n_bytes - size - _CRC.size for offset, length in index):
        raise DamageError(f"{path}: the index of its chunks points outside of the file")
    return index


def read_tile(path: Path, layout: Layout, tile: int, place: tuple[int, int]) -> DecodedTile:
    """Decompress one chunk of a block's file; DamageError names the file and the tokens."""
    offset, size = place
    with _opened(path) as file:
        chunk = os.pread(file.fileno(), size, offset)
    try:
        return codec_named(layout.codec_name).decode(chunk, layout.tile_shape, layout.series.storage_dtype)
    except DamageError as error:
        first = tile * layout.tile_tokens
        tokens = f"entries {first} to {first + layout.tile_tokens - 1}" if layout.series.shape else "values"
        raise DamageError(f"{path}, byte {offset}: {tokens} of series {layout.name!r}: {error}") from error


def _opened(path: Path) -> Any:
    try:
        return path.open("rb", buffering=0)
    except FileNotFoundError as error:
        raise DamageError(f"{path}: the file is missing; restore it from a copy") from error


def read_rows(run_folder: Path, layout: Layout, block: int, n_rows: int) -> npt.NDArray[Any]:
    """The first `n_rows` rows of a block as bit patterns, shape (n_rows, …)."""
    path = layout.block_path(run_folder, block)
    rows = np.empty((n_rows, *layout.series.shape), dtype=layout.series.storage_dtype)
    for tile, place in enumerate(read_index(path, layout)):
        first = tile * layout.tile_tokens
        decoded = read_tile(path, layout, tile, place).rows(n_rows)
        if layout.series.shape:
            part = rows[:, first : first + layout.tile_tokens]
            part[:] = decoded[:, : part.shape[1]]
        else:
            rows[:] = decoded
    return rows
