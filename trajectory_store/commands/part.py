"""A part of a series or a static array, read a few rows at a time, whatever it is to become."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bf16 import BFLOAT16, to_float32
from ..errors import SelectionError
from ..run import Run
from ..selection import Indices, positions_of, select
from ..series_spec import Series

PIECE_BYTES = 8 << 20


@dataclass(frozen=True)
class Part:
    """What an index takes out of one array of a run, not read yet.

    shape: numpy's for this index. series: what the rows are of, None for a static array. labels: what one row's values
    are, such as "token=17 dim=3", made when they are asked for. has_rows: whether the first axis of `shape` is rows;
    otherwise there is only one. Nothing here is as long as what is taken, which may be all that a run says it has.
    """

    run: Run
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    series: Series | None
    labels: Callable[[], list[str]]
    has_rows: bool
    _key: Any
    _rows: Indices
    _tokens: Indices | None
    _then: tuple[Any, ...]

    @property
    def n_rows(self) -> int:
        """Rows taken, at least one where the shape has no axis of rows."""
        return len(self._rows)

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        return math.prod(self.shape) * self.dtype.itemsize

    def steps(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """The steps of rows [start, stop) of the part; a static array has none."""
        assert self.series is not None
        return self.series.steps_at(self._rows[start:stop])

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows [start, stop) of the part in its dtype, with an axis of rows in any case."""
        if not self.has_rows or self.series is None:
            array = self.run[self.name] if self.name in self.run else self.run.static[self.name]
            whole: npt.NDArray[Any] = np.asarray(array[self._key]).view(self.dtype)
            return whole[start:stop] if self.has_rows else whole[np.newaxis]
        rows = self.run.source.read(self.name, self._rows[start:stop], self._tokens)
        return np.ascontiguousarray(rows.view(self.dtype)[self._then])

    def pieces(self) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """(number of the first row, rows) of everything in order, some megabytes at a time."""
        row_bytes = max(1, self.nbytes // max(1, self.n_rows))
        read_bytes = row_bytes if self.series is None else max(row_bytes, self.series.row_bytes)
        for start, stop in self._spans(read_bytes):
            yield start, self.read(start, stop)

    def step_pieces(self) -> Iterator[npt.NDArray[np.int64]]:
        """The steps of everything in order, some megabytes at a time."""
        for start, stop in self._spans(np.dtype(np.int64).itemsize):
            yield self.steps(start, stop)

    def _spans(self, row_bytes: int) -> Iterator[tuple[int, int]]:
        at_once = max(1, PIECE_BYTES // row_bytes)
        return ((start, min(start + at_once, self.n_rows)) for start in range(0, self.n_rows, at_once))


def part_of(run: Run, name: str, key: Any, *, bits: bool) -> Part:
    """The part of a series, or of a static array, that `key` takes: as values, or as bit patterns.

    Raises SeriesNotFoundError, SelectionError or StepNotRecordedError before anything is read.
    """
    if name not in run and name in run.static:
        return _of_static(run, name, key, bits=bits)
    series = run[name]
    selection = select(key, series.shape)
    rows, tokens = selection.read[0], selection.read[1] if series.ndim > 1 else None
    has_rows = selection.has_rows
    if has_rows and selection.puts_a_list_before_rows:
        raise SelectionError("with an int apart from a list numpy puts the list's axis first; write 3:4 instead of 3")

    def taken(one_row: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if tokens is not None:
            one_row = one_row[:, positions_of(tokens)]
        # A row's own index moves the axis of a list in numpy, and so the order of the labels.
        result: npt.NDArray[Any] = one_row[selection.of_rows(slice(None) if has_rows else 0)]
        return result

    def labels() -> list[str]:
        places = taken(np.arange(math.prod(series.spec.shape)).reshape(1, *series.spec.shape))
        return _labels(places, series.spec.shape, series.dims[1:], name)

    shape = taken(np.broadcast_to(np.int8(0), (1, *series.spec.shape))).shape  # of a row of no memory
    shape = (len(rows), *shape[1:]) if has_rows else shape
    return Part(
        run=run,
        name=name,
        shape=shape,
        dtype=(series.bits if bits else series).dtype,
        series=series.spec,
        labels=labels,
        has_rows=has_rows,
        _key=key,
        _rows=rows,
        _tokens=tokens,
        _then=selection.of_rows(slice(None)),
    )


def _of_static(run: Run, name: str, key: Any, *, bits: bool) -> Part:
    array = run.static[name]
    try:
        taken = array[key]
        places = np.arange(array.size).reshape(array.shape)[key]
    except IndexError as error:
        raise SelectionError(f"static array {name!r} of shape {array.shape}: {error}") from error
    has_rows = taken.ndim > 0
    dims = tuple(f"dim{axis}" for axis in range(array.ndim))
    return Part(
        run=run,
        name=name,
        shape=taken.shape,
        dtype=np.dtype(f"<u{array.dtype.itemsize}") if bits else array.dtype,
        series=None,
        labels=lambda: (
            _labels(places[:1] if has_rows else places, array.shape, dims, name)
            if taken.ndim > 1 or not has_rows
            else [name]
        ),
        has_rows=has_rows,
        _key=key,
        _rows=range(len(taken) if has_rows else 1),
        _tokens=None,
        _then=(),
    )


def _labels(places: npt.NDArray[np.int64], shape: tuple[int, ...], dims: tuple[str, ...], name: str) -> list[str]:
    """The names of elements, given their places in a row (or array) of `shape`."""
    if not shape:
        return [name]
    indices = np.unravel_index(np.atleast_1d(places).reshape(-1), shape)
    columns = [[f"{dim}={index}" for index in axis.tolist()] for dim, axis in zip(dims, indices, strict=True)]
    return [" ".join(parts) for parts in zip(*columns, strict=True)]


def plain(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Values in a dtype that numpy itself has: bfloat16 widened to float32, exactly."""
    return to_float32(values.view("<u2")) if values.dtype == BFLOAT16 else values
