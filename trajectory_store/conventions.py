"""What the names in a run mean by convention."""

from collections.abc import Mapping


def rows_along_steps(arrays: Mapping[str, tuple[tuple[int, ...], int]]) -> int:
    """How long the first axis of what is recorded along steps is, given (shape, bytes) of every array; 0 for none."""
    with_axes = {name: (n_bytes, shape) for name, (shape, n_bytes) in arrays.items() if shape}
    if "loss" in with_axes:
        return with_axes["loss"][1][0]
    return max(with_axes.values(), default=(0, (0,)))[1][0]
