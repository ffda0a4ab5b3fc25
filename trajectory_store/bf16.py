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
