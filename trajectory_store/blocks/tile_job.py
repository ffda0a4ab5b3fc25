"""A selection of rows and tokens as the tiles that it touches: which part of each, and its place in the result."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..selection import Indices, Positions, pieces, stop_of
from .layout import Layout

_DECOMPRESSING = 4
"""To decompress a tile takes as long as to decode one in so many of its bytes."""


@dataclass(frozen=True)
class TileJob:
    """One tile to read: which of its rows and tokens, and which (rows, tokens) of the result they are."""

    block: int
    tile: int
    rows: Positions
    tokens: Positions | None
    place: tuple[Positions, Positions | None]

    @property
    def target(self) -> tuple[Positions, ...]:
        """The place as an index."""
        rows, tokens = self.place
        return (rows,) if tokens is None else (rows, tokens)

    def work_bytes(self, layout: Layout) -> int:
        """About what it costs, in decoded bytes. Only the wanted tokens are decoded, but the tile is decompressed
        whole."""
        n_tokens = layout.tile_tokens
        if isinstance(self.tokens, slice) and self.tokens.step == 1:
            n_tokens = self.tokens.stop - self.tokens.start
        return stop_of(self.rows) * n_tokens * layout.token_bytes + layout.decoded_tile_bytes // _DECOMPRESSING

    def wants_all(self, layout: Layout) -> bool:
        """Whether a whole tile is wanted as it is. The tile at the far edge of the tokens may not be whole."""
        whole = layout.tile_shape
        wanted = (self.rows,) if self.tokens is None else (self.rows, self.tokens)
        return all(
            isinstance(part, slice) and (part.start, part.stop, part.step) == (0, n, 1)
            for part, n in zip(wanted, whole, strict=False)
        ) and all(isinstance(part, slice) and part.step is None for part in self.target)

    def store(self, out: npt.NDArray[Any], part: npt.NDArray[Any]) -> None:
        """Put the tile's part into its place in the result."""
        rows, tokens = self.place
        if tokens is None:
            out[rows] = part
        elif isinstance(rows, slice) or isinstance(tokens, slice):
            out[rows, tokens] = part
        else:
            out[np.ix_(rows, tokens)] = part


def tile_jobs(layout: Layout, rows: Indices, tokens: Indices | None) -> list[TileJob]:
    """The jobs that together read some rows and tokens; all tokens if `tokens` is None."""
    tiles = [(0, None, None)] if tokens is None else list(pieces(tokens, layout.tile_tokens))
    return [
        TileJob(block, tile, in_block, in_tile, (out_rows, out_tokens))
        for block, out_rows, in_block in pieces(rows, layout.block_rows)
        for tile, out_tokens, in_tile in tiles
    ]
