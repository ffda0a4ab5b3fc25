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
    """Differences along the first axis of a chunk as bit planes; `temporal` has the arithmetic."""

    motion: bool = False
    is_fixed_size = True

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

    def resolve_metadata(self, chunk_spec: ArraySpec) -> ArraySpec:
        """What the next codec is given: uint8 of shape (rows, bytes of a row's planes)."""
        zero = UInt8()
        shape = self._geometry(chunk_spec).planes_shape
        return replace(chunk_spec, shape=shape, dtype=zero, fill_value=zero.default_scalar())

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        """Refuse an array that has no rows, or whose items cannot be bfloat16 where motion is asked for."""
        del chunk_grid
        itemsize = dtype.to_native_dtype().itemsize
        if not shape or itemsize not in (1, 2, 4, 8) or (self.motion and itemsize != 2):
            raise ValueError(
                f"{temporal.NAME}: cannot code an array of shape {shape} and {dtype} with {self.to_dict()}"
            )

    def compute_encoded_size(self, _input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """The planes' size, which follows from the shape."""
        n_rows, row_bytes = self._geometry(chunk_spec).planes_shape
        return n_rows * row_bytes

    def _geometry(self, chunk_spec: ArraySpec) -> temporal.Geometry:
        return temporal.Geometry(chunk_spec.shape, chunk_spec.dtype.to_native_dtype().itemsize, self.motion)

    def _encode_sync(self, chunk_array: NDBuffer, _chunk_spec: ArraySpec) -> NDBuffer:
        rows = np.asarray(chunk_array.as_numpy_array())
        return chunk_array.from_numpy_array(temporal.encode(rows, with_motion=self.motion))

    def _decode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        planes, dtype = chunk_array.as_numpy_array(), chunk_spec.dtype.to_native_dtype()
        rows = temporal.decode(planes, chunk_spec.shape, dtype, with_motion=self.motion)
        return chunk_array.from_numpy_array(rows)

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        return self._encode_sync(chunk_array, chunk_spec)

    async def _decode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        return self._decode_sync(chunk_array, chunk_spec)
