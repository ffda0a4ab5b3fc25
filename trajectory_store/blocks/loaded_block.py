"""A block's file read at once: whether it is the one that the manifest committed, and what in it is flawed.

The last block of a series is replaced by one with more rows while readers hold an older manifest. A crash may come
between the block and the manifest that counts its rows. What was read at once stays consistent in both cases.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import files
from ..codec.tile_codecs import DecodedTile
from ..errors import DamageError
from .block import Block, decode_chunk, encode_block, parse_index
from .layout import BlockPlace


@dataclass(frozen=True)
class Flaw:
    """What is wrong with a block's file. tile is None if it concerns all of it."""

    tile: int | None
    message: str


class LoadedBlock:
    """The bytes of a block's file.

    Raises DamageError if there are none, or more than the block can have.
    """

    def __init__(self, place: BlockPlace) -> None:
        self._place = place
        self._layout = layout = place.layout
        try:
            with files.plain_file(place.path) as file:
                n_bytes = os.fstat(file.fileno()).st_size
                if n_bytes > layout.most_block_bytes:
                    raise DamageError(f"{place.describe()}: {n_bytes:,} bytes are more than it can have")
                self._data = file.read(n_bytes)
        except FileNotFoundError as error:
            raise DamageError(
                f"{place.describe()}: the file cannot be read: {error.strerror}; restore it from a copy"
            ) from error
        self.committed = Block.of([self._data])

    def is_committed(self, committed: Block, n_rows: int) -> bool:
        """Whether this is the block that was committed with `n_rows` rows, or one that has more rows behind them.

        A seal that was interrupted before its commit leaves the latter. Chunks are deterministic: the committed rows,
        encoded again, must give the committed file.
        """
        if self.committed == committed:
            return True
        if n_rows >= self._layout.block_rows or any(self.flaws()):
            return False
        return Block.of(encode_block(self._layout, [self.rows(n_rows)])) == committed

    def flaws(self) -> Iterator[Flaw]:
        """What breaks the block's own checksums and layout; nothing if all of it can be read."""
        try:
            index = self.index()
        except DamageError as error:
            yield Flaw(None, str(error))
            return
        end = 0
        for tile, (offset, size) in enumerate(index):
            if offset != end:
                yield Flaw(tile, f"chunk {tile} does not follow the one before it")
                return
            end += size
            try:
                self.tile(tile)
            except DamageError as error:
                yield Flaw(tile, str(error))
        if end + self._layout.index_bytes != len(self._data):
            yield Flaw(None, "the file has bytes that belong to no chunk")

    def index(self) -> list[tuple[int, int]]:
        """(offset, size) of each chunk, checked."""
        return parse_index(self._place, self._data[-self._layout.index_bytes :], len(self._data))

    def tile(self, tile: int) -> DecodedTile:
        """One chunk, decompressed. DamageError names the file, the steps and the tokens."""
        offset, size = self.index()[tile]
        return decode_chunk(self._place, tile, self._data[offset : offset + size])

    def rows(self, n_rows: int) -> npt.NDArray[Any]:
        """The first `n_rows` rows as bit patterns, shape (n_rows, …)."""
        rows = np.empty((n_rows, *self._layout.series.shape), dtype=self._layout.series.storage_dtype)
        for tile in range(self._layout.n_tiles):
            first = tile * self._layout.tile_tokens
            decoded = self.tile(tile).rows(n_rows)
            if self._layout.series.shape:
                part = rows[:, first : first + self._layout.tile_tokens]
                part[:] = decoded[:, : part.shape[1]]
            else:
                rows[:] = decoded
        return rows
