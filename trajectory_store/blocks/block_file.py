"""A whole block's file, open for reading: known to be the committed one, its tiles read where they lie.

A whole block is never replaced, and an open file stays what it was. The last block of a series, which may be replaced
at any time, is read at once instead (`loaded_block`).
"""

import os
from pathlib import Path

from .. import files
from ..codec.tile_codecs import DecodedTile
from ..errors import DamageError
from .block import Block, damaged, decode_chunk, index_crc32c, parse_index
from .layout import Layout
from .loaded_block import LoadedBlock

SMALL_BLOCK_BYTES = 1 << 14
"""A file up to this size, or of one chunk, is verified as a whole. Any other is told by its size and its index: two
blocks of as many chunks that compress to the same sizes each are past bad luck, except where nothing compresses."""


class BlockFile:
    """One block's file; DamageError where it cannot be read or is not the one that was committed. Thread-safe."""

    def __init__(self, run_folder: Path, layout: Layout, block: int, committed: Block) -> None:
        self._place = (run_folder, layout, block)
        self._path = layout.block_path(run_folder, block)
        self._descriptor = -1
        try:
            self._descriptor = files.open_plain_descriptor(self._path)
        except FileNotFoundError as error:
            raise damaged(*self._place, f"the file cannot be read: {error.strerror}") from error
        n_bytes = os.fstat(self._descriptor).st_size
        data = self._read(layout.index_bytes, max(0, n_bytes - layout.index_bytes))
        is_another = n_bytes != committed.n_bytes
        if not is_another:
            self._index = parse_index(*self._place, data, n_bytes)
            is_another = index_crc32c(data) != committed.index_crc32c
        if not is_another and (n_bytes <= SMALL_BLOCK_BYTES or layout.n_tiles == 1):
            whole = LoadedBlock(*self._place)
            is_another = whole.committed != committed and not any(whole.flaws())
        if is_another:
            raise _not_committed(*self._place, layout.block_rows)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def _read(self, size: int, offset: int) -> bytes:
        with files.storage_errors("read", self._path):
            return files.read_at(self._descriptor, size, offset)

    def tile(self, tile: int) -> DecodedTile:
        """One tile decompressed; DamageError names the file, the steps and the tokens."""
        offset, size = self._index[tile]
        return decode_chunk(*self._place, tile, self._read(size, offset))


def open_block(run_folder: Path, layout: Layout, block: int, committed: Block, n_rows: int) -> BlockFile | LoadedBlock:
    """A block with `n_rows` committed rows; DamageError where its file is another one than was committed."""
    if n_rows == layout.block_rows:
        return BlockFile(run_folder, layout, block, committed)
    whole = LoadedBlock(run_folder, layout, block)
    if not whole.is_committed(committed, n_rows) and not any(whole.flaws()):
        raise _not_committed(run_folder, layout, block, n_rows)
    return whole


def _not_committed(run_folder: Path, layout: Layout, block: int, n_rows: int) -> DamageError:
    return DamageError(
        f"{layout.block_path(run_folder, block)}, {layout.describe(block, n_rows)}: not the file that the manifest"
        " commits; restore both from the same copy"
    )
