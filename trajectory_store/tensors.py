"""A series as torch tensors, for whoever has torch; nothing else in this package imports it."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import UsageError
from .run import LazySeries

if TYPE_CHECKING:
    import torch


def as_tensor(series: LazySeries, key: Any) -> "torch.Tensor":
    """`series[key]` as a CPU tensor that shares the memory it was read into; bfloat16 as torch's own.

    Raises UsageError where torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise UsageError('to_torch needs torch; install "trajectory-store[train]"') from error
    if series.spec.dtype != "bfloat16" or series.dtype != series.spec.logical_dtype:
        return torch.from_numpy(_native(series[key]))
    # numpy's bfloat16 is not torch's; int16 is both's.
    return torch.from_numpy(_native(series.bits[key]).view(np.int16)).view(torch.bfloat16)


def _native(array: Any) -> Any:
    array = np.asarray(array)  # one element of one step is a scalar
    return array.astype(array.dtype.newbyteorder("="), copy=not array.flags.writeable)
