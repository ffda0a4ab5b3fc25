"""A run as its readers see it: series as lazy arrays over sealed chunks plus the tail."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from .. import files, place
from ..backends import manifest as manifests
from ..backends.safetensors.source import SafetensorsSource
from ..backends.source import Source
from ..backends.table import BACKENDS
from ..errors import SeriesNotFoundError, UsageError
from ..plain_text import printable
from ..series_spec import Series
from ..words import Bf16Form
from .series import LazySeries

if TYPE_CHECKING:
    import xarray


def open_run(path: str | os.PathLike[str]) -> "Run":
    """Open a run read-only; it may be written by another process meanwhile.

    Parameters
    ----------
    path : str or PathLike
        The run's folder, or a safetensors file, which is read as if it were a run.

    Returns
    -------
    Run
        The run as far as it is recorded now; `Run.refresh` finds what comes later. It is a context manager.

    Raises
    ------
    RunNotFoundError
        There is neither a run nor a file.
    DamageError
        What is needed to read it is damaged; as MalformedFileError if it is a file.
    FormatVersionError
        A newer version of this package wrote it.
    """
    where = place.local(path)
    with files.storage_errors("open", where):
        is_file = where.is_file()
    if is_file:
        return Run(SafetensorsSource(where))
    return Run(BACKENDS[manifests.load(where).backend].open_source(where))


@contextlib.contextmanager
def opened(run: "Run | str | os.PathLike[str]") -> "Iterator[Run]":
    """A run as it was given, or one opened from its path and closed at the end of the block."""
    if isinstance(run, Run):
        yield run
        return
    with open_run(run) as own:
        yield own


class Run(Mapping[str, LazySeries]):
    """One recording, read-only, also while another process writes it: a mapping of its series by name.

    `run["W"]` is a lazy array; `refresh` finds the steps recorded since. A run is equal to itself alone: what is in two
    is compared by `compare`. Thread-safe but for `refresh` and `close`.
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
        try:
            return self._source.spec.steps_before(self._source.recorded_until)
        except MemoryError as error:
            raise UsageError(f"{self.path}: its steps do not fit in memory as a list") from error

    @property
    def planned_steps(self) -> int | None:
        """How many steps the run was declared to have, None if it was not said."""
        return self._source.spec.steps

    @property
    def series(self) -> Mapping[str, Series]:
        """What is recorded, by name."""
        return self._source.spec.series

    @property
    def attrs(self) -> Mapping[str, Any]:
        """What the run's author said about it."""
        return self._source.attrs

    def __getitem__(self, name: str) -> LazySeries:
        if name not in self:
            raise SeriesNotFoundError(f"{self.path}: no series {name!r}; it has {', '.join(sorted(self.series))}")
        return LazySeries(self._source, name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self.series

    def __iter__(self) -> Iterator[str]:
        return iter(self.series)

    def __len__(self) -> int:
        return len(self.series)

    # Mapping's would read two runs to the end, and could not be hashed; a closed run must be neither.
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def refresh(self) -> None:
        """Find the steps recorded since the run was opened; lazy series made before see them too."""
        self._source.refresh()

    def close(self) -> None:
        """Give back files and memory; the run cannot be read after."""
        self._source.close()

    def to_xarray(self, *, bf16: Bf16Form = "bits", chunks: Mapping[str, int] | None = None) -> "xarray.Dataset":
        """Return the run as an xarray Dataset whose variables are lazy dask arrays; needs the extra `analysis`.

        Every series is a variable with the attribute `logical_dtype`, and every static array a variable that is read
        at once. The dataset ends where the run ended when it was made. It can be pickled, and other processes then
        open the run by its path.

        Parameters
        ----------
        bf16 : {"bits", "float32"}
            How bfloat16 is given: as uint16 bit patterns, or widened to float32, exactly, as it is computed.
        chunks : Mapping of str to int, optional
            Entries of a dask chunk by dimension, −1 for all. A dimension that is left out has a block of steps, or some
            whole tiles of tokens, so that no block is decoded for two chunks.

        Returns
        -------
        xarray.Dataset
            Its coordinates are `step`; `token`, counted from 0, if a series has that dimension; and `token_id`, if the
            run says which tokens its rows are. A series that is not recorded at every step has a dimension
            `NAME_step` of its own.

        Raises
        ------
        UsageError
            xarray or dask is missing, `bf16` is unknown, or `chunks` names a dimension that no series has or a size
            below 1.

        Notes
        -----
        In a dataset no variable can have the name of a dimension or of a coordinate. A series or static array of such a
        name is called `NAME_series` or `NAME_static` there, and its attribute `recorded_as` is its name. The names
        `NAME_step`, `token_id` and `NAME_dim_0` get a number behind them if the author's dimensions have them already.

        `xarray.concat` aligns two runs by `token`, the place of a row, although row 3 may be another token in each.
        Make the ids the index first: ``dataset.swap_dims(token="token_id")``.
        """
        from .dataset import as_dataset

        every = {name: self[name] for name in self}
        return as_dataset(every, self.steps, self.static, self.attrs, bf16=bf16, chunks=chunks)

    def _repr_html_(self) -> str:
        from html import escape

        from .html import run_html

        title = f"<b>Run</b> <code>{escape(str(self.path))}</code> ({self._source.backend}): {self._how_many()}"
        return run_html(title, [self[name].cells() for name in self], self.static, self.attrs)

    def _how_many(self) -> str:
        n = self._source.spec.n_steps_before(self._source.recorded_until)
        if n is None:
            return "more steps than are counted"
        of = f" of {self.planned_steps:,}" if self.planned_steps not in (None, n) else ""
        return f"{n:,}{of} steps"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        lines = [f"<trajectory_store.Run {self.path} ({self._source.backend}): {self._how_many()}>"]
        lines += [f"  {self[name]!r}" for name in self]
        if self.static:
            lines.append(f"  static: {', '.join(self.static)}")
        return "\n".join(printable(line) for line in lines)


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
