"""Every dtype that a series can have: its name, what a reader is given, and what holds its bits on disk."""

from typing import Any

import numpy as np

from .bf16 import BFLOAT16

DTYPES: dict[str, np.dtype[Any]] = {
    "bfloat16": BFLOAT16,
    **{
        name: np.dtype(name).newbyteorder("<")
        for name in (
            *("float16", "float32", "float64", "int8", "int16", "int32", "int64"),
            *("uint8", "uint16", "uint32", "uint64", "bool"),
        )
    },
}
"""Every dtype a series can have, by the name used in code, on disk and on the command line."""


def dtype_name(dtype: np.dtype[Any]) -> str:
    """The name of a numpy dtype, as specs have it."""
    return "bfloat16" if dtype == BFLOAT16 else dtype.name


def storage_dtype(dtype_name: str) -> np.dtype[Any]:
    """The numpy dtype that holds the bits on disk: uint16 for bfloat16, else the dtype itself."""
    return np.dtype("<u2") if dtype_name == "bfloat16" else DTYPES[dtype_name]
