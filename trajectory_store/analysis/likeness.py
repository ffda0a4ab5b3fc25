"""Are the tokens of a cohort alike? Their directions beside those of all others, and how few axes they need."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import bf16
from ..errors import UsageError
from .arrays import Recorded, as_series
from .scanning import check_series

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Likeness:
    """How alike the tokens of a cohort are, at one step.

    Attributes
    ----------
    step : int
        The step.
    cosine : float
        The mean of cos(W_i, W_j) over the cohort's pairs i ≠ j; NaN if there is no pair.
    others : float
        The same over the pairs of the other tokens.
    singular : ndarray of float64
        The singular values of the cohort's rows about their mean, the largest first.
    """

    step: int
    cosine: float
    others: float
    singular: Values

    @property
    def share(self) -> Values:
        """Each singular value's share of the variance, σ² / Σσ²; NaN if all rows are the same."""
        squares = self.singular**2
        total = squares.sum()
        return squares / total if total > 0 else np.full(len(squares), np.nan)


def likeness(
    recorded: Recorded, cohort: Sequence[int] | npt.NDArray[np.integer], step: int, series: str = "W"
) -> Likeness:
    """Compare the rows of a cohort with all others at one step.

    Parameters
    ----------
    recorded : Run, LazySeries, MemorySink or ndarray
        What holds the rows, (step, token, dim) of bfloat16 or its bits as uint16.
    cohort : sequence of int
        The cohort's rows, such as those that share a `cohort_onset`.
    step : int
        The step.
    series : str
        The series to look at, if `recorded` has several.

    Returns
    -------
    Likeness
        Mean cosines and singular values. A row of zeros, or one that is not finite, has no direction and is left out.

    Raises
    ------
    UsageError
        No row of the cohort has a direction, a row is not there, or the series is not (step, token, dim) of bfloat16
        bits.
    StepNotRecordedError
        The series does not have the step.
    """
    source = as_series(recorded, series)
    check_series(source, "likeness")
    which = np.asarray(cohort, dtype=np.intp)
    n_tokens = source.shape[1]
    if not len(which) or which.min() < 0 or which.max() >= n_tokens:
        raise UsageError(f"{source.path}: a cohort needs tokens from 0 to {n_tokens - 1:,}, found {which.tolist()[:9]}")
    values = bf16.to_float64(source.bits.at_step(step))
    length = np.sqrt((values**2).sum(axis=1))
    has_direction = np.isfinite(length) & (length > 0)
    is_member = np.zeros(n_tokens, dtype=bool)
    is_member[which] = True
    members = values[is_member & has_direction]
    if not len(members):
        raise UsageError(f"{source.path}, step {step}: no token of the cohort has a direction")
    centred = members - members.mean(axis=0)
    unit = values[has_direction] / length[has_direction, None]
    is_member = is_member[has_direction]
    return Likeness(
        step,
        _mean_cosine(unit[is_member]),
        _mean_cosine(unit[~is_member]),
        np.asarray(np.linalg.svd(centred, compute_uv=False)),
    )


def _mean_cosine(unit: Values) -> float:
    """Over all pairs of different rows. ‖Σu‖² counts each pair twice, and each row once with itself."""
    n = len(unit)
    return float(((unit.sum(axis=0) ** 2).sum() - n) / (n * (n - 1))) if n > 1 else float("nan")
