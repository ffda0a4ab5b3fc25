"""One tile of a block ↔ the bytes of one chunk, by either of the two codec chains that a run can have.

Knows bytes, not files. docs/format.md, "Chunks", has the layout. Every chunk ends with the CRC-32C of what is before
it. Its decoded size is known before it is decoded, so that no chunk can ask for memory.
"""

import math
import struct
from dataclasses import dataclass
from typing import Any, Protocol, get_args

import numpy as np
import numpy.typing as npt

from ..errors import DamageError, SpecError
from ..words import Codec
from . import temporal, zstd


class DecodedTile(Protocol):
    """A chunk that was decompressed. Its rows are decoded as far as they are asked for. Not thread-safe."""

    @property
    def nbytes(self) -> int:
        """The most bytes that it holds."""

    def rows(self, stop: int, tokens: slice | None = None) -> npt.NDArray[Any]:
        """Rows [0, stop), not to be written to; only some adjacent tokens, if `tokens` is given."""

    def write(self, target: npt.NDArray[Any]) -> None:
        """Put the first rows into `target`, a part of a larger array. Nothing of it is kept."""


class TileCodec(Protocol):
    """A chain of codecs, as functions of one tile and as Zarr metadata."""

    def encode(self, tile: npt.NDArray[Any]) -> bytes:
        """The chunk of a tile (rows, tokens, …) of a storage dtype."""

    def decode(self, chunk: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DecodedTile:
        """The inverse of `encode`. Raises DamageError, which names no place, on a chunk that is not whole and sound."""

    def zarr_codecs(self, n_axes: int, dtype: np.dtype[Any]) -> list[dict[str, Any]]:
        """The chain as zarr.json holds it."""


@dataclass(frozen=True)
class TemporalCodec:
    """Temporal delta, zstd and CRC-32C: the default. `with_motion` is for tiles of bfloat16."""

    with_motion: bool = False

    def encode(self, tile: npt.NDArray[Any]) -> bytes:
        return zstd.with_crc(zstd.compress(temporal.encode(tile, with_motion=self.with_motion), zstd.CHUNK_LEVEL))

    def decode(self, chunk: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DecodedTile:
        most_bytes = temporal.geometry_of(shape, dtype.itemsize, self.with_motion).most_bytes
        encoded = zstd.decompress(zstd.without_crc(chunk), most_bytes)
        try:
            return temporal.Decoder(encoded, shape, dtype, with_motion=self.with_motion)
        except ValueError as error:
            raise DamageError(f"{temporal.NAME}: {error}") from error

    def zarr_codecs(self, n_axes: int, dtype: np.dtype[Any]) -> list[dict[str, Any]]:
        del n_axes, dtype
        return [
            {"name": temporal.NAME, "configuration": {"motion": self.with_motion}},
            {"name": "zstd", "configuration": {"level": zstd.CHUNK_LEVEL, "checksum": False}},
            {"name": "crc32c"},
        ]


@dataclass(frozen=True)
class PortableCodec:
    """Time last, blosc with bitshuffle and zstd, CRC-32C. Nothing is ours, so readers in other languages know it."""

    def encode(self, tile: npt.NDArray[Any]) -> bytes:
        from numcodecs import blosc

        time_last = np.ascontiguousarray(np.moveaxis(tile, 0, -1))
        return zstd.with_crc(blosc.compress(time_last, b"zstd", _BLOSC_LEVEL, blosc.BITSHUFFLE))

    def decode(self, chunk: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DecodedTile:
        from numcodecs import blosc

        payload = zstd.without_crc(chunk)
        try:
            n_bytes, _, n_compressed = _BLOSC_SIZES.unpack_from(payload, 4)
            if (n_bytes, n_compressed) != (math.prod(shape) * dtype.itemsize, len(payload)):
                raise DamageError("blosc: the chunk's header has another size than its tile")
            time_last = np.empty((*shape[1:], shape[0]), dtype=dtype)
            blosc.decompress(payload, time_last.reshape(-1).view(np.uint8))
        except (RuntimeError, ValueError, struct.error) as error:
            raise DamageError(f"blosc: {error}") from error
        return _WholeTile(np.moveaxis(time_last, -1, 0))

    def zarr_codecs(self, n_axes: int, dtype: np.dtype[Any]) -> list[dict[str, Any]]:
        transpose = {"name": "transpose", "configuration": {"order": [*range(1, n_axes), 0]}}
        bytes_codec: dict[str, Any] = {"name": "bytes"}
        if dtype.itemsize > 1:
            bytes_codec["configuration"] = {"endian": "little"}
        blosc_codec = {
            "name": "blosc",
            "configuration": {
                "typesize": dtype.itemsize,
                "cname": "zstd",
                "clevel": _BLOSC_LEVEL,
                "shuffle": "bitshuffle",
                "blocksize": 0,
            },
        }
        return [*([transpose] if n_axes > 1 else []), bytes_codec, blosc_codec, {"name": "crc32c"}]


_BLOSC_LEVEL = 1
_BLOSC_SIZES = struct.Struct("<III")  # uncompressed, block and compressed bytes, at byte 4 of a blosc-1 buffer

CODEC_NAMES = get_args(Codec)
LEAST_MOTION_TOKENS = 16
"""A tile of fewer tokens has no motion, because its moves would take more bytes than they save."""


def check_codec_name(name: object) -> None:
    """Raise SpecError unless there is a codec of that name."""
    if name not in CODEC_NAMES:
        raise SpecError(f"codec {name!r} is unknown; choose from {', '.join(map(repr, CODEC_NAMES))}")


def codec_for(name: str, dtype: str, tile_tokens: int) -> TileCodec:
    """The codec of that name for the tiles of a series. dtype: the series' own, such as "bfloat16"."""
    if name == "portable":
        return PortableCodec()
    return TemporalCodec(with_motion=dtype == "bfloat16" and tile_tokens >= LEAST_MOTION_TOKENS)


@dataclass(frozen=True)
class _WholeTile:
    patterns: npt.NDArray[Any]

    @property
    def nbytes(self) -> int:
        return self.patterns.nbytes

    def rows(self, stop: int, tokens: slice | None = None) -> npt.NDArray[Any]:
        return self.patterns[:stop] if tokens is None else self.patterns[:stop, tokens]

    def write(self, target: npt.NDArray[Any]) -> None:
        target[:] = self.patterns[: len(target)]
