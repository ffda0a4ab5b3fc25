"""What was read as a torch tensor, for whoever has torch."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UsageError

if TYPE_CHECKING:
    import torch


def as_tensor(values: Any, *, is_bfloat16: bool) -> "torch.Tensor":
    """An array, or one element, as a CPU tensor that shares its memory. bfloat16's patterns become torch's bfloat16."""
    try:
        import torch
    except ImportError as error:
        raise UsageError('to_torch needs torch; install "trajectory-store[train]"') from error
    if not is_bfloat16:
        return torch.from_numpy(_native(values))
    return torch.from_numpy(_native(values).view(np.int16)).view(torch.bfloat16)  # int16 is both's


def _native(array: Any) -> Any:
    array = np.asarray(array)  # one element of one step is a scalar
    return array.astype(array.dtype.newbyteorder("="), copy=not array.flags.writeable)
