"""Adam's books: does the recorded optimizer state explain the recorded weights?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from .. import bf16, conventions
from ..errors import UsageError
from ..options import takes
from ..run import Run
from .arrays import Recorded
from .scanned_block import ScannedBlock
from .scanning import Extent, Needs, ScanOptions, scan_one
from .slab import Slab, SlabPlace


@dataclass(frozen=True)
class AdamAccounting:
    """What Adam's formula predicts, beside what was recorded.

    Attributes
    ----------
    steps : ndarray of int64, shape (n,)
        Those that have a step before.
    n_entries : int
        Entries of one step, tokens × dims.
    equal : ndarray of int64, shape (n,)
        Entries whose predicted weight has the recorded bits.
    within_one : ndarray of int64, shape (n,)
        Entries whose predicted weight is at most one lattice cell away, equal ones among them.
    largest_error : ndarray of float64, shape (n,)
        max |predicted − recorded|, before the prediction is rounded.
    thrust : ndarray of float64, shape (n,)
        The mean over the tokens of ‖m̂ / (√v̂ + ε)‖₂.
    move : ndarray of float64, shape (n,)
        The mean over the tokens of ‖ΔW‖₂.
    """

    steps: npt.NDArray[np.int64]
    n_entries: int
    equal: npt.NDArray[np.int64]
    within_one: npt.NDArray[np.int64]
    largest_error: npt.NDArray[np.float64]
    thrust: npt.NDArray[np.float64]
    move: npt.NDArray[np.float64]

    @property
    def fraction_equal(self) -> npt.NDArray[np.float64]:
        """The share of entries that are predicted bit for bit, float64, shape (n,)."""
        return self.equal / self.n_entries


@takes(ScanOptions)
def adam_accounting(
    recorded: Recorded,
    series: str = "W",
    *,
    m: str = "m",
    v: str = "v",
    learning_rate: float | None = None,
    beta1: float | None = None,
    beta2: float | None = None,
    epsilon: float | None = None,
    weight_decay: float | None = None,
    **options: Unpack[ScanOptions],
) -> AdamAccounting:
    """Predict each weight from the recorded optimizer state, and compare.

    Parameters
    ----------
    recorded : Run, LazySeries, MemorySink or ndarray
        What holds the weights and Adam's states, so a run or a sink.
    series : str
        The weights, (step, token, dim) of bfloat16 or its bits.
    m, v : str
        The series of Adam's first and second moment after update t, without bias correction.
    learning_rate, beta1, beta2, epsilon, weight_decay : float, optional
        The hyperparameters η, β₁, β₂, ε and λ. By default they are the run's attributes of the same names, or those
        within its attribute `config`.
    **options : ScanOptions
        Threads, executor and progress.

    Returns
    -------
    AdamAccounting
        How many entries agree at each step, and by how much the others do not.

    Raises
    ------
    UsageError
        A state or a hyperparameter is missing, or a hyperparameter is no number.

    Notes
    -----
    W[t] = (1 − ηλ) W[t−1] − η m̂[t] / (√v̂[t] + ε), with m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ): decoupled weight
    decay, as in AdamW (Loshchilov and Hutter, 2019). It is computed in float64 and rounded once to bfloat16, so a
    difference is what the optimizer's own rounding did.
    """
    given = dict(zip(conventions.HYPERPARAMETERS, (learning_rate, beta1, beta2, epsilon, weight_decay), strict=True))
    return scan_one(recorded, books_of(recorded, m, v, given), series=series, **options)


def books_of(
    recorded: Recorded, m: str = "m", v: str = "v", given: Mapping[str, float | None] | None = None
) -> "AdamBooks":
    """The analysis behind `adam_accounting`, with the run's own hyperparameters for those not given."""
    wanted = {name: (given or {}).get(name) for name in conventions.HYPERPARAMETERS}
    return AdamBooks(m, v, **hyperparameters(recorded, wanted, "adam accounting"))


def hyperparameters(recorded: Recorded, given: Mapping[str, float | None], wants: str) -> dict[str, float]:
    """Each of the named values as given, else as the run's attributes have it; UsageError names those missing."""
    known = conventions.settings(recorded.attrs) if isinstance(recorded, Run) else {}
    chosen = {name: known.get(name) if value is None else value for name, value in given.items()}
    missing = [name for name, value in chosen.items() if value is None]
    if missing:
        raise UsageError(f"{wants} needs {', '.join(missing)}: the run's attributes do not say, so give them")
    for name, value in chosen.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UsageError(f"{wants} needs {name} as a number: the run's attributes say {value!r}, so give it")
    return {name: float(value) for name, value in chosen.items() if value is not None}


@dataclass(frozen=True)
class AdamBooks:
    """The analysis behind `adam_accounting`.

    Parameters
    ----------
    m, v : str
        The series of Adam's first and second moment.
    learning_rate, beta1, beta2, epsilon, weight_decay : float
        The hyperparameters.
    """

    m: str
    v: str
    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float

    @property
    def needs(self) -> Needs:
        """The optimizer's two states beside the weights."""
        return Needs("adam accounting", series=(self.m, self.v))

    def of_tile(self, slab: Slab) -> npt.NDArray[np.float64]:
        """(rows, 5): equal, within one cell, largest error, Σ thrust, Σ move."""
        result = np.zeros((len(slab.steps), 5))
        for row, step in enumerate(slab.steps.tolist()):
            before = slab.bits[row - 1] if row else slab.before
            if before is not None and step > 0:
                result[row] = self._of_step(step, before, slab.bits[row], slab.others, row)
        return result

    def _of_step(
        self, step: int, before: bf16.Bits, after: bf16.Bits, states: dict[str, npt.NDArray[Any]], row: int
    ) -> tuple[float, ...]:
        m_hat = states[self.m][row].astype(np.float64) / (1 - self.beta1**step)
        v_hat = states[self.v][row].astype(np.float64) / (1 - self.beta2**step)
        thrust = m_hat / (np.sqrt(v_hat) + self.epsilon)
        start, end = bf16.to_float64(before), bf16.to_float64(after)
        predicted = start * (1 - self.learning_rate * self.weight_decay) - self.learning_rate * thrust
        bits = predicted.astype(bf16.BFLOAT16).view(np.uint16)
        cells = np.abs(bf16.ordinal(bits) - bf16.ordinal(after))
        return (
            float(np.count_nonzero(bits == after)),
            float(np.count_nonzero(cells <= 1)),
            float(np.abs(predicted - end).max()),
            float(np.sqrt((thrust**2).sum(axis=-1)).sum()),
            float(np.sqrt(((end - start) ** 2).sum(axis=-1)).sum()),
        )

    def begin(self, extent: Extent) -> "_Books":
        return _Books(extent)


class _Books:
    def __init__(self, extent: Extent) -> None:
        self._extent = extent
        self._columns = np.zeros((len(extent.steps), 5))

    def update(self, block: ScannedBlock, parts: Sequence[tuple[SlabPlace, npt.NDArray[np.float64]]]) -> None:
        del block
        largest = 2
        for place, part in parts:
            columns = self._columns[place.rows]
            error = np.maximum(columns[:, largest], part[:, largest])
            columns += part
            columns[:, largest] = error

    def result(self) -> AdamAccounting:
        equal, within_one, error, thrust, move = self._columns[1:].T
        n_tokens = self._extent.n_tokens
        return AdamAccounting(
            self._extent.steps[1:],
            n_tokens * self._extent.dim,
            equal.astype(np.int64),
            within_one.astype(np.int64),
            error.copy(),
            thrust / n_tokens,
            move / n_tokens,
        )
