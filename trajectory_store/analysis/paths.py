"""The ways of a few tokens through all steps, and the plane in which they differ most."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import bf16
from ..errors import UsageError
from ..run import LazySeries
from .arrays import Recorded, as_series
from .scanning import check_series

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Paths:
    """The ways of a few tokens, on the axes along which they differ most.

    Attributes
    ----------
    steps : ndarray of int64, shape (n,)
        The steps of the chosen rows.
    tokens : ndarray of int, shape (k,)
        The tokens, as rows of the series.
    places : ndarray of float64, shape (k, n, components)
        Their places about the mean of all places; NaN if an entry is not finite.
    share : tuple of float
        The share of the variance along each axis.
    """

    steps: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.intp]
    places: Values
    share: tuple[float, ...]


def paths(
    recorded: Recorded,
    tokens: Sequence[int] | npt.NDArray[np.integer],
    series: str = "W",
    *,
    rows: Sequence[int] | npt.NDArray[np.integer] | None = None,
    components: int = 2,
) -> Paths:
    """Project the ways of some tokens on the first principal components of those ways.

    Parameters
    ----------
    recorded : Run, LazySeries, MemorySink or ndarray
        What holds the rows, (step, token, dim) of bfloat16 or its bits as uint16.
    tokens : sequence of int
        The tokens, as rows of the series. Only their tiles are read.
    series : str
        The series to look at, if `recorded` has several.
    rows : sequence of int, optional
        Which of the series' steps, counted from 0; all by default.
    components : int
        How many axes.

    Returns
    -------
    Paths
        W[:, tokens] on those axes.

    Raises
    ------
    UsageError
        A token or row is not there, or the series is not (step, token, dim) of bfloat16 bits.
    """
    source = as_series(recorded, series)
    check_series(source, "a path")
    chosen = np.arange(len(source)) if rows is None else np.unique(np.asarray(rows, dtype=np.intp))
    which = np.asarray(tokens, dtype=np.intp)
    for name, asked, n in (("rows", chosen, len(source)), ("tokens", which, source.shape[1])):
        if not len(asked) or asked.min() < 0 or asked.max() >= n:
            raise UsageError(f"{source.path}: a path needs {name} from 0 to {n - 1:,}, found {asked.tolist()[:9]}")
    places, share = project(bf16.to_float64(_read(source, chosen, which).transpose(1, 0, 2)), components)
    return Paths(source.steps[chosen], which, places, share)


def _read(series: LazySeries, rows: npt.NDArray[np.intp], tokens: npt.NDArray[np.intp]) -> npt.NDArray[np.uint16]:
    size, parts = series.block_rows, []
    for start in range(0, len(series), size):
        chosen = rows[(rows >= start) & (rows < start + size)]
        if len(chosen):
            parts.append(series.bits[start : int(chosen[-1]) + 1, tokens.tolist()][chosen - start])
    return np.concatenate(parts)


def project(points: Values, components: int = 2) -> tuple[Values, tuple[float, ...]]:
    """The first principal components of points (…, dim) about their mean, and their shares of the variance.

    A component points the way that the points went, from the first to the last along the axis before the last. If they
    went nowhere, its largest loading is positive. So a picture never flips. Components beyond dim are 0.
    """
    flat = points.reshape(-1, points.shape[-1])
    whole = np.isfinite(flat).all(axis=1)
    places = np.full((len(flat), components), np.nan)
    share = np.zeros(components)
    if whole.any():
        centred = flat[whole] - flat[whole].mean(axis=0)
        axes, variances = principal_axes(flat[whole], components)
        axes = axes * _signs(axes, points)[:, None]
        n = len(axes)
        places[whole] = 0.0
        places[whole, :n] = centred @ axes.T
        total = (centred**2).sum() / len(centred)
        share[:n] = variances / total if total > 0 else 0.0
    return places.reshape(*points.shape[:-1], components), tuple(share.tolist())


def principal_axes(points: Values, n: int) -> tuple[Values, Values]:
    """The first n unit eigenvectors (n, dim) of the points' covariance, and its eigenvalues, the largest first."""
    centred = points - points.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(points))
    return vectors[:, ::-1][:, :n].T, np.clip(values[::-1][:n], 0, None)


def _signs(axes: Values, points: Values) -> Values:
    ways = (points[..., -1, :] - points[..., 0, :]).reshape(-1, points.shape[-1])
    ways = ways[np.isfinite(ways).all(axis=1)]
    net = axes @ ways.sum(axis=0)
    largest = axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)]
    return np.where(np.where(net != 0, net, largest) < 0, -1.0, 1.0)
