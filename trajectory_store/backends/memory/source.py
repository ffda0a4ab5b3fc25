"""Arrays in memory, read as if they were a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import SeriesNotFoundError
from ...selection import Indices
from ...spec import RunSpec

_BLOCK_ROWS = 256


class ArraySource:
    """Arrays in memory as a run's source: every row is there, nothing is checked."""

    path = Path("(memory)")
    backend = "memory"
    is_on_disk = False
    attrs: Mapping[str, Any] = {}
    static_names: list[str] = []  # noqa: RUF012

    def __init__(self, spec: RunSpec, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self.spec = spec
        self._arrays = arrays

    @property
    def recorded_until(self) -> int:
        assert self.spec.steps is not None
        return self.spec.steps

    def static(self, name: str) -> npt.NDArray[Any]:
        raise SeriesNotFoundError(f"{self.path}: no static array {name!r}")

    def read(self, name: str, rows: Indices, tokens: Indices | None) -> npt.NDArray[Any]:
        array = self._arrays[name]
        if isinstance(rows, range) and rows.step == 1:
            part = array[rows.start : rows.stop]
        else:
            part = array[np.asarray(rows, dtype=np.int64)]
        part = part if tokens is None else part[:, np.asarray(tokens, dtype=np.int64)]
        return part.copy()

    def mapped(self, name: str, start: int, stop: int) -> None:
        del name, start, stop

    def block_rows(self, name: str) -> int:
        del name
        return _BLOCK_ROWS

    def refresh(self) -> None:
        """Arrays do not grow."""

    def close(self) -> None:
        """Nothing is held."""
