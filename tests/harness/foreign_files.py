"""Files as people save their arrays, by the library that they save them with."""

from pathlib import Path

import h5py
import numpy as np
from safetensors.numpy import save_file

RNG = np.random.default_rng(3)
W = RNG.integers(0, 1 << 16, (30, 7, 4)).astype(np.uint16)
LOSS = RNG.standard_normal(30).astype(np.float32)
MASK = RNG.random(12) > 0.5
NOTEBOOK = {"W": W, "loss": LOSS, "dead_mask": MASK, "dead_indices": np.flatnonzero(MASK)}


def write(kind: str, path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """A file of one of the kinds, by the library that people write it with."""
    if kind == "safetensors":
        save_file(arrays, path)
    elif kind == "npz":
        with path.open("wb") as file:
            np.savez(file, **arrays)
    elif kind == "npz compressed":
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)
    else:
        layout = {
            "hdf5": {},
            "hdf5 step chunks": {"chunks": True, "compression": "gzip"},
            "hdf5 large chunks": {"chunks": (4, 7, 2), "shuffle": True, "fletcher32": True},
        }[kind]
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                options = dict(layout) if array.ndim == 3 else {}
                file.create_dataset(name, data=array, **options)
    return path


KINDS = ["safetensors", "npz", "npz compressed", "hdf5", "hdf5 step chunks", "hdf5 large chunks"]
