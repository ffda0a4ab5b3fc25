"""A segment whose block is complete, mapped: the rows to be sealed, verified against what was appended."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from .. import files
from ..checksum import crc32c
from ..errors import DamageError
from ..spec import RunSpec
from .record import FrameEntry


class MappedSegment:
    """The frames of a segment that only its writer may change.

    Each row is verified once, against the checksum that its writer kept in memory. Raises DamageError if the file does
    not have the frames of `entries`.
    """

    def __init__(self, path: Path, spec: RunSpec, entries: Sequence[FrameEntry]) -> None:
        self._spec = spec
        self._entries = entries
        with files.storage_errors("read", path):
            n_bytes = path.stat().st_size
            if n_bytes:  # an empty file cannot be mapped
                self._mapped = np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
        for step, offset, _, head, _ in entries:
            is_there = offset + head.n_bytes <= n_bytes
            rows = head.rows.items()
            if not is_there or any(crc32c(self._bytes(offset + start, name)) != crc for name, (start, crc) in rows):
                raise DamageError(f'{path}: changed on disk at step {step}; run "trajectory-store check"')

    def spans(self, name: str, from_step: int) -> list[npt.NDArray[Any]]:
        """The rows of a series from `from_step` on, as views of the mapped file.

        Each span, shape (n, …), has the rows of evenly spaced records. There are several if the records' sizes change,
        or if a sync came between.
        """
        series = self._spec.series[name]
        starts = [
            entry.offset + entry.head.rows[name][0]
            for entry in self._entries
            if entry.step >= from_step and name in entry.head.rows
        ]
        spans = []
        while starts:
            stride = starts[1] - starts[0] if len(starts) > 1 else 0
            n = next((i for i in range(1, len(starts)) if starts[i] - starts[i - 1] != stride), len(starts))
            first = self._bytes(starts[0], name).view(series.storage_dtype).reshape(series.shape)
            spans.append(as_strided(first, (n, *series.shape), (stride, *first.strides), writeable=False))
            starts = starts[n:]
        return spans

    def _bytes(self, offset: int, name: str) -> npt.NDArray[np.uint8]:
        return self._mapped[offset : offset + self._spec.series[name].row_bytes]
