"""One block's file: written from rows, its index parsed, its chunks decoded. docs/format.md, "Sealed blocks"."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .. import atomic, files
from ..checksum import crc32c, file_crc32
from ..codec.tile_codecs import DecodedTile
from ..errors import DamageError
from .layout import INDEX_CRC, INDEX_ENTRY, BlockPlace, Layout


@dataclass(frozen=True)
class Block:
    """A block that was committed: its file's size in bytes, its CRC-32, and the CRC-32C of the index at its end."""

    n_bytes: int
    crc32: int
    index_crc32c: int

    @classmethod
    def of(cls, parts: Iterable[bytes]) -> "Block":
        """The block whose file has these parts."""
        n_bytes = crc = 0
        for part in parts:
            n_bytes += len(part)
            crc = file_crc32(part, crc)
        return cls(n_bytes, crc, index_crc32c(part))


def index_crc32c(data: bytes) -> int:
    """The checksum that ends the index at the end of `data`; 0 if there are too few bytes."""
    return int(INDEX_CRC.unpack(data[-INDEX_CRC.size :])[0]) if len(data) >= INDEX_CRC.size else 0


def write_block(place: BlockPlace, spans: Sequence[npt.NDArray[Any]], *, sync: bool) -> Block:
    """Encode the rows of a block, from its first, tile by tile into its file. Replaces a block with fewer rows.

    spans: the rows in order, as arrays of shape (n, …). One tile more is in memory. With `sync` the file is synced.
    """
    files.make_folders(place.path.parent, sync=sync)
    with atomic.write_atomically(place.path, sync=sync) as file:
        return Block.of(_written(file, encode_block(place.layout, spans)))


def _written(file: IO[bytes], parts: Iterable[bytes]) -> Iterator[bytes]:
    for part in parts:
        file.write(part)
        yield part


def encode_block(layout: Layout, spans: Sequence[npt.NDArray[Any]]) -> Iterator[bytes]:
    """The bytes of a block's file in parts: its chunks, then the index of them."""
    codec = layout.codec
    offset, index = 0, b""
    for tile in range(layout.n_tiles):
        chunk = codec.encode(_gather_tile(layout, spans, tile))
        index += INDEX_ENTRY.pack(offset, len(chunk))
        offset += len(chunk)
        yield chunk
    yield index + INDEX_CRC.pack(crc32c(index))


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
    patterns[row:] = patterns[row - 1]  # for rows that are not recorded yet: no difference takes hardly any bytes
    return patterns


def parse_index(place: BlockPlace, data: bytes, n_bytes: int) -> list[tuple[int, int]]:
    """(offset, size) of each chunk, from the end of a block's file of `n_bytes`; checksum and bounds are verified."""
    layout = place.layout
    entries, end = data[: -INDEX_CRC.size], n_bytes - layout.index_bytes
    if len(data) != layout.index_bytes or INDEX_CRC.pack(crc32c(entries)) != data[-INDEX_CRC.size :]:
        raise place.damage("the index of its chunks fails its checksum")
    index = list(INDEX_ENTRY.iter_unpack(entries))
    most = layout.most_chunk_bytes
    if any(offset + size > end or size > most for offset, size in index):
        raise place.damage("the index of its chunks points outside of the file")
    return index


def decode_chunk(place: BlockPlace, tile: int, chunk: bytes) -> DecodedTile:
    """Decompress one chunk of a block's file. DamageError names the file, the steps and the tokens."""
    layout = place.layout
    try:
        return layout.codec.decode(chunk, layout.tile_shape, layout.series.storage_dtype)
    except DamageError as error:
        first = tile * layout.tile_tokens
        tokens = f"entries {first} to {first + layout.tile_tokens - 1}: " if layout.series.shape else ""
        raise place.damage(f"{tokens}{error}") from error
