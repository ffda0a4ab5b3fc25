"""Everything the report says about a run, from one pass over its series."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import analysis, conventions
from ..analysis.phases import Regimes
from ..analysis.scanning import check_series
from ..errors import UsageError
from ..files import folder_bytes
from ..progress import Progress
from ..run import LazySeries, Run
from .bins import StepBins, bins_of
from .moves import Motion, MotionOf
from .tokens import token_names
from .worldlines import Worldlines, trace

_LATE_SHARE = 0.01
"""A token that moved in this last share of the run may be pausing, not frozen."""


@dataclass(frozen=True)
class Findings:
    """Everything that the report says about a run.

    Attributes
    ----------
    run : Run
        The run.
    series : LazySeries
        The series that was looked at.
    steps : ndarray of int64, shape (n,)
        Those that have a step before, because a move is between two.
    bins : StepBins
        How the figures group steps.
    onset : ndarray of int64, shape (tokens,)
        The last step at which each token moved; 0 for never.
    motion : Motion
        Heat, phases and moves.
    phase_names : tuple of str
        The phases, the coldest first.
    cloud : Cloud
        Centre and width of the tokens' cloud.
    loss : tuple of ndarray or None
        Steps and values; None if no loss is recorded.
    worldlines : Worldlines
        The ways of some tokens.
    ids : ndarray of int64, shape (tokens,)
        Each token's id, or its row if the run does not say.
    names : list of str or None
        Each token's string; None if neither the run nor a tokenizer says.
    """

    run: Run
    series: LazySeries
    steps: npt.NDArray[np.int64]
    bins: StepBins
    onset: npt.NDArray[np.int64]
    motion: Motion
    phase_names: tuple[str, ...]
    cloud: analysis.Cloud
    loss: tuple[npt.NDArray[np.int64], npt.NDArray[Any]] | None
    worldlines: Worldlines
    ids: npt.NDArray[np.int64]
    names: list[str] | None

    @property
    def domain(self) -> tuple[int, int]:
        """The first and last step at which there may be a move."""
        return int(self.steps[0]), int(self.steps[-1])

    @property
    def n_tokens(self) -> int:
        """Rows of the series."""
        return len(self.onset)

    @property
    def n_late(self) -> int:
        """Tokens that moved so late that their freeze may lie beyond the run."""
        first, last = self.domain
        return int(np.count_nonzero(self.onset > last - (last - first + 1) * _LATE_SHARE))

    def frozen_share(self, steps: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the share of tokens that do not move after each of some steps.

        Parameters
        ----------
        steps : ndarray of int64
            The steps.

        Returns
        -------
        ndarray of float64
            From 0 to 1, one for each step.
        """
        share: npt.NDArray[np.float64] = np.searchsorted(np.sort(self.onset), steps, side="right") / self.n_tokens
        return share

    def frozen_at(self, share: float) -> int:
        """Find the first step after which at least a share of the tokens does not move.

        Parameters
        ----------
        share : float
            From 0 to 1.

        Returns
        -------
        int
            The step.
        """
        return int(np.sort(self.onset)[max(0, int(np.ceil(share * self.n_tokens)) - 1)])


def findings(
    run: Run, *, series: str = "W", tokenizer: Path | None = None, progress: Progress | None = None
) -> Findings:
    """Look at a run once, for everything that the report shows.

    Parameters
    ----------
    run : Run
        The run.
    series : str
        The series to look at, (step, token, dim) of bfloat16 or its bits.
    tokenizer : Path, optional
        The run's `tokenizer.json`, for the tokens' strings. By default they are the run's own, if it has any.
    progress : callable, optional
        Called with the bytes done and the bytes there are, first with 0 done.

    Returns
    -------
    Findings
        Numbers, not figures. Their memory does not grow with steps × tokens.

    Raises
    ------
    SeriesNotFoundError
        There is no such series.
    UsageError
        The series is no (step, token, dim) of bfloat16 at every step, it has fewer than two steps, or the tokenizer is
        not the one that the run was trained with.
    RunNotFoundError
        There is no tokenizer at the path.
    MalformedFileError
        The file is no tokenizer.

    Warns
    -----
    ConventionWarning
        The run's ids or strings of tokens do not fit the series, and are not used.
    """
    recorded = run[series]
    check_series(recorded, "the report")
    _, n_tokens, dim = recorded.shape
    steps = recorded.steps
    if len(steps) < 2 or not n_tokens or not dim:
        raise UsageError(
            f"{run.path}, series {series!r}: the report needs two steps and one token at least, found"
            f" {len(steps):,} × {n_tokens:,} × {dim:,}"
        )
    known = conventions.token_ids(run.static, n_tokens, series=series)
    ids = np.arange(n_tokens) if known is None else known
    names = token_names(run, series, ids, tokenizer)
    bins = bins_of(int(steps[1]), int(steps[-1]), n_tokens=n_tokens)
    scheme = Regimes()
    onset, motion, cloud = analysis.scan(
        run,
        [analysis.FreezeOnset(), MotionOf(bins, scheme), analysis.CloudOf()],
        series=series,
        progress=progress,
    )
    return Findings(
        run=run,
        series=recorded,
        steps=steps[1:],
        bins=bins,
        onset=onset,
        motion=motion,
        phase_names=scheme.names,
        cloud=cloud,
        loss=_loss(run, int(steps[-1])),
        worldlines=trace(recorded, onset),
        ids=ids,
        names=names,
    )


def stored_bytes(run: Run) -> int:
    """What the run takes on disk."""
    return run.path.stat().st_size if run.path.is_file() else folder_bytes(run.path)


def raw_bytes(run: Run) -> int:
    """What its series would take uncompressed."""
    return sum(run[name].nbytes for name in run)


def _loss(run: Run, last: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]] | None:
    if conventions.LOSS not in run:
        return None
    loss = run[conventions.LOSS]
    if loss.ndim != 1 or loss.spec.logical_dtype.kind == "b":
        return None
    # Step 0 is before the first batch, so what stands there is no loss.
    wanted = (loss.steps >= 1) & (loss.steps <= last)
    return (loss.steps[wanted], np.asarray(loss[...])[wanted].astype(np.float64)) if wanted.any() else None
