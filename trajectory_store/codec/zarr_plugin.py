"""The temporal-delta codec as zarr-python sees it; the entry point `zarr.codecs` leads here."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer

from . import temporal


@dataclass(frozen=True)
class TemporalDeltaCodec(ArrayBytesCodec):
    """An array as the differences along its first axis, in bytes. `temporal` has the arithmetic."""

    motion: bool = False
    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """From the codec's entry in zarr.json."""
        configuration = data.get("configuration") or {}
        motion = configuration.get("motion", False)
        if data.get("name") != temporal.NAME or not set(configuration) <= {"motion"} or not isinstance(motion, bool):
            raise ValueError(
                f'expected the codec {temporal.NAME!r} configured by "motion": true or false, found {data!r}'
            )
        return cls(motion)

    def to_dict(self) -> dict[str, Any]:
        """As zarr.json holds it."""
        return {"name": temporal.NAME, "configuration": {"motion": self.motion}}

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        """Refuse an array without rows, or one whose items cannot be bfloat16 if motion is asked for."""
        del chunk_grid
        itemsize = dtype.to_native_dtype().itemsize
        if not shape or itemsize not in (1, 2, 4, 8) or (self.motion and itemsize != 2):
            raise ValueError(
                f"{temporal.NAME}: cannot code an array of shape {shape} and {dtype} with {self.to_dict()}"
            )

    def compute_encoded_size(self, _input_byte_length: int, _chunk_spec: ArraySpec) -> int:
        """Raise, because the size depends on the values."""
        raise NotImplementedError

    def _encode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        encoded = temporal.encode(np.asarray(chunk_array.as_numpy_array()), with_motion=self.motion)
        return chunk_spec.prototype.buffer.from_array_like(encoded.copy())

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        encoded, dtype = np.asarray(chunk_bytes.as_numpy_array()).view(np.uint8), chunk_spec.dtype.to_native_dtype()
        rows = temporal.decode(encoded, chunk_spec.shape, dtype, with_motion=self.motion)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(rows.copy())

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        return self._encode_sync(chunk_array, chunk_spec)

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return self._decode_sync(chunk_bytes, chunk_spec)
