"""The histories that are measured, by name. Each is a function of its shape, or a recording the trainer made."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

import trajectory_store as ts

History = npt.NDArray[np.uint16]
"""(steps, tokens, dim) bfloat16 bit patterns."""


def frozen(shape: tuple[int, int, int], rng: np.random.Generator) -> History:
    """Rows that do not move: the end of a long run."""
    row = _start(shape, rng)
    return np.broadcast_to(row, shape).copy()


def drifting(shape: tuple[int, int, int], rng: np.random.Generator) -> History:
    """Rows that move together by one lattice cell now and then: the middle of a run."""
    history = np.empty(shape, np.uint16)
    history[0] = _start(shape, rng)
    for step in range(1, shape[0]):
        moves = rng.random(shape[2]) < 0.05  # shared by all tokens, as bulk motion is
        alone = rng.random(shape[1:]) < 0.002
        history[step] = history[step - 1] + (moves[None, :] | alone)
    return history


def random(shape: tuple[int, int, int], rng: np.random.Generator) -> History:
    """Bits without any order: what no codec makes smaller."""
    return rng.integers(0, 1 << 16, shape, dtype=np.uint16)


def _start(shape: tuple[int, int, int], rng: np.random.Generator) -> npt.NDArray[np.uint16]:
    weights = rng.normal(0, 0.02, shape[1:]).astype(np.float32)
    return (weights.view(np.uint32) >> 16).astype(np.uint16)


SYNTHETIC: dict[str, Callable[[tuple[int, int, int], np.random.Generator], History]] = {
    "frozen": frozen,
    "drifting": drifting,
    "random": random,
}

SHAPES: dict[str, tuple[int, int, int]] = {
    "tiny": (40, 70, 16),
    "standard": (3072, 768, 64),
    "thimble-9": (10_001, 3_699, 64),
    "full-vocabulary": (512, 10_000, 64),
    "wide": (128, 2_212, 2_560),
}
"""Named sizes; "standard" is 302 MB and what the README's table shows."""


def real(recording: Path, shape: tuple[int, int, int]) -> History:
    """The first steps, tokens and dimensions of the series W of a run that the trainer recorded."""
    with ts.open(recording) as run:
        rows: History = run["W"].bits[: shape[0], : shape[1]][:, :, : shape[2]]
    if rows.shape != shape:
        raise SystemExit(f"{recording}: has {rows.shape} of the {shape} that were asked for; choose a smaller --shape")
    return np.ascontiguousarray(rows)
