"""The file of a full block, open for reading: known to be the committed one, its tiles read from their places.

A full block is never replaced, so an open file stays what it was. The last block of a series may be replaced at any
time, so its file is read at once instead (`loaded_block`).
"""

import os

from .. import files
from ..codec.tile_codecs import DecodedTile
from ..errors import DamageError
from ..ownership import NotCopied
from .block import Block, decode_chunk, index_crc32c, parse_index
from .layout import BlockPlace
from .loaded_block import LoadedBlock

SMALL_BLOCK_BYTES = 1 << 14
"""A file up to this size, or with one chunk, is verified as a whole. Any other is recognised by its size and its index.

That two blocks have as many chunks, and that each compresses to the same size, is practically impossible, unless
nothing compresses.
"""


class BlockFile(NotCopied):
    """The file of one full block. Thread-safe.

    Raises DamageError if the file cannot be read, or is not the one that was committed.
    """

    def __init__(self, place: BlockPlace, committed: Block) -> None:
        self._place = place
        self._descriptor = -1
        try:
            self._descriptor = files.open_plain_descriptor(place.path)
        except FileNotFoundError as error:
            raise place.damage(f"the file cannot be read: {error.strerror}") from error
        layout = place.layout
        n_bytes = os.fstat(self._descriptor).st_size
        data = self._read(layout.index_bytes, max(0, n_bytes - layout.index_bytes))
        is_another = n_bytes != committed.n_bytes
        if not is_another:
            self._index = parse_index(place, data, n_bytes)
            is_another = index_crc32c(data) != committed.index_crc32c
        if not is_another and (n_bytes <= SMALL_BLOCK_BYTES or layout.n_tiles == 1):
            loaded = LoadedBlock(place)
            is_another = loaded.committed != committed and not any(loaded.flaws())
        if is_another:
            raise _not_committed(place, layout.block_rows)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def _read(self, size: int, offset: int) -> bytes:
        with files.storage_errors("read", self._place.path):
            return files.read_at(self._descriptor, size, offset)

    def tile(self, tile: int) -> DecodedTile:
        """One tile, decompressed. DamageError names the file, the steps and the tokens."""
        offset, size = self._index[tile]
        return decode_chunk(self._place, tile, self._read(size, offset))


def open_block(place: BlockPlace, committed: Block, n_rows: int) -> BlockFile | LoadedBlock:
    """A block with `n_rows` committed rows. Raises DamageError if its file is another one than was committed."""
    if n_rows == place.layout.block_rows:
        return BlockFile(place, committed)
    loaded = LoadedBlock(place)
    if not loaded.is_committed(committed, n_rows) and not any(loaded.flaws()):
        raise _not_committed(place, n_rows)
    return loaded


def _not_committed(place: BlockPlace, n_rows: int) -> DamageError:
    return DamageError(
        f"{place.describe(n_rows)}: not the file that the manifest commits; restore both from the same copy"
    )
