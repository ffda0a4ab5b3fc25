"""One value, handed to `append` for one series of one step."""

from typing import Any

import numpy as np
import pytest

import trajectory_store as ts
from trajectory_store.errors import FrameError, LossyCastError

SIX = np.arange(6.0, dtype=np.float32).reshape(2, 3)


def recorded(value: Any, dtype: str = "float32", shape: tuple[int, ...] | None = None) -> np.ndarray:
    """The value as a run has it, in the series' dtype."""
    sink = ts.MemorySink({"layer.weight": ts.Series(SIX.shape if shape is None else shape, dtype)}, steps=1)
    sink.append(0, **{"layer.weight": value})
    row: np.ndarray = sink["layer.weight"][0]
    return row


def refusal(value: Any, dtype: str = "float32", shape: tuple[int, ...] | None = None) -> str:
    """What append says of a value, once it is checked that it says of which step and series."""
    with pytest.raises((FrameError, LossyCastError), match=r"^step 0, series 'layer\.weight': ") as raised:
        recorded(value, dtype, shape)
    return str(raised.value).partition("': ")[2]
