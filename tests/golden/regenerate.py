"""Makes the golden runs of one format version: python tests/golden/regenerate.py FOLDER

Run by hand, once, when docs/format.md gains a version; the runs of older versions are never made again. The values
follow from `values`, so a test can tell what every golden must read as.
"""

import sys
from pathlib import Path

import numpy as np

import trajectory_store as ts

STEPS = 11
SERIES = {
    "W": ts.Series((130, 33), "bfloat16", dims=("token", "dim")),
    "loss": ts.Series((), "float32"),
    "seen": ts.Series((5,), "bool"),
    "h": ts.Series((3,), "float64", steps=4),
    "n": ts.Series((2, 2), "int32", steps=(1, 2, 9)),
}
STATIC = {"dead_mask": np.arange(7) % 3 == 0, "dead_indices": np.arange(130, dtype=np.int64) * 3}


def values(step: int) -> dict[str, np.ndarray]:
    """What the goldens hold at a step: bit patterns that move by ones, drift together, are NaN, −0 and subnormal."""
    bits = (np.arange(130 * 33, dtype=np.uint32) * 15 + np.arange(130 * 33, dtype=np.uint32) % 7 * step).astype("<u2")
    bits[:4] = (0x7FC1 + step, 0x8000, 0x0001, 0xFF80)
    drift = np.linspace(-0.02, 0.02, 33 * 128, dtype=np.float32).reshape(128, 33)
    drift += np.float32(2**-11) * np.float32(step) * np.arange(33, dtype=np.float32)
    bits[33 * 2 :] = (drift.view(np.uint32) >> np.uint32(16)).astype(np.uint16).reshape(-1)
    frame = {
        "W": bits.reshape(130, 33),
        "loss": np.float32(1) / np.float32(step + 3),
        "seen": (np.arange(5) + step) % 2 == 0,
        "h": np.array([step, -0.0, np.pi]),
        "n": np.array([[step, -step], [2**31 - 1, -(2**31)]], dtype=np.int32),
    }
    return {name: value for name, value in frame.items() if SERIES[name].is_due(step)}


def n_steps(kind: str) -> int:
    """How many steps a golden has: the one that shows a journal lacks its last, so that its block stays open."""
    return STEPS - 1 if kind == "journal" else STEPS


def make(path: Path, **options: object) -> None:
    """Record one golden, "journal" without closing it, as a killed process does."""
    sink = ts.create(path, SERIES, steps=STEPS, static=STATIC, attrs={"golden": path.name}, **options)  # type: ignore[arg-type]
    for step in range(n_steps(path.name)):
        sink.append(step, **values(step))
        if step == STEPS - 3:
            sink.flush()
    if path.name != "journal":
        sink.close()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    make(folder / "temporal", block_steps=4)
    make(folder / "portable", block_steps=4, codec="portable")
    make(folder / "journal", block_steps=4)
    make(folder / "memmap", backend="memmap")
