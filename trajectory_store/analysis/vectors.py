"""One vector a step, such as a layer's mean activation or the cloud's centre: how it turns, and where it points."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from .arrays import Recorded, as_series
from .cloud import cosine
from .paths import principal_axes

Values = npt.NDArray[np.float64]
_N_SKY_AXES = 3


@dataclass(frozen=True)
class Autocorrelation:
    """The cosine between a vector and itself one row before.

    Attributes
    ----------
    steps : ndarray of int64, shape (n,)
        Those of the later vector: every recorded step but the first.
    cosine : ndarray of float64, shape (n,)
        cos(h[t−1], h[t]); NaN if one of them has no direction.
    """

    steps: npt.NDArray[np.int64]
    cosine: Values

    def binned(self, n_steps: int = 500) -> tuple[npt.NDArray[np.int64], Values]:
        """Average over stretches of rows.

        Parameters
        ----------
        n_steps : int
            Rows of a stretch; the last one may be shorter.

        Returns
        -------
        first_steps : ndarray of int64
            The first step of each stretch.
        means : ndarray of float64
            The mean over each stretch.
        """
        starts = np.arange(0, len(self.cosine), n_steps)
        counts = np.diff(np.append(starts, len(self.cosine)))
        return self.steps[starts], np.add.reduceat(self.cosine, starts) / counts if len(starts) else np.empty(0)


def autocorrelation(recorded: Recorded, series: str = "h_mean") -> Autocorrelation:
    """Measure how a recorded vector turns, as the cosine with itself one row before.

    Parameters
    ----------
    recorded : Run, LazySeries, MemorySink or ndarray
        What holds the vectors, (step, dim).
    series : str
        The series to look at, if `recorded` has several.

    Returns
    -------
    Autocorrelation
        Computed in float64.

    Raises
    ------
    UsageError
        The series is not (step, dim) of numbers.

    Examples
    --------
    >>> analysis.autocorrelation(np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 1.0]])).cosine
    array([0., 1.])
    """
    steps, vectors = _vectors(recorded, series, "autocorrelation")
    return Autocorrelation(steps[1:], cosine(vectors[:-1], vectors[1:]))


@dataclass(frozen=True)
class Sky:
    """The way of a direction over the sky of a cloud's first three principal axes.

    Attributes
    ----------
    latitude, longitude : ndarray of float64, shape (n,)
        Degrees, arcsin(PC2 / r) and atan2(PC3, PC1): PC2 is the pole, and PC1 has longitude 0. NaN without a direction.
    variances : ndarray of float64, shape (3,)
        The first eigenvalues of the cloud's covariance.
    axes : ndarray of float64, shape (3, dim)
        The axes. The largest loading of each is positive, so that the map never flips.
    turns : ndarray of float64, shape (n − 1,)
        Degrees between successive vectors, in all dims.
    net : float
        Degrees between the first vector and the last.
    """

    latitude: Values
    longitude: Values
    variances: Values
    axes: Values
    turns: Values
    net: float

    @property
    def path(self) -> float:
        """Degrees turned in all: Σ turns."""
        return float(self.turns.sum())


def sky(vectors: npt.ArrayLike, rows: npt.ArrayLike) -> Sky:
    """Find latitude and longitude of each vector on the principal axes of a cloud.

    Parameters
    ----------
    vectors : array_like, shape (n, dim)
        The directions.
    rows : array_like, shape (tokens, dim)
        The cloud, such as the values of `run["W"][5000]`.

    Returns
    -------
    Sky
        Computed in float64.

    Raises
    ------
    UsageError
        The vectors have other dims than the rows, or fewer than three.
    """
    h, cloud = np.asarray(vectors, dtype=np.float64), np.asarray(rows, dtype=np.float64)
    if h.ndim != 2 or cloud.ndim != 2 or h.shape[1] != cloud.shape[1] or h.shape[1] < _N_SKY_AXES or not len(h):
        raise UsageError(
            f"a sky needs vectors (n, dim) and rows (tokens, dim) of three dims at least, found {h.shape} and"
            f" {cloud.shape}"
        )
    axes, variances = principal_axes(cloud, _N_SKY_AXES)
    axes = axes * np.where(axes[np.arange(_N_SKY_AXES), np.abs(axes).argmax(axis=1)] < 0, -1.0, 1.0)[:, None]
    first, second, third = (h @ axes.T).T
    length = np.sqrt(first**2 + second**2 + third**2)
    latitude = np.full(len(h), np.nan)
    np.divide(second, length, out=latitude, where=length > 0)
    longitude = np.where(length > 0, np.degrees(np.arctan2(third, first)), np.nan)
    return Sky(
        np.degrees(np.arcsin(np.clip(latitude, -1, 1))),
        longitude,
        variances,
        axes,
        angle(h[:-1], h[1:]),
        float(angle(h[0], h[-1])),
    )


def angle(a: Values, b: Values) -> Values:
    """Degrees between a and b along the last axis; NaN if one has no direction."""
    result: Values = np.degrees(np.arccos(np.clip(cosine(a, b), -1, 1)))
    return result


def _vectors(recorded: Recorded, name: str, wants: str) -> tuple[npt.NDArray[np.int64], Values]:
    series = as_series(recorded, name)
    if series.ndim != 2 or series.dtype.kind in "bc":
        raise UsageError(f"{series.path}, series {name!r}: {wants} needs numbers (step, dim), found {series!r}")
    values: npt.NDArray[Any] = np.asarray(series[...])
    return series.steps, values.astype(np.float64)
