"""A run as an xarray Dataset: dask arrays that read a chunk when it is computed, in any process."""

import operator
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import bf16 as bf16_bits
from .. import conventions, naming
from ..blocks.layout import TILE_ROW_BYTES
from ..errors import UsageError
from ..words import Bf16Form, check_word
from .series import LazySeries

if TYPE_CHECKING:
    import xarray

STEP = "step"
CHUNK_TILES = 4
"""Tiles of the default backend in a dask chunk: 8 MB by default, so that a task costs far more than its scheduling."""


def as_dataset(
    every: Mapping[str, LazySeries],
    steps: npt.NDArray[np.int64],
    static: Mapping[str, npt.NDArray[Any]],
    attrs: Mapping[str, Any],
    *,
    bf16: Bf16Form = "bits",
    chunks: Mapping[str, int] | None = None,
) -> "xarray.Dataset":
    """Return the dataset that `Run.to_xarray` describes, of all series of a run; reads nothing of a series."""
    check_word("bf16", bf16, Bf16Form)
    try:
        import dask.array
        import xarray
    except ImportError as error:
        raise UsageError('to_xarray needs xarray and dask; install "trajectory-store[analysis]"') from error
    names = _Names(every, static)
    sizes = _checked_chunks(chunks, [dim for name in every for dim in names.dims[name]])
    variables: dict[str, Any] = {}
    coordinates: dict[str, Any] = {STEP: steps}
    for name, series in every.items():
        dims = names.dims[name]
        rows = LazyRows(series.bits if series.spec.dtype == "bfloat16" else series, widen=bf16 == "float32")
        array = dask.array.from_array(rows, chunks=_chunks(series, dims, sizes), asarray=False, meta=rows.meta)
        about = {"logical_dtype": series.spec.dtype} | names.note(name)
        variables[names.variables[name]] = xarray.Variable(dims, array, about)
        coordinates[dims[0]] = series.steps
        if conventions.TOKEN in dims and conventions.TOKEN not in coordinates:  # it is as long in every series
            n_tokens = series.shape[dims.index(conventions.TOKEN)]
            coordinates[conventions.TOKEN] = np.arange(n_tokens)
            ids = conventions.token_ids(static, n_tokens, series=name)
            if ids is not None:
                coordinates[names.token_id] = (conventions.TOKEN, ids)
    in_coordinates = conventions.token_ids_name(static) if names.token_id in coordinates else None
    for name, array in static.items():
        if name != in_coordinates:
            variables[names.variables[name]] = xarray.Variable(names.dims[name], array, names.note(name))
    return xarray.Dataset(variables, coordinates, dict(attrs))


class _Names:
    """What is called how in a dataset, in which a variable cannot have the name of a dimension or a coordinate.

    A dimension that the author named keeps its name, and so do `step` and `token_id` unless a dimension has it. Names
    that are made here get a number behind them if they are taken. A variable whose own name is taken is called
    `NAME_series`, or `NAME_static`.
    """

    def __init__(self, every: Mapping[str, LazySeries], static: Mapping[str, npt.NDArray[Any]]) -> None:
        taken = {STEP, *(dim for series in every.values() for dim in series.dims)}
        self.token_id = _added(conventions.TOKEN_ID, taken)
        self.dims: dict[str, tuple[str, ...]] = {}
        for name, series in every.items():
            step_dim = STEP if series.spec.steps is None else _added(f"{name}_step", taken)
            self.dims[name] = (step_dim, *series.dims[1:])
        for name, array in static.items():
            self.dims[name] = tuple(_added(f"{name}_dim_{axis}", taken) for axis in range(array.ndim))
        occupied = taken | {*every, *static}
        self.variables = {
            name: name if name not in taken else _added(f"{name}_{'series' if name in every else 'static'}", occupied)
            for name in (*every, *static)
        }

    def note(self, name: str) -> dict[str, str]:
        """Return the attribute that says what a variable of another name was recorded as."""
        return {} if self.variables[name] == name else {"recorded_as": name}


def _added(name: str, taken: set[str]) -> str:
    """Return a free name like this one, which is taken from now on."""
    free = naming.free_name(name, taken)
    taken.add(free)
    return free


class LazyRows:
    """A series as dask slices it: bfloat16's bits, or float32 made of them; other dtypes as they are. Picklable."""

    def __init__(self, series: LazySeries, *, widen: bool) -> None:
        self._series = series
        self._widen = widen and series.spec.dtype == "bfloat16"
        self._rows = len(series)  # as long as it was, even if the run grows
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


def _checked_chunks(chunks: object, known: Sequence[str]) -> dict[str, int]:
    """Return the sizes by dimension as ints; UsageError if one is no size, or no dimension of a series has its name."""
    if not isinstance(chunks, (Mapping, NoneType)):
        raise UsageError(f"chunks={chunks!r:.80}: give sizes by dimension, such as {{'step': 256}}")
    sizes: dict[str, int] = {}
    for dim, size in (chunks or {}).items():
        if dim not in known:
            names = ", ".join(repr(name) for name in dict.fromkeys(known))
            raise UsageError(f"chunks: no series has a dimension {dim!r}; choose from {names}")
        try:
            sizes[dim] = int(operator.index(size))
        except TypeError:
            sizes[dim] = 0
        if isinstance(size, bool) or (sizes[dim] < 1 and sizes[dim] != -1):
            raise UsageError(
                f"chunks: dimension {dim!r} cannot have chunks of {size!r:.80}; give an int ≥ 1, or −1 for all"
            )
    return sizes


def _chunks(series: LazySeries, dims: tuple[str, ...], asked: Mapping[str, int]) -> tuple[int, ...]:
    sizes = [max(1, min(series.block_rows, len(series)))]
    if series.ndim > 1:
        token_bytes = max(1, series.spec.row_bytes // series.shape[1])
        sizes.append(min(series.shape[1], CHUNK_TILES * max(1, TILE_ROW_BYTES // token_bytes)))
        sizes.extend(series.shape[2:])
    return tuple(asked.get(dim, size) for dim, size in zip(dims, sizes, strict=True))
