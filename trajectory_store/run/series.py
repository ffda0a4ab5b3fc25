"""One series of a run as an array that is read where it is indexed."""

import operator
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..backends.source import Source
from ..errors import SelectionError, StepNotRecordedError, UsageError
from ..selection import N_READ_AXES, Indices, select
from ..series_spec import Series
from ..sizes import format_bytes
from .numpy_functions import applied, reduced, replaced, whole, wide

if TYPE_CHECKING:
    import torch


class LazySeries(np.lib.mixins.NDArrayOperatorsMixin):
    """One series of a run as an array that is read where it is indexed.

    Axis 0 is rows: row r is the r-th step of `steps`, which is step r itself for a series recorded at every step. An
    index is numpy's, with at most one list or mask, and gives a copy of what it takes, in the logical dtype or, from
    `bits`, as patterns. All that numpy makes an array of is a list: a range, a torch tensor, a pandas Index.

    numpy's functions take a series as an array, and one of bfloat16 or float16 as float32, exactly: numpy itself adds
    such arrays up in 16 bits, where sums stop growing. `mean`, `sum`, `std`, `var`, `min` and `max`, and numpy's
    functions of these names, read it block by block; operators, as in ``W - 1``, read all of it. The numbers of a
    series with one a step are float32 too if one iterates over them. What an index gives is a plain array: widen it,
    as in ``W[5000].astype("float32").sum()``, before you add it up.

    A torch `DataLoader` takes a series as its data set and gives batches of tensors, bfloat16 too. If it asks for one
    row at a time, as with ``batch_size=None`` or a `ConcatDataset`, torch refuses bfloat16; use `bits` there.

    Thread-safe but while the run is refreshed or closed.

    Parameters
    ----------
    source : Source
        What the run is read from.
    name : str
        The series' name.
    dtype : dtype, optional
        The dtype of what is returned; the logical dtype by default.

    Raises
    ------
    SelectionError
        An index is none of numpy's, or has several lists.
    StepNotRecordedError
        An index is past the last recorded step.
    DamageError
        Bytes that are read fail their checksum; the message names file and step.
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
        try:
            return self.spec.steps_of(0, len(self))
        except MemoryError as error:
            raise UsageError(f"{self.path}: the {len(self):,} steps of {self.name!r} do not fit in memory") from error

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
        try:
            return patterns.view(self.dtype)[selection.then]
        except (IndexError, ValueError) as error:  # such as a list beside False, or more axes than numpy has
            raise SelectionError(f"an index that numpy refuses: {error}") from error

    def __getitems__(self, rows: Sequence[int]) -> "list[torch.Tensor]":
        """Some rows as tensors, read at once: a batch, as torch's DataLoader asks for it."""
        return list(self.to_torch(list(rows)))

    def __iter__(self) -> Iterator[Any]:
        for _, block in self.blocks():
            yield from self._summable(block)

    def __reversed__(self) -> Iterator[Any]:
        starts = range(0, len(self), self.block_rows)
        for start in reversed(starts):
            yield from self._summable(self[start : start + self.block_rows])[::-1]

    def _summable(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Rows as iteration gives them: Python's `sum` adds up numbers as they come, in 16 bits if they have 16."""
        return wide(rows) if self.ndim == 1 else rows

    def __contains__(self, value: Any) -> bool:
        """Whether any element equals the value, as for an array of numpy's."""
        return any(bool((block == value).any()) for _, block in self.blocks())

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
        SelectionError
            The step is no int.
        StepNotRecordedError
            The series has no row of that step.
        """
        if isinstance(step, bool) or not isinstance(step, (int, np.integer)):
            raise SelectionError(f"a step is an int, found {step!r:.80}")
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
            The rows [start, stop), as in a slice; all by default.
        max_rows : int, optional
            Rows that are given at once, at most; a whole block by default.

        Yields
        ------
        steps : ndarray of int64
            The steps of some rows.
        rows : ndarray
            Those rows.

        Raises
        ------
        SelectionError
            A number of rows is no int.
        """
        try:
            start, stop, _ = slice(start, stop).indices(self.shape[0])
            max_rows = None if max_rows is None else operator.index(max_rows)
        except TypeError as error:
            raise SelectionError("blocks: start, stop and max_rows are ints, or None for all") from error
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

    def mean(self, axis: Any = None, dtype: Any = None, out: Any = None, *, keepdims: bool = False) -> Any:
        """Average over some axes, block by block.

        Parameters
        ----------
        axis : int or tuple of int, optional
            The axes to average over; all unless given.
        dtype : dtype, optional
            Of the result. Unless given it is float32, or float64 for float64, ints and booleans. The sum is in float64.
        out : ndarray, optional
            Where to put the result.
        keepdims : bool
            Whether the axes stay, with one entry.

        Returns
        -------
        ndarray or scalar
            As `numpy.mean` of the array.
        """
        return reduced("mean", self, axis, dtype, out, keepdims=keepdims)

    def sum(self, axis: Any = None, dtype: Any = None, out: Any = None, *, keepdims: bool = False) -> Any:
        """Add up over some axes, block by block.

        Parameters
        ----------
        axis : int or tuple of int, optional
            The axes to add up over; all unless given.
        dtype : dtype, optional
            Of the result. Unless given it is float32 for floats, float64 for float64, and 64 bits wide for ints and
            booleans. Floats are added up in float64.
        out : ndarray, optional
            Where to put the result.
        keepdims : bool
            Whether the axes stay, with one entry.

        Returns
        -------
        ndarray or scalar
            As `numpy.sum` of the array.
        """
        return reduced("sum", self, axis, dtype, out, keepdims=keepdims)

    def std(
        self, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0, *, keepdims: bool = False
    ) -> Any:
        """Find the standard deviation over some axes, block by block, in float64.

        Parameters
        ----------
        axis : int or tuple of int, optional
            The axes to go over; all unless given.
        dtype : dtype, optional
            Of the result; as for `mean` unless given.
        out : ndarray, optional
            Where to put the result.
        ddof : float
            What the number of values is lessened by in the divisor.
        keepdims : bool
            Whether the axes stay, with one entry.

        Returns
        -------
        ndarray or scalar
            As `numpy.std` of the array.
        """
        return reduced("std", self, axis, dtype, out, keepdims=keepdims, ddof=ddof)

    def var(
        self, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0, *, keepdims: bool = False
    ) -> Any:
        """Find the variance over some axes, block by block, in float64.

        Parameters
        ----------
        axis : int or tuple of int, optional
            The axes to go over; all unless given.
        dtype : dtype, optional
            Of the result; as for `mean` unless given.
        out : ndarray, optional
            Where to put the result.
        ddof : float
            What the number of values is lessened by in the divisor.
        keepdims : bool
            Whether the axes stay, with one entry.

        Returns
        -------
        ndarray or scalar
            As `numpy.var` of the array.
        """
        return reduced("var", self, axis, dtype, out, keepdims=keepdims, ddof=ddof)

    def min(self, axis: Any = None, out: Any = None, *, keepdims: bool = False) -> Any:
        """Find the smallest value over some axes, block by block; NaN if there is one.

        Parameters
        ----------
        axis : int or tuple of int, optional
            The axes to go over; all unless given.
        out : ndarray, optional
            Where to put the result.
        keepdims : bool
            Whether the axes stay, with one entry.

        Returns
        -------
        ndarray or scalar
            As `numpy.min` of the array; float32 for bfloat16 and float16.
        """
        return reduced("min", self, axis, None, out, keepdims=keepdims)

    def max(self, axis: Any = None, out: Any = None, *, keepdims: bool = False) -> Any:
        """Find the largest value over some axes, block by block; NaN if there is one.

        Parameters
        ----------
        axis : int or tuple of int, optional
            The axes to go over; all unless given.
        out : ndarray, optional
            Where to put the result.
        keepdims : bool
            Whether the axes stay, with one entry.

        Returns
        -------
        ndarray or scalar
            As `numpy.max` of the array; float32 for bfloat16 and float16.
        """
        return reduced("max", self, axis, None, out, keepdims=keepdims)

    def cells(self) -> tuple[str, str, str, str, str]:
        """Describe the series as people read it; reads nothing of it.

        Returns
        -------
        tuple of str
            Name, shape, dtype, size and steps.
        """
        shape = ", ".join(f"{dim}: {size:,}" for dim, size in zip(self.dims, self.shape, strict=True))
        dtype = self.spec.dtype if self.dtype == self.spec.logical_dtype else str(self.dtype)
        steps = self.spec.step_range(0, len(self)) if len(self) else None
        span = f"{steps[0]:,} to {steps[-1]:,}" if steps is not None else "none yet"
        return self.name, shape, dtype, format_bytes(self.nbytes), span

    def _repr_html_(self) -> str:
        from .html import series_html

        return series_html(self.cells())

    __hash__ = object.__hash__  # which goes with an == of elements, as it does not for arrays, for a series is no value

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("a lazy series cannot become an array without a copy")
        wanted = self.dtype if dtype is None else np.dtype(dtype)
        if wanted == self.dtype or not wanted.itemsize:  # as long as its longest text
            rows: npt.NDArray[Any] = self[...]
            return rows.astype(wanted, copy=False)
        array = np.empty(self.shape, dtype=wanted)
        at = 0
        for _, block in self.blocks():
            array[at : at + len(block)] = block
            at += len(block)
        return array

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        del types  # whatever they are, they meet arrays
        return applied(function, args, kwargs, LazySeries)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return getattr(ufunc, method)(*replaced(inputs, LazySeries, whole), **replaced(kwargs, LazySeries, whole))

    def __repr__(self) -> str:
        name, shape, dtype, size, _ = self.cells()
        return f"<LazySeries {name!r} ({shape}) {dtype}, {size}>"
