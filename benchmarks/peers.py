"""What is measured: ours and what a researcher would use instead, behind one small interface.

A peer is given one row a step, then closed; what it wrote is read from the path alone. Settings are the best we found
for each, and the notebooks' own where they differ.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

import trajectory_store as ts

Rows = npt.NDArray[np.uint16]
BATCH = 256


class Peer(Protocol):
    """One way of keeping a history of shape (steps, tokens, dim)."""

    compresses: bool

    def open(self, path: Path, shape: tuple[int, int, int]) -> None:
        """Begin to record."""

    def append(self, step: int, row: Rows) -> None:
        """Record one step; what this takes is what the training thread waits."""

    def close(self) -> None:
        """Finish; everything is on disk."""

    def read(self, path: Path, key: Any) -> Rows:
        """Open and slice."""

    def blocks(self, path: Path) -> Iterator[Rows]:
        """Every row, in order."""

    def export(self, path: Path, out: Path) -> None:
        """The same history as the notebook's safetensors file."""


class Batched:
    """For formats that are only good at whole batches of steps: rows wait in RAM until there is a batch."""

    compresses = True
    array: Any

    def open(self, path: Path, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self._batch = np.empty((min(BATCH, shape[0]), *shape[1:]), np.uint16)
        self.array = self.make(path, shape)

    def append(self, step: int, row: Rows) -> None:
        at = step % len(self._batch)
        self._batch[at] = row
        if at == len(self._batch) - 1 or step == self.shape[0] - 1:
            self.put(step - at, self._batch[: at + 1])

    def make(self, path: Path, shape: tuple[int, int, int]) -> Any:
        raise NotImplementedError

    def load(self, path: Path) -> Any:
        raise NotImplementedError

    def put(self, start: int, rows: Rows) -> None:
        self.array[start : start + len(rows)] = rows

    def close(self) -> None:
        self.array = None

    def read(self, path: Path, key: Any) -> Rows:
        return np.asarray(self.load(path)[key])

    def blocks(self, path: Path) -> Iterator[Rows]:
        array = self.load(path)
        for start in range(0, array.shape[0], BATCH):
            yield np.asarray(array[start : min(start + BATCH, array.shape[0])])

    def export(self, path: Path, out: Path) -> None:
        from safetensors.numpy import save_file

        save_file({"W": np.concatenate(list(self.blocks(path)))}, out)


class Ours:
    """This package; options go to `ts.create`."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self.compresses = options.get("backend") != "memmap"

    def open(self, path: Path, shape: tuple[int, int, int]) -> None:
        series = {"W": ts.Series(shape[1:], "bfloat16", dims=("token", "dim"))}
        self._sink = ts.create(path, series, steps=shape[0], **self._options)

    def append(self, step: int, row: Rows) -> None:
        self._sink.append(step, W=row)

    def close(self) -> None:
        self._sink.close()

    def read(self, path: Path, key: Any) -> Rows:
        with ts.open(path) as run:
            rows: Rows = run["W"].bits[key]
            return rows

    def blocks(self, path: Path) -> Iterator[Rows]:
        with ts.open(path) as run:
            for _, rows in run["W"].bits.blocks():
                yield rows

    def export(self, path: Path, out: Path) -> None:
        ts.export_safetensors(path, out, overwrite=True)


class RamThenSafetensors:
    """The notebook: a preallocated array in RAM, saved once at the end."""

    compresses = False

    def open(self, path: Path, shape: tuple[int, int, int]) -> None:
        self._path = path
        self._history = np.zeros(shape, np.uint16)

    def append(self, step: int, row: Rows) -> None:
        self._history[step] = row

    def close(self) -> None:
        from safetensors.numpy import save_file

        self._path.mkdir()
        save_file({"W": self._history}, self._path / "W.safetensors")
        del self._history

    def read(self, path: Path, key: Any) -> Rows:
        from safetensors import safe_open

        with safe_open(path / "W.safetensors", "np") as file:
            return np.asarray(file.get_slice("W")[key])

    def blocks(self, path: Path) -> Iterator[Rows]:
        from safetensors import safe_open

        with safe_open(path / "W.safetensors", "np") as file:
            rows = file.get_slice("W")
            for start in range(0, rows.get_shape()[0], BATCH):
                yield rows[start : min(start + BATCH, rows.get_shape()[0])]

    def export(self, path: Path, out: Path) -> None:
        shutil.copyfile(path / "W.safetensors", out)  # it is the file: what the others are measured against


class NpyMemmap(Batched):
    """numpy's own memory map, written in place."""

    compresses = False

    def make(self, path: Path, shape: tuple[int, int, int]) -> Any:
        path.mkdir()
        return np.lib.format.open_memmap(path / "W.npy", "w+", np.uint16, shape)

    def append(self, step: int, row: Rows) -> None:
        self.array[step] = row

    def close(self) -> None:
        self.array.flush()
        self.array = None

    def load(self, path: Path) -> Any:
        return np.load(path / "W.npy", mmap_mode="r")


class Hdf5(Batched):
    """h5py; the notebooks wrote one step a chunk with gzip-1, then 1,600-step chunks without compression."""

    def __init__(self, chunk: tuple[int | None, int | None], **options: Any) -> None:
        self._chunk, self._options = chunk, options
        self.compresses = "compression" in options

    def make(self, path: Path, shape: tuple[int, int, int]) -> Any:
        import h5py

        path.mkdir()
        self._file = h5py.File(path / "W.h5", "w")
        chunk = tuple(min(n, c or n) for n, c in zip(shape, (*self._chunk, None), strict=True))
        return self._file.create_dataset("W", shape, "u2", chunks=chunk, **self._options)

    def close(self) -> None:
        self._file.close()

    def load(self, path: Path) -> Any:
        import h5py

        return h5py.File(path / "W.h5", "r")["W"]


class ZarrDefault(Batched):
    """zarr-python with its own choice of everything but the chunks."""

    def make(self, path: Path, shape: tuple[int, int, int]) -> Any:
        import zarr

        chunks = (min(BATCH, shape[0]), min(64, shape[1]), shape[2])
        return zarr.create_array(path, shape=shape, chunks=chunks, dtype="uint16")

    def load(self, path: Path) -> Any:
        import zarr

        return zarr.open_array(path, mode="r")


class ZarrTimeLast(ZarrDefault):
    """zarr-python with time last and blosc's shuffle and zstd: the best chain of core codecs."""

    def make(self, path: Path, shape: tuple[int, int, int]) -> Any:
        import zarr
        from zarr.codecs import BloscCodec, TransposeCodec

        return zarr.create_array(
            path,
            shape=shape,
            chunks=(min(BATCH, shape[0]), min(64, shape[1]), shape[2]),
            dtype="uint16",
            filters=[TransposeCodec(order=(1, 2, 0))],
            compressors=[BloscCodec(typesize=2, cname="zstd", clevel=2, shuffle="shuffle")],
        )


class TensorStore(Batched):
    """TensorStore's zarr3 driver, time last and zstd."""

    def make(self, path: Path, shape: tuple[int, int, int]) -> Any:
        import tensorstore

        codecs = [
            {"name": "transpose", "configuration": {"order": [1, 2, 0]}},
            {"name": "bytes", "configuration": {"endian": "little"}},
            {
                "name": "blosc",
                "configuration": {"cname": "zstd", "clevel": 1, "shuffle": "shuffle", "typesize": 2, "blocksize": 0},
            },
        ]
        chunk = [min(BATCH, shape[0]), min(64, shape[1]), shape[2]]
        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str(path)},
            "metadata": {
                "shape": list(shape),
                "data_type": "uint16",
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
                "codecs": codecs,
            },
        }
        return tensorstore.open(spec, create=True).result()

    def put(self, start: int, rows: Rows) -> None:
        self.array[start : start + len(rows)].write(rows).result()

    def load(self, path: Path) -> Any:
        import tensorstore

        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
        return tensorstore.open(spec, open=True, read=True).result()


class Blosc2(Batched):
    """blosc2's arrays with two levels of partition, time last, shuffle and bytedelta."""

    def make(self, path: Path, shape: tuple[int, int, int]) -> Any:
        import blosc2

        path.mkdir()
        last = (shape[1], shape[2], shape[0])
        chunks = (min(64, last[0]), last[1], min(BATCH, last[2]))
        parameters = blosc2.CParams(
            codec=blosc2.Codec.ZSTD,
            clevel=1,
            typesize=2,
            nthreads=os.cpu_count(),
            filters=[blosc2.Filter.SHUFFLE, blosc2.Filter.BYTEDELTA],
            filters_meta=[0, 0],
        )
        where = str(path / "W.b2nd")
        return blosc2.empty(last, np.uint16, urlpath=where, chunks=chunks, cparams=parameters, mode="w")

    def put(self, start: int, rows: Rows) -> None:
        self.array[:, :, start : start + len(rows)] = np.ascontiguousarray(np.moveaxis(rows, 0, -1))

    def read(self, path: Path, key: Any) -> Rows:
        step, token = key if isinstance(key, tuple) else (key, slice(None))
        part = np.asarray(self.load(path)[token, :, step])
        return np.moveaxis(part, -1, 0) if isinstance(step, slice) else part

    def blocks(self, path: Path) -> Iterator[Rows]:
        array = self.load(path)
        for start in range(0, array.shape[2], BATCH):
            yield np.moveaxis(array[:, :, start : min(start + BATCH, array.shape[2])], -1, 0)

    def load(self, path: Path) -> Any:
        import blosc2

        return blosc2.open(str(path / "W.b2nd"), mode="r")


PEERS: dict[str, Peer] = {
    "trajectory_store": Ours(),
    "trajectory_store, portable": Ours(codec="portable"),
    "trajectory_store, memmap": Ours(backend="memmap"),
    "RAM, then safetensors": RamThenSafetensors(),
    "npy memmap": NpyMemmap(),
    "HDF5, Thimble 6": Hdf5((1, None), compression="gzip", compression_opts=1),
    "HDF5, Thimble 7": Hdf5((1600, None)),
    "HDF5, best": Hdf5((BATCH, 64), compression="gzip", compression_opts=1, shuffle=True),
    "zarr default": ZarrDefault(),
    "zarr time-last blosc": ZarrTimeLast(),
    "TensorStore": TensorStore(),
    "blosc2": Blosc2(),
}
