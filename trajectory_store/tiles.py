"""One tile of a block ↔ the bytes of one chunk, by the two codec chains a run can have.

Knows bytes, not files; layout: docs/format.md, "Chunks". Every chunk ends with the CRC-32C of what is before it, and
its decoded size is known before it is decoded, so that no chunk can ask for memory.
"""

import math
import struct
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from . import temporal, zstd
from .errors import DamageError, SpecError

ZSTD_LEVEL = 1
"""Level 3 stored 1–2 % less of a real recording at much the same speed, and 9 another 5 % at a quarter of it."""


class DecodedTile(Protocol):
    """A chunk that was decompressed; its rows are undone as far as they are asked for. Not thread-safe."""

    @property
    def nbytes(self) -> int:
        """Bytes held, at most."""

    def rows(self, stop: int) -> npt.NDArray[Any]:
        """Rows [0, stop), not to be written to."""


class TileCodec(Protocol):
    """A chain of codecs, as functions of one tile and as Zarr metadata."""

    def encode(self, tile: npt.NDArray[Any]) -> bytes:
        """The chunk of a tile (rows, tokens, …) of a storage dtype."""

    def decode(self, chunk: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DecodedTile:
        """The inverse; raises DamageError, without a place, on a chunk that is not whole and sound."""

    def zarr_codecs(self, n_axes: int, dtype: np.dtype[Any]) -> list[dict[str, Any]]:
        """The chain as zarr.json holds it."""


@dataclass(frozen=True)
class TemporalCodec:
    """Temporal delta, zstd, CRC-32C: the default."""

    def encode(self, tile: npt.NDArray[Any]) -> bytes:
        return zstd.with_crc(zstd.compress(temporal.encode(tile), ZSTD_LEVEL))

    def decode(self, chunk: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DecodedTile:
        content = zstd.decompress(zstd.without_crc(chunk), math.prod(shape) * dtype.itemsize)
        return temporal.Decoder(content.reshape(shape[0], dtype.itemsize, *shape[1:]), dtype)

    def zarr_codecs(self, n_axes: int, dtype: np.dtype[Any]) -> list[dict[str, Any]]:
        del n_axes, dtype
        return [
            {"name": temporal.NAME},
            {"name": "bytes"},
            {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}},
            {"name": "crc32c"},
        ]


@dataclass(frozen=True)
class PortableCodec:
    """Time last, blosc with bitshuffle and zstd, CRC-32C: nothing of ours, for readers in other languages."""

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

CODECS: dict[str, TileCodec] = {"temporal": TemporalCodec(), "portable": PortableCodec()}


def codec_named(name: str) -> TileCodec:
    """The codec of that name; SpecError where there is none."""
    try:
        return CODECS[name]
    except (KeyError, TypeError):
        raise SpecError(f"codec {name!r} is unknown; choose from {', '.join(map(repr, CODECS))}") from None


@dataclass(frozen=True)
class _WholeTile:
    patterns: npt.NDArray[Any]

    @property
    def nbytes(self) -> int:
        return self.patterns.nbytes

    def rows(self, stop: int) -> npt.NDArray[Any]:
        return self.patterns[:stop]
