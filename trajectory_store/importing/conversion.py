"""How the values of a foreign array become those of a series, and what one has to know of them afterwards.

The bits stay as they are, unless bfloat16 is asked for. Nothing is rounded, unless that is allowed.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import bf16
from ..bf16 import BFLOAT16
from ..dtypes import DTYPES, dtype_name
from ..errors import LossyCastError, UsageError

_NARROWED = ("float16", "float32")
_PATTERNS = ("int16", "uint16")


def is_supported(dtype: np.dtype[Any]) -> bool:
    """Whether an array of this dtype can be recorded at all."""
    return _is_saved_bfloat16(dtype) or dtype_name(dtype) in DTYPES


def _is_saved_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Whether it is what numpy.save makes of ml_dtypes' bfloat16: two bytes without a type."""
    return dtype.kind == "V" and dtype.itemsize == 2 and dtype.fields is None and dtype != BFLOAT16


class Conversion:
    """One array's conversion, some rows at a time. It counts what changed."""

    def __init__(self, name: str, dtype: np.dtype[Any], *, to_bfloat16: bool, allow_lossy: bool) -> None:
        """Raise UsageError if there is no such conversion, and LossyCastError if it must be allowed first."""
        own = "bfloat16" if _is_saved_bfloat16(dtype) else dtype_name(dtype)
        if to_bfloat16 and own not in ("bfloat16", *_NARROWED, *_PATTERNS):
            raise UsageError(f"{name!r} is {own}, which is neither bfloat16's bit patterns nor narrowed to it")
        if to_bfloat16 and own == "float16" and not allow_lossy:
            raise LossyCastError(
                f"{name!r} is float16: it has bits that bfloat16 has not, and what it lost before cannot come back;"
                " allow a lossy import, or leave it float16"
            )
        self.name = name
        self.dtype = "bfloat16" if to_bfloat16 else own
        self._own = own
        self._allow_lossy = allow_lossy
        self._n_changed = 0
        self._n_values = 0
        self._n_normal = 0
        self._is_all_bfloat16 = True

    def convert(self, rows: npt.NDArray[Any], first_row: int) -> npt.NDArray[Any]:
        """Some rows as the series takes them. LossyCastError names the first row that would lose bits."""
        self._n_values += rows.size
        if self.dtype == "bfloat16":
            if self._own in _NARROWED:
                return self._narrow(rows.astype(np.float32, copy=False), first_row)
            return rows.view(BFLOAT16)
        if self._own in _NARROWED and self._is_all_bfloat16:
            self._look_at(rows)
        return rows

    def _narrow(self, values: npt.NDArray[np.float32], first_row: int) -> npt.NDArray[Any]:
        bits, is_inexact = bf16.from_float32(values)
        n_inexact = int(np.count_nonzero(is_inexact))
        if n_inexact and not self._allow_lossy:
            row = first_row + int(np.argmax(is_inexact)) // max(1, is_inexact[:1].size)
            raise LossyCastError(
                f"{self.name!r} is {self._own} and row {row} has values that bfloat16 cannot hold;"
                " allow a lossy import, or leave it as it is"
            )
        self._n_changed += n_inexact
        return bits.view(BFLOAT16)

    def _look_at(self, rows: npt.NDArray[Any]) -> None:
        """See whether all these values are bfloat16s, apart from float16's subnormals and what is not finite."""
        values = rows.astype(np.float32, copy=False)
        is_normal = np.isfinite(values) & (np.abs(values) >= np.finfo(self._own).tiny)
        self._n_normal += int(np.count_nonzero(is_normal))
        is_inexact = bf16.from_float32(values)[1]
        self._is_all_bfloat16 = not (is_inexact & is_normal).any()

    @property
    def is_lossy(self) -> bool:
        """Whether values changed here, or have probably changed before, since they were recorded."""
        return self._n_changed > 0 or (self._own == "float16" and (self.dtype == "bfloat16" or self._was_bfloat16))

    @property
    def _was_bfloat16(self) -> bool:
        return self._is_all_bfloat16 and self._n_normal > 0

    def finding(self) -> str | None:
        """What one has to know after the last row; None if the bits are simply those of the file."""
        name = self.name
        if self.dtype == "bfloat16" and self._own in _PATTERNS:
            return f"{name}: {self._own} taken for bfloat16 bit patterns"
        if self.dtype == "bfloat16" and self._own in _NARROWED:
            if self._n_changed:
                return f"{name}: {self._n_changed:,} of {self._n_values:,} values changed from {self._own} to bfloat16"
            return f"{name}: {self._own} narrowed to bfloat16, every value exactly"
        if self._own == "float16" and self._was_bfloat16:
            return (
                f"{name}: float16 that was bfloat16, since no value has more than its 8 significant bits;"
                " what was below 6e-05 or above 65,504 was lost before this import"
            )
        if self._own == "float32" and self._was_bfloat16:
            return f"{name}: float32 whose every value is a bfloat16; imported as bfloat16 it takes half the room"
        return None
