"""One series of a run as an array that is read where it is indexed."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..backends.source import Source
from ..errors import StepNotRecordedError, UsageError
from ..selection import N_READ_AXES, Indices, select
from ..spec import Series

if TYPE_CHECKING:
    import torch

from ..sizes import format_bytes


class LazySeries:
    """One series of a run as an array that is read where it is indexed.

    Axis 0 is rows: row r is the r-th step of `steps`, which is step r itself for a series recorded at every step.
    Indexing is numpy's basic indexing with at most one list or mask. It returns copies in the logical dtype, or in the
    storage dtype from `bits`. It raises StepNotRecordedError past the last recorded step, and DamageError, which names
    file and step, on bytes that fail their checksum. Thread-safe.

    Parameters
    ----------
    source : Source
        What the run is read from.
    name : str
        The series' name.
    dtype : dtype, optional
        The dtype of what is returned; the logical dtype by default.
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
        """Return the row of a step, which is not that of a position if the series is not recorded at every step.

        Parameters
        ----------
        step : int
            The step.

        Returns
        -------
        ndarray
            Shape and dtype of one row.

        Raises
        ------
        StepNotRecordedError
            The series has no row of that step.
        """
        if not self.spec.is_due(step) or not 0 <= step < self._source.recorded_until:
            raise StepNotRecordedError(f"{self._source.path}: series {self.name!r} has no step {step}")
        row: npt.NDArray[Any] = np.asarray(self[self.spec.rows_before(step)])
        return row

    def blocks(
        self, start: int = 0, stop: int | None = None, *, max_rows: int | None = None
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]]:
        """Read rows in order, one block at a time, so that memory is bounded however long the run is.

        Parameters
        ----------
        start, stop : int
            The rows [start, stop); all by default.
        max_rows : int, optional
            Rows that are given at once, at most; a whole block by default.

        Yields
        ------
        steps : ndarray of int64
            The steps of some rows.
        rows : ndarray
            Those rows.
        """
        n = self.shape[0]
        stop = n if stop is None else min(stop, n)
        size = self.block_rows if max_rows is None else max(1, min(max_rows, self.block_rows))
        while start < stop:
            edge = min(stop, (start // size + 1) * size)
            yield self.spec.steps_of(start, edge), self[start:edge]
            start = edge

    def to_torch(self, rows: Any = ..., tokens: Any = ...) -> "torch.Tensor":
        """Return rows and tokens as a CPU tensor; needs torch.

        Parameters
        ----------
        rows, tokens : int, slice, list or mask
            What to take along the first two axes, as numpy's basic indexing with at most one list; all by default.

        Returns
        -------
        torch.Tensor
            bfloat16 as torch's. It shares the memory that was read into.
        """
        from .tensors import as_tensor

        key = rows if tokens is ... else (slice(None) if rows is ... else rows, tokens)
        # numpy's bfloat16 is not torch's, so the patterns are what is handed over.
        is_bfloat16 = self.dtype == self.spec.logical_dtype and self.spec.dtype == "bfloat16"
        return as_tensor((self.bits if is_bfloat16 else self)[key], is_bfloat16=is_bfloat16)

    def cells(self) -> tuple[str, str, str, str, str]:
        """Describe the series as people read it; reads nothing of it.

        Returns
        -------
        tuple of str
            Name, shape, dtype, size and steps.
        """
        shape = ", ".join(f"{dim}: {size:,}" for dim, size in zip(self.dims, self.shape, strict=True))
        dtype = self.spec.dtype if self.dtype == self.spec.logical_dtype else str(self.dtype)
        steps = self.steps
        span = f"{steps[0]:,} to {steps[-1]:,}" if len(steps) else "none yet"
        return self.name, shape, dtype, format_bytes(self.nbytes), span

    def _repr_html_(self) -> str:
        from .html import series_html

        return series_html(self.cells())

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("a lazy series cannot become an array without a copy")
        array: npt.NDArray[Any] = self[...]
        return array if dtype is None else array.astype(dtype)

    def __repr__(self) -> str:
        name, shape, dtype, size, _ = self.cells()
        return f"<LazySeries {name!r} ({shape}) {dtype}, {size}>"
