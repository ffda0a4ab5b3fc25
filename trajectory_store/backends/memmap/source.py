"""The reader of the memmap backend: rows of the mapped file, each verified once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...blocks.layout import BLOCK_BYTES
from ...checksum import crc32c
from ...errors import DamageError
from ...selection import Indices
from ...spec import RunSpec
from .. import manifest as manifests
from ..source import taken
from .commit_log import COMMITS, CommitLog
from .row_file import FRAMES, RowFile


class MemmapSource:
    """One run of the memmap backend, read-only.

    When a row is touched for the first time, all of it is read and its checksum compared. Later reads of it cost
    nothing more.
    """

    backend = "memmap"
    is_on_disk = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._manifest = manifests.load(path)
        self._rows = RowFile(path / FRAMES, self.spec, self._manifest.static)
        self._log = self._new_log()
        self._is_whole = True  # not while a refresh reads on in the log
        self._is_verified = {name: np.zeros(0, dtype=bool) for name in self.spec.series}
        self.refresh()

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
        if not self._is_whole:  # the refresh before this one was interrupted
            self._log = self._new_log()
        self._is_whole = False
        self._log.scan()  # before the rows: a step that is committed now has its row in the file there is then
        if not self._rows.is_current():
            self._rows = RowFile(self.path / FRAMES, self.spec, self._manifest.static)
        self._log.check_room(self._rows)
        for name in self.spec.series:
            is_verified = np.zeros(len(self._log.crcs[name]), dtype=bool)
            known = self._is_verified[name][: len(is_verified)]
            is_verified[: len(known)] = known
            self._is_verified[name] = is_verified
        self._is_whole = True

    def _new_log(self) -> CommitLog:
        return CommitLog(self.path / COMMITS, self.spec, self._manifest.sealed_until)

    def read(self, name: str, rows: Indices, tokens: Indices | None) -> npt.NDArray[Any]:
        self._verify(name, np.asarray(rows, dtype=np.int64))
        return taken(self._rows.rows(name), rows, tokens)

    def mapped(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        self._verify(name, np.arange(start, stop))
        return self._rows.rows(name)[start:stop]

    def _verify(self, name: str, rows: npt.NDArray[np.int64]) -> None:
        is_verified = self._is_verified[name]
        committed = rows[rows < len(is_verified)]
        lost = rows[rows >= len(is_verified)]  # counted by the manifest, and gone from the end of the log
        rows_there, crcs = self._rows.rows(name), self._log.crcs[name]
        for row in np.unique(committed[~is_verified[committed]]).tolist():
            if self._log.lost_steps or crc32c(np.ascontiguousarray(rows_there[row])) != crcs[row]:
                self._require_sound(name, row)
            is_verified[row] = True
        for row in lost[:1].tolist():
            self._require_sound(name, row)

    def _require_sound(self, name: str, row: int) -> None:
        """Raise DamageError if the row fails its checksum, or if its step's commit is lost."""
        step = int(self.spec.series[name].steps_of(row, row + 1)[0])
        if self._log.is_lost(step):
            raise DamageError(f'{self._log.path}: the commit of step {step} is damaged; run "trajectory-store check"')
        if crc32c(np.ascontiguousarray(self._rows.rows(name)[row])) != self._log.crcs[name][row]:
            raise DamageError(
                f'{self._rows.path}: step {step} of series {name!r} fails its checksum; run "trajectory-store check"'
            )

    def close(self) -> None:
        """The mapping goes with this object."""
