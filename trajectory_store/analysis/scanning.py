"""One pass over a series in step order, for any number of analyses at once, on all cores.

Every block is cut into tiles of tokens, and each tile into slabs of some rows that fit in a core's cache. An
analysis looks at each slab on its own (`of_tile`, on any thread or machine). Then it puts the parts together in a fixed
order (`update`, on one thread, blocks in step order, tiles in token order). So a result depends neither on the number
of threads nor on the backend. A slab also has the row before its first one, also if that row is in the block before.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict, TypeVar, Unpack

import numpy as np
import numpy.typing as npt

from ..blocks.layout import TILE_ROW_BYTES
from ..cores import usable_cores
from ..errors import SeriesNotFoundError, UsageError
from ..options import takes
from ..progress import Meter, Progress
from ..run import LazySeries, Run
from .arrays import Recorded, as_series
from .scanned_block import ScannedBlock, TileRows
from .slab import Slab, SlabPlace

BITS_DTYPES = ("bfloat16", "uint16")
"""How the bits of bfloat16 can be stored; the notebooks' own files hold them as uint16."""

_N_AXES = 3


@dataclass(frozen=True)
class Extent:
    """What a scan covers: the step of each row, and the size of a row."""

    steps: npt.NDArray[np.int64]
    n_tokens: int
    dim: int


R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Accumulator(Protocol[R_co]):
    """Puts the parts of a scan together."""

    def update(self, block: ScannedBlock, parts: Sequence[tuple[SlabPlace, Any]]) -> None:
        """Take the next block: (place, what `of_tile` said) of each slab that said something, tile by tile."""

    def result(self) -> R_co:
        """What was found, once every block was taken."""


@dataclass(frozen=True)
class Needs:
    """What an analysis asks of a run.

    name: what it is called in messages. every_step: each row must be one step after the row before, as all that is
    about moves needs. series: other series that it looks at. whole_block: its accumulator looks at whole rows
    (`ScannedBlock.row`), so the block is kept in memory until then.
    """

    name: str
    every_step: bool = True
    series: tuple[str, ...] = ()
    whole_block: bool = False


class Analysis(Protocol[R_co]):
    """A question about one series, in two halves: what each slab says, and how to put that together into an R."""

    # A class writes `needs = Needs(…)` without an annotation: a dataclass would take it for a field, and pyright
    # lets no ClassVar stand for a property.
    @property
    def needs(self) -> Needs:
        """What it asks of a run."""

    def of_tile(self, slab: Slab) -> Any:
        """Look at one slab; called on any thread or machine, so it keeps nothing and changes nothing.

        Parameters
        ----------
        slab : Slab
            Some rows of some tokens, and the row before them.

        Returns
        -------
        Any
            What the slab says, for `Accumulator.update`; None if it has nothing to say.
        """

    def begin(self, extent: Extent) -> Accumulator[R_co]:
        """Begin to put parts together.

        Parameters
        ----------
        extent : Extent
            What the pass covers.

        Returns
        -------
        Accumulator
            What takes the parts, on one thread, and has the result.
        """


class ScanOptions(TypedDict, total=False):
    """How a pass is made, for every function that makes one; all of it may be left out.

    Attributes
    ----------
    threads : int or None
        Threads that look at tiles; every core that the process may use unless given.
    executor : concurrent.futures.Executor or None
        Where the tiles are looked at instead, for example `dask.distributed.Client(...).get_executor()`. The workers
        open the run by its path; results are the same bits.
    progress : callable or None
        Called with the bytes done and the bytes there are, first with 0 done.
    """

    threads: int | None
    executor: Executor | None
    progress: Progress | None


@takes(ScanOptions)
def scan_one(
    recorded: Recorded | Mapping[str, LazySeries],
    analysis: Analysis[R],
    *,
    series: str = "W",
    **options: Unpack[ScanOptions],
) -> R:
    """Answer one analysis in one pass, as `scan` does.

    Parameters
    ----------
    recorded : Run, LazySeries, MemorySink, numpy.ndarray or mapping
        What `scan` takes.
    analysis : Analysis
        What is asked, such as `FreezeOnset()`.
    series : str
        The series that is scanned.
    **options : ScanOptions
        Threads, executor and progress.

    Returns
    -------
    R
        The analysis' own result.

    Raises
    ------
    UsageError
        The analysis needs something that the series does not have.
    """
    result: R
    (result,) = scan(recorded, [analysis], series=series, **options)
    return result


def scan(
    recorded: Recorded | Mapping[str, LazySeries],
    analyses: Sequence[Analysis[Any]],
    *,
    series: str = "W",
    threads: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> list[Any]:
    """Answer several analyses in one pass over a series.

    Parameters
    ----------
    recorded : Run, LazySeries, MemorySink, ndarray or mapping
        What holds the rows, (step, token, dim) of bfloat16 or its bits as uint16; or a mapping of series with as many
        rows, the first of which is scanned.
    analyses : sequence of Analysis
        What is asked.
    series : str
        The series that is scanned.
    threads : int, optional
        Threads that look at tiles; every core that the process may use by default.
    executor : concurrent.futures.Executor, optional
        Where the tiles are looked at instead, for example `dask.distributed.Client(...).get_executor()`. The workers
        open the run by its path; results are the same bits.
    progress : callable, optional
        Called with the bytes done and the bytes there are, first with 0 done.

    Returns
    -------
    list of Any
        The result of each analysis, in the given order.

    Raises
    ------
    UsageError
        An analysis needs something that the series does not have.

    Notes
    -----
    Memory: one block, what the analyses return, and a slab for each thread.

    Examples
    --------
    >>> bits = np.array([[[1], [5]], [[2], [5]], [[2], [5]]], dtype=np.uint16)  # 3 steps, 2 tokens, 1 dim
    >>> onset, displacement = analysis.scan(bits, [analysis.FreezeOnset(), analysis.DisplacementNorms()])
    >>> onset
    array([1, 0])
    """
    named = _named_series(recorded, analyses, series)
    main = next(iter(named.values()))
    check_series(main, " and ".join(analysis.needs.name for analysis in analyses) or "a scan")
    _check_steps(main, analyses)
    _, n_tokens, dim = main.shape
    extent = Extent(main.steps, n_tokens, dim)
    accumulators = [analysis.begin(extent) for analysis in analyses]
    with _Workers(threads, executor) as workers:
        _run(workers, named, extent, analyses, accumulators, progress)
    return [accumulator.result() for accumulator in accumulators]


def _run(
    workers: "_Workers",
    named: Mapping[str, LazySeries],
    extent: Extent,
    analyses: Sequence[Analysis[Any]],
    accumulators: Sequence[Accumulator[Any]],
    progress: Progress | None,
) -> None:
    main = next(iter(named.values()))
    width = tile_tokens(extent)
    tiles = [slice(first, min(first + width, extent.n_tokens)) for first in range(0, extent.n_tokens, width)]
    functions = [analysis.of_tile for analysis in analyses]
    keep = workers.share_memory and any(analysis.needs.whole_block for analysis in analyses)
    halos: list[npt.NDArray[Any] | None] = [None] * len(tiles)
    n_rows, size = len(extent.steps), main.block_rows
    meter = Meter(n_rows * main.spec.row_bytes, progress)
    for start in range(0, n_rows, size):
        stop = min(start + size, n_rows)
        jobs = [TileRows(named, start, stop, tile, halo) for tile, halo in zip(tiles, halos, strict=True)]
        done = list(workers.map(TileRows.run, jobs, itertools.repeat(functions), keep=keep))
        halos = [one.last_row for one in done]
        block = ScannedBlock(
            extent.steps[start:stop], slice(start, stop), jobs, [one.bits for one in done], workers.map
        )
        for index, accumulator in enumerate(accumulators):
            parts = [(place, answers[index]) for one in done for place, answers in one.parts]
            accumulator.update(block, [part for part in parts if part[1] is not None])
        del done, block, parts  # or they would be held while the next block is read
        meter.add((stop - start) * main.spec.row_bytes)


def tile_tokens(extent: Extent) -> int:
    """Tokens of a tile: those of a chunk of the default backend, whatever the backend, so that sums group alike."""
    return max(1, min(extent.n_tokens, TILE_ROW_BYTES // (extent.dim * 2)))


class _Workers:
    """Where jobs run: this thread, a pool of threads, or somebody's executor."""

    def __init__(self, threads: int | None, executor: Executor | None) -> None:
        if threads is not None and threads < 1:
            raise UsageError(f"threads={threads}: a scan needs at least one")
        n = threads if threads is not None else usable_cores()
        self.share_memory = executor is None
        self._own = ThreadPoolExecutor(n, thread_name_prefix="trajectory-scan") if executor is None and n > 1 else None
        self._executor = executor or self._own

    def map(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Any]:
        """Results in order; everything is submitted at once."""
        if self._executor is None:
            return (function(*each, **options) for each in zip(*arguments, strict=False))
        futures: list[Future[Any]] = [
            self._executor.submit(function, *each, **options) for each in zip(*arguments, strict=False)
        ]
        return (future.result() for future in futures)

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, *error: object) -> None:
        if self._own is not None:
            self._own.shutdown(cancel_futures=True)


def _named_series(
    recorded: Recorded | Mapping[str, LazySeries], analyses: Sequence[Analysis[Any]], name: str
) -> dict[str, LazySeries]:
    if isinstance(recorded, Mapping) and not isinstance(recorded, Run):
        return dict(recorded)
    named = {name: as_series(recorded, name)}
    for analysis in analyses:
        for other in analysis.needs.series:
            if isinstance(recorded, (LazySeries, np.ndarray)):
                raise UsageError(f"{analysis.needs.name} needs the series {other!r} too, so give it the whole run")
            try:
                named[other] = as_series(recorded, other)
            except SeriesNotFoundError as error:
                raise UsageError(f"{analysis.needs.name} needs a series {other!r} beside {name!r}: {error}") from error
    return named


def check_series(series: LazySeries, wants: str) -> None:
    """Raise UsageError unless `series` has recorded (step, token, dim) of bfloat16 bits; `wants` says who needs it."""
    where = f"{series.path}, series {series.name!r}"
    if series.spec.dtype not in BITS_DTYPES:
        raise UsageError(f"{where}: {wants} needs bfloat16, or its bits as uint16, found {series.spec.dtype}")
    if series.ndim != _N_AXES:
        raise UsageError(f"{where}: {wants} needs the axes (step, token, dim), found {series.dims}")
    if not len(series):
        raise UsageError(f"{where}: {wants} needs at least one recorded step")


def _check_steps(series: LazySeries, analyses: Sequence[Analysis[Any]]) -> None:
    steps = series.steps
    for analysis in analyses:
        if analysis.needs.every_step and (np.diff(steps) != 1).any():
            raise UsageError(
                f"{series.path}, series {series.name!r}: {analysis.needs.name} needs every step,"
                f" found {len(steps):,} steps from {steps[0]} to {steps[-1]}"
            )
