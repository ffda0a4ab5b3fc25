"""Records a run in a process of its own, resuming what is there, for tests that kill it or read along.

    recorder.py FOLDER BACKEND STEPS SHAPE BLOCK_STEPS ACKNOWLEDGED PAUSE_S

Writes the last acknowledged step into the file ACKNOWLEDGED, eight bytes, after every `append` that returned.
"""

import os
import struct
import sys
import time
from pathlib import Path

import numpy as np

import trajectory_store as ts


def row(step: int, shape: tuple[int, int]) -> np.ndarray:
    """The bits of `W` at a step: cheap to make, different at each, and slow to drift as weights are."""
    base = np.arange(shape[0] * shape[1], dtype=np.uint32).reshape(shape)
    return (base * 2654435761 + (step * (base % 7 + 1)) // 3).astype(np.uint16)


def series(shape: tuple[int, int]) -> dict[str, ts.Series]:
    """Every step, a scalar at every step, and one that is not due at each: its last block is replaced at every seal."""
    return {
        "W": ts.Series(shape, "bfloat16", dims=("token", "dim")),
        "loss": ts.Series((), "float32"),
        "m": ts.Series((shape[0],), "float32", steps=5),
    }


def frame(step: int, shape: tuple[int, int]) -> dict[str, np.ndarray | float]:
    """All values of a step."""
    values: dict[str, np.ndarray | float] = {"W": row(step, shape), "loss": step / 4}
    if step % 5 == 0:
        values["m"] = np.full(shape[0], step, np.float32)
    return values


def main() -> None:
    folder, backend, steps, shape, block_steps, acknowledged, pause_s = sys.argv[1:]
    n_steps, size = int(steps), (int(shape.split("x")[0]), int(shape.split("x")[1]))
    path = Path(folder)
    if path.exists():
        sink = ts.resume(path)
    else:
        sink = ts.create(path, series(size), steps=n_steps, backend=backend, block_steps=int(block_steps))
    descriptor = os.open(acknowledged, os.O_RDWR | os.O_CREAT)
    with sink:
        while (step := sink.next_step) is not None:
            sink.append(step, **frame(step, size))
            os.pwrite(descriptor, struct.pack("<q", step), 0)
            time.sleep(float(pause_s))
            if step % 37 == 36:
                sink.flush()
    print("done")


if __name__ == "__main__":
    main()
