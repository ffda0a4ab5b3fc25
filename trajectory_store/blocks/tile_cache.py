"""Decoded tiles that may be asked for again."""

from collections import OrderedDict
from typing import Any

from ..codec.tile_codecs import DecodedTile


class TileCache:
    """Decoded tiles, up to a number of bytes. The least recently used one goes first. Not thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._n_bytes = 0
        self._tiles: OrderedDict[Any, DecodedTile] = OrderedDict()

    def __contains__(self, key: Any) -> bool:
        return key in self._tiles

    def get(self, key: Any) -> DecodedTile | None:
        """The tile, or None if it is not there."""
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
