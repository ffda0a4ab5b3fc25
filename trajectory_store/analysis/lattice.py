"""The lattice of bfloat16 values: its unit in the last place (ULP), and how far a value moved on it.

Takes uint16 patterns or ml_dtypes bfloat16 arrays of any shape; before and after are broadcast. Any other dtype raises
UsageError, because a float32 value has 65,536 times finer neighbours. With b the pattern and E = (b >> 7) & 255:

    ulp(b)                       2^(max(E, 1) − 134)
    displacement(before, after)  ΔW′ = (after − before) / ulp(before), float32, signed
    ordinal(b)                   sign-magnitude as an integer: one cell a neighbour

| value                | ulp    | displacement from it    | displacement to it       | ordinal                 |
|----------------------|--------|-------------------------|--------------------------|-------------------------|
| normal               | 2^E−134| in its own ULPs         | in the start's ULPs      | ±(128 … 32,639)         |
| subnormal, zero      | 2^−133 | in 2^−133, so huge      | in the start's ULPs      | ±(0 … 127), −0 as +0    |
| infinity             | NaN    | NaN                     | NaN                      | ±32,640                 |
| NaN                  | NaN    | NaN                     | NaN                      | beyond ±32,640          |

A displacement within a binade or to a higher one is an integer. To a lower one it is an integer or a fraction, in half,
quarter … cells. It is exact if the exponents differ by at most 16, otherwise the float32 next to the exact value. It is
finite whenever both ends are: a start at zero has the smallest ULP there is, and what exceeds float32 becomes ±3.4e38.

`ordinal(after) − ordinal(before)` stays small through zero's neighbourhood and binade edges: from 0.498 to 0.502 it is
2 cells, and ΔW′ says 3. But it counts some 30,000 cells when a weight changes its sign.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import bf16
from ..errors import UsageError

Patterns = npt.NDArray[Any]
"""uint16 bit patterns or ml_dtypes bfloat16."""


def as_bits(array: Patterns) -> bf16.Bits:
    """View bfloat16 values as their bit patterns, without a copy.

    Parameters
    ----------
    array : ndarray
        ml_dtypes bfloat16, or patterns already.

    Returns
    -------
    ndarray of uint16
        The patterns.

    Raises
    ------
    UsageError
        The dtype is another.
    """
    array = np.asarray(array)
    if array.dtype == bf16.BFLOAT16:
        return array.view(np.uint16)
    if array.dtype != np.uint16:
        raise UsageError(f"the lattice needs bfloat16, or its bits as uint16, found {array.dtype}")
    return array


def ulp(bits: Patterns) -> npt.NDArray[np.float32]:
    """Return the distance to the next value of the same binade, 2^(max(E, 1) − 134).

    Parameters
    ----------
    bits : ndarray
        Bit patterns as uint16, or ml_dtypes bfloat16, of any shape.

    Returns
    -------
    ndarray of float32
        Shape as given; NaN for NaN and the infinities.

    Raises
    ------
    UsageError
        The dtype is another.

    Examples
    --------
    >>> analysis.lattice.ulp(np.array([0x3F80, 0x4000], dtype=np.uint16))  # 1.0 and 2.0
    array([0.0078125, 0.015625 ], dtype=float32)
    """
    return bf16.ulp(as_bits(bits))


def ordinal(bits: Patterns) -> npt.NDArray[np.int32]:
    """Return each value's place among all values: neighbours differ by 1.

    Parameters
    ----------
    bits : ndarray
        Bit patterns as uint16, or ml_dtypes bfloat16, of any shape.

    Returns
    -------
    ndarray of int32
        Shape as given; both zeros are 0.

    Raises
    ------
    UsageError
        The dtype is another.

    Examples
    --------
    >>> analysis.lattice.ordinal(np.array([0x0001, 0x0000, 0x8000, 0x8001], dtype=np.uint16))
    array([ 1,  0,  0, -1], dtype=int32)
    """
    return bf16.ordinal(as_bits(bits))


def displacement(before: Patterns, after: Patterns) -> npt.NDArray[np.float32]:
    """Measure moves in ULPs of their starts, ΔW′ = (after − before) / ulp(before).

    Parameters
    ----------
    before, after : ndarray
        Bit patterns as uint16, or ml_dtypes bfloat16; they are broadcast.

    Returns
    -------
    ndarray of float32
        Signed; NaN if an end is not finite.

    Raises
    ------
    UsageError
        The dtype is another.

    Examples
    --------
    >>> one = np.array([0x3F80], dtype=np.uint16)
    >>> analysis.lattice.displacement(one, one + np.uint16(3))
    array([3.], dtype=float32)
    """
    return bf16.displacement(as_bits(before), as_bits(after))
