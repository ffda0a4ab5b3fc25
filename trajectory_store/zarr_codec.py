"""The temporal-delta codec as zarr-python sees it, found through the `zarr.codecs` entry point."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from zarr.abc.codec import ArrayArrayCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import NDBuffer
from zarr.core.dtype import UInt8

from . import temporal


@dataclass(frozen=True)
class TemporalDeltaCodec(ArrayArrayCodec):
    """Differences along the first axis of a chunk as byte planes; `temporal` has the arithmetic."""

    is_fixed_size = True

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """From the codec's entry in zarr.json, which has no configuration."""
        if data.get("name") != temporal.NAME or data.get("configuration"):
            raise ValueError(f"expected the codec {temporal.NAME!r} without configuration, found {data!r}")
        return cls()

    def to_dict(self) -> dict[str, Any]:
        """As zarr.json holds it."""
        return {"name": temporal.NAME}

    def resolve_metadata(self, chunk_spec: ArraySpec) -> ArraySpec:
        """What the next codec is given: uint8 of shape (n, itemsize, …)."""
        n, *rest = chunk_spec.shape
        shape = (n, chunk_spec.dtype.to_native_dtype().itemsize, *rest)
        zero = UInt8()
        return replace(chunk_spec, shape=shape, dtype=zero, fill_value=zero.default_scalar())

    def compute_encoded_size(self, input_byte_length: int, _chunk_spec: ArraySpec) -> int:
        """The same as before: bytes are only rearranged."""
        return input_byte_length

    def _encode_sync(self, chunk_array: NDBuffer, _chunk_spec: ArraySpec) -> NDBuffer:
        return chunk_array.from_numpy_array(temporal.encode(np.asarray(chunk_array.as_numpy_array())))

    def _decode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        dtype = chunk_spec.dtype.to_native_dtype()
        return chunk_array.from_numpy_array(temporal.decode(chunk_array.as_numpy_array(), dtype))

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        return self._encode_sync(chunk_array, chunk_spec)

    async def _decode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        return self._decode_sync(chunk_array, chunk_spec)
