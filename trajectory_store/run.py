"""A run as its readers see it: series as lazy arrays over sealed chunks plus the tail."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from . import manifest as manifests
from .errors import SeriesNotFoundError, StepNotRecordedError, UsageError
from .memmap_source import MemmapSource
from .safetensors_source import SafetensorsSource
from .selection import N_READ_AXES, Indices, select
from .source import Source
from .spec import Series
from .zarr_source import ZarrSource

if TYPE_CHECKING:
    import torch
    import xarray


def open_run(path: str | os.PathLike[str]) -> "Run":
    """Open a run's folder, or a safetensors file as if it were one, read-only; a run may be being written meanwhile.

    Raises RunNotFoundError where there is neither, DamageError where what is needed to read it is damaged, and
    FormatVersionError where a newer version of this package wrote it.
    """
    where = Path(path)
    if where.is_file():
        return Run(SafetensorsSource(where))
    backend = manifests.load(where).backend
    return Run(ZarrSource(where) if backend == "zarr" else MemmapSource(where))


@contextlib.contextmanager
def opened(run: "Run | str | os.PathLike[str]") -> "Iterator[Run]":
    """A run as it was given, or one opened from its path and closed at the end of the block."""
    if isinstance(run, Run):
        yield run
        return
    with open_run(run) as own:
        yield own


class Run:
    """One recording, read-only, also while another process writes it.

    `run["W"]` is a lazy array; `refresh` finds the steps recorded since. Thread-safe but for `refresh` and `close`.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.static: Mapping[str, npt.NDArray[Any]] = _StaticArrays(source)

    @property
    def source(self) -> Source:
        """What it is read from."""
        return self._source

    @property
    def path(self) -> Path:
        """The run's folder, or the safetensors file."""
        return self._source.path

    @property
    def steps(self) -> npt.NDArray[np.int64]:
        """Every step at which something is recorded, int64, increasing."""
        return self._source.spec.steps_before(self._source.recorded_until)

    @property
    def planned_steps(self) -> int | None:
        """How many steps the run was declared to have, None where it was not said."""
        return self._source.spec.steps

    @property
    def series(self) -> Mapping[str, Series]:
        """What is recorded, by name."""
        return self._source.spec.series

    @property
    def attrs(self) -> Mapping[str, Any]:
        """What the run's author said about it."""
        return self._source.attrs

    def __getitem__(self, name: str) -> "LazySeries":
        if name not in self.series:
            raise SeriesNotFoundError(f"{self.path}: no series {name!r}; it has {', '.join(sorted(self.series))}")
        return LazySeries(self._source, name)

    def __contains__(self, name: object) -> bool:
        return name in self.series

    def __iter__(self) -> Iterator[str]:
        return iter(self.series)

    def refresh(self) -> None:
        """Find the steps recorded since the run was opened; lazy series made before see them too."""
        self._source.refresh()

    def close(self) -> None:
        """Give back files and memory; the run cannot be read after."""
        self._source.close()

    def to_xarray(self, *, bf16: str = "bits", chunks: Mapping[str, int] | None = None) -> "xarray.Dataset":
        """Every series as a lazy, dask-backed variable of a Dataset with coordinates `step` and `token`.

        bf16: "bits" for uint16 patterns, "float32" to widen them as they are computed. chunks: sizes by dimension,
        blocks and tiles unless given. Picklable: other processes open the run by its path. Needs the extra `analysis`.
        """
        from .dataset import as_dataset

        return as_dataset(self, bf16=bf16, chunks=chunks)

    def __reduce__(self) -> tuple[Any, ...]:
        from .reopening import reduced_run

        return reduced_run(self)

    def _repr_html_(self) -> str:
        from .notebook import run_html

        return run_html(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        n = len(self.steps)
        of = f" of {self.planned_steps:,}" if self.planned_steps not in (None, n) else ""
        lines = [f"<trajectory_store.Run {self.path} ({self._source.backend}): {n:,}{of} steps>"]
        lines += [f"  {self[name]!r}" for name in self]
        if self.static:
            lines.append(f"  static: {', '.join(self.static)}")
        return "\n".join(lines)


class _StaticArrays(Mapping[str, npt.NDArray[Any]]):
    """Name → array, read when it is first asked for."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._read: dict[str, npt.NDArray[Any]] = {}

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        if name not in self._source.static_names:
            known = ", ".join(self._source.static_names) or "none"
            raise SeriesNotFoundError(f"{self._source.path}: no static array {name!r}; it has {known}")
        if name not in self._read:
            array = self._source.static(name)
            array.flags.writeable = False
            self._read[name] = array
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._source.static_names)

    def __len__(self) -> int:
        return len(self._source.static_names)


class LazySeries:
    """One series of a run as an array that is read where it is indexed.

    Axis 0 is rows: row r is the r-th step of `steps`, which is step r itself for a series recorded at every step.
    Takes numpy's basic indexing with at most one list or mask, and returns copies in the logical dtype, `bits` in the
    storage dtype. Raises StepNotRecordedError past the last recorded step, and DamageError, naming file and step, on
    bytes that fail their checksum.
    """

    def __init__(self, source: Source, name: str, dtype: np.dtype[Any] | None = None) -> None:
        self._source = source
        self.name = name
        self.spec: Series = source.spec.series[name]
        self.dtype: np.dtype[Any] = self.spec.logical_dtype if dtype is None else dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows recorded, …)."""
        return (self.spec.rows_before(self._source.recorded_until), *self.spec.shape)

    @property
    def ndim(self) -> int:
        """Axes, the steps' included."""
        return 1 + len(self.spec.shape)

    @property
    def size(self) -> int:
        """Elements recorded."""
        return self.nbytes // self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the whole series, uncompressed."""
        return self.shape[0] * self.spec.row_bytes

    @property
    def dims(self) -> tuple[str, ...]:
        """The axes' names, "step" first."""
        return ("step", *(self.spec.dims or ()))

    @property
    def steps(self) -> npt.NDArray[np.int64]:
        """The step of each row, int64."""
        return self.spec.steps_of(0, self.shape[0])

    @property
    def bits(self) -> "LazySeries":
        """The same series as bit patterns: uint16 for bfloat16, and the unsigned integer of its size for any other."""
        return LazySeries(self._source, self.name, np.dtype(f"<u{self.dtype.itemsize}"))

    @property
    def path(self) -> Path:
        """The run's folder, or the safetensors file."""
        return self._source.path

    @property
    def source(self) -> Source:
        """What it is read from."""
        return self._source

    @property
    def block_rows(self) -> int:
        """How many rows are read together most cheaply."""
        return self._source.block_rows(self.name)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        selection = select(key, self.shape)
        tokens: Indices | None = selection.read[1] if self.ndim >= N_READ_AXES else None
        try:
            patterns = self._source.read(self.name, selection.read[0], tokens)
        except MemoryError as error:
            raise UsageError(
                f"{self._source.path}: {len(selection.read[0]):,} rows of series {self.name!r} at once do not fit in"
                " memory; take fewer, or go through blocks()"
            ) from error
        return patterns.view(self.dtype)[selection.then]

    def __iter__(self) -> Iterator[Any]:
        for _, block in self.blocks():
            yield from block

    def at_step(self, step: int) -> npt.NDArray[Any]:
        """The row of a step, not of a position; they differ for a series that is not recorded at every step."""
        if not self.spec.is_due(step) or not 0 <= step < self._source.recorded_until:
            raise StepNotRecordedError(f"{self._source.path}: series {self.name!r} has no step {step}")
        row: npt.NDArray[Any] = np.asarray(self[self.spec.rows_before(step)])
        return row

    def blocks(
        self, start: int = 0, stop: int | None = None, *, max_rows: int | None = None
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]]:
        """The rows [start, stop) in order, as (steps, rows) of whole blocks, or of `max_rows` rows at most.

        One block is in memory at a time: bounded, whatever the length of the run.
        """
        n = self.shape[0]
        stop = n if stop is None else min(stop, n)
        size = self.block_rows if max_rows is None else max(1, min(max_rows, self.block_rows))
        while start < stop:
            edge = min(stop, (start // size + 1) * size)
            yield self.spec.steps_of(start, edge), self[start:edge]
            start = edge

    def to_torch(self, rows: Any = ..., tokens: Any = ...) -> "torch.Tensor":
        """The chosen rows and tokens, or all of them, as a CPU tensor, bfloat16 as torch's; needs torch.

        Both are what numpy's basic indexing or one list takes. The tensor shares the memory that was read into.
        """
        from .tensors import as_tensor

        return as_tensor(self, rows if tokens is ... else (slice(None) if rows is ... else rows, tokens))

    def __reduce__(self) -> tuple[Any, ...]:
        from .reopening import reduced_series

        return reduced_series(self)

    def _repr_html_(self) -> str:
        from .notebook import series_html

        return series_html(self)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("a lazy series cannot become an array without a copy")
        array: npt.NDArray[Any] = self[...]
        return array if dtype is None else array.astype(dtype)

    def __repr__(self) -> str:
        dims = ", ".join(f"{dim}: {size:,}" for dim, size in zip(self.dims, self.shape, strict=True))
        dtype = self.spec.dtype if self.dtype == self.spec.logical_dtype else str(self.dtype)
        return f"<LazySeries {self.name!r} ({dims}) {dtype}, {format_bytes(self.nbytes)}>"


def format_bytes(n_bytes: float) -> str:
    """A size as people read it, in powers of 1,000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:,.0f} {unit}" if unit == "bytes" else f"{n_bytes:,.2f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.2f} TB"
