"""A run as an xarray Dataset: dask arrays that read a chunk where it is computed, in any process."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import bf16 as bf16_bits
from .. import conventions
from ..blocks.layout import TILE_ROW_BYTES
from ..errors import UsageError
from .series import LazySeries

if TYPE_CHECKING:
    import xarray

BF16_FORMS = ("bits", "float32")
CHUNK_TILES = 4
"""Tiles of the default backend in a dask chunk: 8 MB by default, so that a task costs far more than its scheduling."""


def as_dataset(
    every: Mapping[str, LazySeries],
    steps: npt.NDArray[np.int64],
    static: Mapping[str, npt.NDArray[Any]],
    attrs: Mapping[str, Any],
    *,
    bf16: str = "bits",
    chunks: Mapping[str, int] | None = None,
) -> "xarray.Dataset":
    """Every series of a run as a lazy variable, its static arrays as they are; reads nothing of a series.

    bf16: "bits" leaves bfloat16 as uint16 patterns, "float32" widens them, exactly, as they are computed; the
    attribute `logical_dtype` says what a variable was recorded as. chunks: sizes by dimension; by default a block of
    steps and a few whole tiles of tokens.

    Coordinates: `step`; `token`, counted from 0, if a series has that dimension; `token_id`, if the run says which
    tokens its rows are (`conventions.token_ids`). A series that is not recorded at every step has a dimension of its
    own, named as on disk. The dataset ends where the run ended when it was made. It can be
    sent to other processes, which open the run by its path. Raises UsageError without xarray and dask.
    """
    if bf16 not in BF16_FORMS:
        raise UsageError(f"bf16={bf16!r} is unknown; choose from {', '.join(map(repr, BF16_FORMS))}")
    try:
        import dask.array
        import xarray
    except ImportError as error:
        raise UsageError('to_xarray needs xarray and dask; install "trajectory-store[analysis]"') from error
    variables: dict[str, Any] = {}
    coordinates: dict[str, Any] = {"step": steps}
    for name, series in every.items():
        step_dim = "step" if series.spec.steps is None else f"{name}_step"
        dims = (step_dim, *series.dims[1:])
        rows = LazyRows(series.bits if series.spec.dtype == "bfloat16" else series, widen=bf16 == "float32")
        array = dask.array.from_array(rows, chunks=_chunks(series, dims, chunks), asarray=False, meta=rows.meta)
        variables[name] = xarray.Variable(dims, array, {"logical_dtype": series.spec.dtype})
        coordinates[step_dim] = series.steps
        if conventions.TOKEN in dims and conventions.TOKEN not in coordinates:  # it is as long in every series
            n_tokens = series.shape[dims.index(conventions.TOKEN)]
            coordinates[conventions.TOKEN] = np.arange(n_tokens)
            ids = conventions.token_ids(static, n_tokens, series=name)
            if ids is not None:
                coordinates[conventions.TOKEN_ID] = (conventions.TOKEN, ids)
    in_coordinates = conventions.token_ids_name(static) if conventions.TOKEN_ID in coordinates else None
    for name, array in static.items():
        if name != in_coordinates and name not in variables and name not in coordinates:
            variables[name] = xarray.Variable([f"{name}_dim_{axis}" for axis in range(array.ndim)], array)
    return xarray.Dataset(variables, coordinates, dict(attrs))


class LazyRows:
    """A series as dask slices it: bfloat16 bits, or float32 made of them; anything else as it is. Picklable."""

    def __init__(self, series: LazySeries, *, widen: bool) -> None:
        self._series = series
        self._widen = widen and series.spec.dtype == "bfloat16"
        self._rows = len(series)  # as long as it was, also where the run grows
        self.dtype = np.dtype(np.float32) if self._widen else series.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, …)."""
        return (self._rows, *self._series.shape[1:])

    @property
    def ndim(self) -> int:
        """Axes, the steps' included."""
        return self._series.ndim

    @property
    def meta(self) -> npt.NDArray[Any]:
        """An empty array of the same kind."""
        return np.empty((0,) * self.ndim, dtype=self.dtype)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        rows, *rest = key if isinstance(key, tuple) else (key,)
        if isinstance(rows, slice):
            rows = slice(*rows.indices(self._rows))
        values: npt.NDArray[Any] = np.asarray(self._series[(rows, *rest)])
        return bf16_bits.to_float32(values) if self._widen else values

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return str(self._series.path), self._series.name, self._rows, self._widen


def _chunks(series: LazySeries, dims: tuple[str, ...], asked: Mapping[str, int] | None) -> tuple[int, ...]:
    sizes = [max(1, min(series.block_rows, len(series)))]
    if series.ndim > 1:
        token_bytes = max(1, series.spec.row_bytes // series.shape[1])
        sizes.append(min(series.shape[1], CHUNK_TILES * max(1, TILE_ROW_BYTES // token_bytes)))
        sizes.extend(series.shape[2:])
    return tuple((asked or {}).get(dim, size) for dim, size in zip(dims, sizes, strict=True))
