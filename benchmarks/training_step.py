"""What passes between two appends, as far as recording can tell."""

import time
from functools import cache

import numpy as np
import numpy.typing as npt

_N_WEIGHTS = 1 << 20


def compute(seconds: float) -> None:
    """Keep one core busy, other memory going through its caches, as training does.

    A core that sleeps instead takes 0.1 ms to run its next line here, whatever that is.
    """
    weights = _weights()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        np.multiply(weights, np.float32(1), out=weights)


@cache
def _weights() -> npt.NDArray[np.float32]:
    return np.ones(_N_WEIGHTS, np.float32)
