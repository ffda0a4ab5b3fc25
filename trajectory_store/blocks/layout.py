"""Sealed blocks as Zarr arrays: how the rows of one series lie in blocks and tiles.

A series is a Zarr v3 array. Its shards are its blocks, one file each, and its chunks tile a block over the first axis
of its rows. docs/format.md, "Sealed blocks", has the layout. The last block of a series may hold fewer rows than a full
one. It is replaced, never appended to, when more of its rows are sealed.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..codec.tile_codecs import TileCodec, codec_for
from ..errors import DamageError
from ..series_spec import Series
from .zarr_json import document, zarr_array

BLOCK_BYTES = 128 << 20
"""What a block of more than `LEAST_BLOCK_STEPS` may take uncompressed: it bounds the memory of every reader."""
LARGEST_BLOCK_BYTES = 512 << 20
"""The same for any block of more than one step."""
BLOCK_STEPS = 256
LEAST_BLOCK_STEPS = 32
"""Each block keeps one row as it is, so blocks of 8 steps of wide rows take three times as much as blocks of 32."""
SPARSE_BLOCK_BYTES = 16 << 20
"""The same for a series that is not due at every step, because its last block is rewritten at every seal."""
TILE_ROW_BYTES = 8 << 10
"""64 tokens of 64 bfloat16. With half of it dead tokens take 5 % more, with four times of it all tokens 20 % more."""
LEAST_TILE_TOKENS = 16
"""So many wide tokens, at least, share a tile, if it stays below `WIDE_TILE_BYTES`."""
WIDE_TILE_BYTES = 4 << 20

INDEX_ENTRY = struct.Struct("<QQ")
INDEX_CRC = struct.Struct("<I")
_MAX_OVERHEAD = 4096


def block_steps_for(series: Sequence[Series]) -> int:
    """How many steps a block has by default: 256, or the power of two that keeps it small enough."""
    step_bytes = sum(s.row_bytes for s in series if s.steps is None)
    steps = BLOCK_STEPS
    while steps > LEAST_BLOCK_STEPS and steps * step_bytes > BLOCK_BYTES:
        steps //= 2
    while steps > 1 and steps * step_bytes > LARGEST_BLOCK_BYTES:
        steps //= 2
    return steps


@dataclass(frozen=True)
class Layout:
    """How the rows of one series lie in blocks and tiles."""

    name: str
    series: Series
    block_steps: int
    codec_name: str

    @cached_property
    def block_rows(self) -> int:
        """Rows in a full block."""
        if self.series.steps is None:
            return self.block_steps
        return max(1, min(self.block_steps, SPARSE_BLOCK_BYTES // self.series.row_bytes))

    @cached_property
    def tile_tokens(self) -> int:
        """Entries of a row's first axis in a tile; 1 for a scalar series."""
        if not self.series.shape:
            return 1
        wide = min(LEAST_TILE_TOKENS, WIDE_TILE_BYTES // (self.block_rows * self.token_bytes))
        return min(self.series.shape[0], max(1, TILE_ROW_BYTES // self.token_bytes, wide))

    @cached_property
    def token_bytes(self) -> int:
        """Bytes of one entry of a row's first axis, or of the whole row of a scalar series."""
        return self.series.row_bytes // (self.series.shape[0] if self.series.shape else 1)

    @cached_property
    def codec(self) -> TileCodec:
        """What a tile is encoded by."""
        return codec_for(self.codec_name, self.series.dtype, self.tile_tokens)

    @cached_property
    def n_tiles(self) -> int:
        """Tiles in a block."""
        return -(-self.series.shape[0] // self.tile_tokens) if self.series.shape else 1

    @cached_property
    def tile_shape(self) -> tuple[int, ...]:
        """(rows, tokens, …) of a tile; tiles at the far edge are padded to it."""
        return (self.block_rows, *((self.tile_tokens, *self.series.shape[1:]) if self.series.shape else ()))

    @cached_property
    def decoded_tile_bytes(self) -> int:
        """Bytes of one decoded tile."""
        return math.prod(self.tile_shape) * self.series.storage_dtype.itemsize

    @cached_property
    def index_bytes(self) -> int:
        """Bytes of the index at the end of a block's file, its checksum included."""
        return self.n_tiles * INDEX_ENTRY.size + INDEX_CRC.size

    @cached_property
    def most_chunk_bytes(self) -> int:
        """The most bytes of a chunk, however badly it compresses."""
        return 2 * self.decoded_tile_bytes + _MAX_OVERHEAD

    @cached_property
    def most_block_bytes(self) -> int:
        """The most bytes of a block's file."""
        return self.n_tiles * self.most_chunk_bytes + self.index_bytes

    def rows_in(self, block: int, n_rows: int) -> int:
        """How many of a series' first `n_rows` rows are in a block."""
        return min(self.block_rows, n_rows - block * self.block_rows)

    def steps_in(self, block: int, n_rows: int | None = None) -> range:
        """From the first to the last step of a block, or of its first `n_rows` rows."""
        first = block * self.block_rows
        return self.series.step_range(first, first + (n_rows or self.block_rows))

    def zarr_json(self, n_rows: int) -> bytes:
        """The array's zarr.json once `n_rows` rows are sealed."""
        before, behind = self._around_rows
        return b"%b%d%b" % (before, n_rows, behind)

    @cached_property
    def _around_rows(self) -> tuple[bytes, bytes]:
        """Its zarr.json before and behind the number of rows: the rest stays, and may have a long list of steps."""
        before, mark, behind = document(self._zarr_metadata(0)).partition(b'"shape": [\n    0')
        return before + mark[:-1], behind

    def _zarr_metadata(self, n_rows: int) -> dict[str, Any]:
        series, dtype = self.series, self.series.storage_dtype
        attributes: dict[str, Any] = {"logical_dtype": series.dtype}
        if series.steps is not None:
            attributes["steps"] = series.to_json()["steps"]
        tile = self.tile_shape
        shard = [tile[0], *([self.n_tiles * tile[1], *tile[2:]] if series.shape else [])]
        sharding = {
            "chunk_shape": list(tile),
            "codecs": self.codec.zarr_codecs(len(tile), dtype),
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


@dataclass(frozen=True)
class BlockPlace:
    """Where one block of a series is kept."""

    run_folder: Path
    layout: Layout
    block: int

    @cached_property
    def path(self) -> Path:
        """The block's file, under Zarr's default chunk key."""
        series = self.layout.series
        return Path(f"{self.run_folder}/{self.layout.name}/c/{self.block}" + "/0" * len(series.shape))

    def describe(self, n_rows: int | None = None) -> str:
        """The file and the steps of the block, or of its first `n_rows` rows, for messages."""
        steps = self.layout.steps_in(self.block, n_rows)
        return f"{self.path}, steps {steps[0]} to {steps[-1]} of series {self.layout.name!r}"

    def damage(self, what: str) -> DamageError:
        """The error that says what is wrong with the block's file."""
        return DamageError(f'{self.describe()}: {what}; run "trajectory-store check"')
