"""Hypothesis strategies: series, histories of every bit pattern, indices."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import trajectory_store as ts
from trajectory_store.dtypes import DTYPES

DTYPE_NAMES = sorted(DTYPES)

STEPS = st.one_of(
    st.none(),
    st.integers(1, 7),
    st.builds(range, st.integers(0, 5), st.integers(6, 40), st.integers(1, 9)),
    st.lists(st.integers(0, 40), min_size=1, max_size=8, unique=True).map(lambda steps: tuple(sorted(steps))),
)


def series(max_axes: int = 3) -> st.SearchStrategy[ts.Series]:
    """Any small series."""
    shapes = st.lists(st.integers(1, 6), max_size=max_axes).map(tuple)
    return st.builds(
        lambda shape, dtype, steps: ts.Series(shape, dtype, steps=steps), shapes, st.sampled_from(DTYPE_NAMES), STEPS
    )


@st.composite
def histories(draw: st.DrawFn, itemsize: int) -> np.ndarray:
    """Rows of bit patterns: random, constant, slowly drifting, or all at their limits."""
    shape = (draw(st.integers(1, 12)), *draw(st.lists(st.integers(1, 7), max_size=2)))
    kind = draw(st.sampled_from(["random", "constant", "drift", "limits"]))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    dtype = np.dtype(f"<u{itemsize}")
    if kind == "random":
        raw = rng.integers(0, 256, (*shape, itemsize), dtype=np.uint8)
        return raw.view(dtype)[..., 0]
    first = rng.integers(0, 256, (1, *shape[1:], itemsize), dtype=np.uint8).view(dtype)[..., 0]
    if kind == "constant":
        return np.broadcast_to(first, shape).copy()
    if kind == "limits":
        top = 1 << (8 * itemsize - 1)
        return rng.choice(np.array([0, 1, top - 1, top, 2 * top - 1], np.uint64), shape).astype(dtype)
    moves = rng.integers(-2, 3, shape).astype(np.int64).astype(dtype)
    moves[0] = first[0]
    return np.cumsum(moves, axis=0, dtype=dtype)


def indices(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    """numpy's basic indices of an array, with a list or a mask in place of one part at most."""
    basic = npst.basic_indices(shape, allow_newaxis=False)

    @st.composite
    def with_list(draw: st.DrawFn) -> Any:
        key = draw(basic)
        parts = list(key) if isinstance(key, tuple) else [key]
        if any(part is Ellipsis for part in parts) or not parts:
            return key
        axis = draw(st.integers(0, len(parts) - 1))
        size = shape[axis]
        if size == 0:
            return key
        if draw(st.booleans()):
            parts[axis] = draw(npst.arrays(bool, size))
        else:
            parts[axis] = draw(st.lists(st.integers(-size, size - 1), max_size=6))
        return tuple(parts)

    return st.one_of(basic, with_list())
