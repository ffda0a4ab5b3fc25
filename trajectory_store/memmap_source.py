"""The reader of the memmap backend: rows of the mapped file, each verified once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import manifest as manifests
from .checksum import crc32c
from .chunks import BLOCK_BYTES
from .errors import DamageError
from .memmap_file import COMMITS, FRAMES, CommitLog, RowFile
from .selection import Indices
from .source import empty_rows
from .spec import RunSpec


class MemmapSource:
    """One run of the memmap backend, read-only.

    The first time a row is touched all of it is read and its checksum compared; later reads of it cost nothing more.
    """

    backend = "memmap"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._manifest = manifests.load(path)
        self._rows = RowFile(path / FRAMES, self.spec, self._manifest.static)
        self._log = CommitLog(path / COMMITS, self.spec)
        self._is_verified = {
            name: np.zeros(series.rows_before(self._planned), dtype=bool) for name, series in self.spec.series.items()
        }
        self.refresh()

    @property
    def _planned(self) -> int:
        assert self.spec.steps is not None
        return self.spec.steps

    @property
    def spec(self) -> RunSpec:
        return self._manifest.spec

    @property
    def attrs(self) -> Mapping[str, Any]:
        return self._manifest.attrs

    @property
    def recorded_until(self) -> int:
        return self._log.recorded_until

    @property
    def static_names(self) -> list[str]:
        return list(self._manifest.static)

    @property
    def rows(self) -> RowFile:
        """The file of rows."""
        return self._rows

    def static(self, name: str) -> npt.NDArray[Any]:
        return self._rows.static(name)

    def block_rows(self, name: str) -> int:
        return max(1, min(256, BLOCK_BYTES // self.spec.series[name].row_bytes))

    def refresh(self) -> None:
        self._log.scan()
        if not self._rows.is_current():
            self._rows = RowFile(self.path / FRAMES, self.spec, self._manifest.static)

    def read(self, name: str, rows: Indices, tokens: Indices | None) -> npt.NDArray[Any]:
        listed = np.asarray(rows, dtype=np.int64)
        self._verify(name, listed)
        mapped = self._rows.rows(name)
        if tokens is None:
            return mapped[listed]
        out = empty_rows(self.spec, name, rows, tokens)
        at: Any = tokens
        if isinstance(tokens, range):
            at = slice(tokens.start, tokens.stop if tokens.stop >= 0 else None, tokens.step)
        for position, row in enumerate(listed.tolist()):
            out[position] = mapped[row][at]
        return out

    def _verify(self, name: str, rows: npt.NDArray[np.int64]) -> None:
        is_verified, mapped = self._is_verified[name], self._rows.rows(name)
        for row in np.unique(rows[~is_verified[rows]]).tolist():
            if crc32c(np.ascontiguousarray(mapped[row])) != self._log.crcs[name][row]:
                step = int(self.spec.series[name].steps_of(row, row + 1)[0])
                raise DamageError(
                    f"{self._rows.path}: step {step} of series {name!r} fails its checksum;"
                    ' run "trajectory-store check"'
                )
            is_verified[row] = True

    def close(self) -> None:
        """The mapping goes with this object."""
