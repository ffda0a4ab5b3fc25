"""bfloat16 as bit patterns: the only module that knows where its sign, exponent and mantissa are.

A bfloat16 is the upper half of a float32: 1 sign bit, 8 exponent bits, 7 mantissa bits. Everything here takes and
returns numpy arrays of uint16 patterns, so that NaN payloads, −0 and subnormals pass through untouched.
"""

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint16]

BFLOAT16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)


def to_float32(bits: Bits) -> npt.NDArray[np.float32]:
    """The same values as float32, exactly, for all 65,536 patterns; shape as given."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def from_float32(values: npt.NDArray[np.float32]) -> tuple[Bits, npt.NDArray[np.bool_]]:
    """The nearest pattern of each value, ties to even, and for which values `to_float32` would not give it back."""
    patterns = values.view(np.uint32)
    bits = (patterns >> np.uint32(16)).astype(np.uint16)
    is_inexact = patterns & np.uint32(0xFFFF) != 0
    if is_inexact.any():
        with np.errstate(invalid="ignore"):  # numpy warns of NaNs
            bits[is_inexact] = values[is_inexact].astype(BFLOAT16).view(np.uint16)
    return bits, is_inexact


_MAX_FLOAT32 = float(np.finfo(np.float32).max)
_EXPONENT_BITS = 8
_MANTISSA_BITS = 7
_ALL_EXPONENTS = np.arange(1 << _EXPONENT_BITS)
_NOT_FINITE_EXPONENT = _ALL_EXPONENTS[-1]
# One for every exponent; subnormals share that of the smallest normal one. Both signs, so that bits >> 7 is the index.
_ULP_EXPONENTS = np.tile(np.maximum(_ALL_EXPONENTS, 1) - 134, 2)
_IS_FINITE_EXPONENT = np.tile(_ALL_EXPONENTS != _NOT_FINITE_EXPONENT, 2)
_ULPS = np.where(_IS_FINITE_EXPONENT, np.ldexp(1.0, _ULP_EXPONENTS), np.nan)
_INVERSE_ULPS = np.where(_IS_FINITE_EXPONENT, np.ldexp(1.0, -_ULP_EXPONENTS), np.nan)


def _finite_values() -> npt.NDArray[np.float64]:
    bits = np.arange(1 << 16, dtype=np.uint16)
    finite = is_finite(bits)
    return np.where(finite, to_float32(np.where(finite, bits, np.uint16(0))).astype(np.float64), np.nan)


def is_finite(bits: Bits) -> npt.NDArray[np.bool_]:
    """Whether each pattern is neither NaN nor an infinity."""
    finite: npt.NDArray[np.bool_] = _IS_FINITE_EXPONENT[bits >> _MANTISSA_BITS]
    return finite


def to_float64(bits: Bits) -> npt.NDArray[np.float64]:
    """The finite values as float64, exactly. NaN and the infinities become NaN."""
    return _FINITE_VALUES.take(bits)


def ulp(bits: Bits) -> npt.NDArray[np.float32]:
    """The distance between neighbours in the binade of each value: 2^(max(E, 1) − 134), with E its exponent bits.

    For zeros and subnormals it is 2^−133, the smallest subnormal; for NaN and the infinities it is NaN. Exact in
    float32.
    """
    return _ULPS.take(bits >> _MANTISSA_BITS).astype(np.float32)


def ulp_float64(bits: Bits) -> npt.NDArray[np.float64]:
    """`ulp` as float64."""
    return _ULPS.take(bits >> _MANTISSA_BITS)


def ordinal(bits: Bits) -> npt.NDArray[np.int32]:
    """Sign and magnitude as one increasing integer: neighbours differ by 1, and −0 and +0 are both 0.

    Infinities are ±32,640. NaN patterns keep their places beyond them, up to ±32,767.
    """
    magnitude = (bits & _MAGNITUDE_MASK).astype(np.int32)
    return np.where(bits >> 15, -magnitude, magnitude)


def displacement(before: Bits, after: Bits) -> npt.NDArray[np.float32]:
    """(after − before) / ulp(before), signed, float32.

    The quotient's exact value, rounded once, to nearest even. It is exact if the exponents differ by at most 16.

    It is NaN if either end is NaN or an infinity, even if both are the same bits. Everything else is finite: a value
    beyond float32's range, such as that from zero to a weight above 0.03, becomes the largest finite one.
    """
    if before.size and after.size:
        before_magnitude, after_magnitude = before & _MAGNITUDE_MASK, after & _MAGNITUDE_MASK
        smallest = int(before_magnitude.min())
        largest = max(int(before_magnitude.max()), int(after_magnitude.max()))
        if smallest >= _SMALLEST_PLAIN and largest < min(smallest + _PLAIN_RANGE, _LARGEST_PLAIN):
            return _plain_displacement(before, after, before_magnitude)
    # float64 rounds first only if the smaller end is far below float32's half unit, and so never at a tie.
    cells = to_float64(after) - to_float64(before)
    cells *= _INVERSE_ULPS.take(before >> _MANTISSA_BITS)
    np.clip(cells, -_MAX_FLOAT32, _MAX_FLOAT32, out=cells)
    cells += 0.0  # −0, if a zero changed its sign, becomes 0
    return cells.astype(np.float32)


_MAGNITUDE_MASK = np.uint16(0x7FFF)
_SMALLEST_PLAIN = 7 << _MANTISSA_BITS  # 1 / ulp is below float32's limit from this exponent on
_LARGEST_PLAIN = 254 << _MANTISSA_BITS  # no difference overflows below this one
_PLAIN_RANGE = 100 << _MANTISSA_BITS  # no quotient overflows if no two exponents are further apart


def _plain_displacement(before: Bits, after: Bits, before_magnitude: Bits) -> npt.NDArray[np.float32]:
    """The same, ten times faster, if nothing can overflow: float32 rounds the difference once, the rest is exact."""
    cells = to_float32(after) - to_float32(before)
    inverse_ulp = (np.uint32(134 + 127) - (before_magnitude >> _MANTISSA_BITS)) << np.uint32(23)
    cells *= inverse_ulp.view(np.float32)
    return cells


_FINITE_VALUES = _finite_values()
