"""Recognises the kind of a file by its content, whatever its name."""

import contextlib
import os
import zipfile
from pathlib import Path
from typing import IO

from .. import files
from ..errors import RunNotFoundError, UsageError

NUMPY, HDF5, SAFETENSORS, TORCH = "numpy", "HDF5", "safetensors", "torch"

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HEAD_BYTES = 512
_OTHERS = {
    b"CDF": "is a classic netCDF file; make it netCDF-4, for instance with nccopy -k nc4",
    b"MATLAB 5.0": "is a MATLAB file of before version 7.3; save it with -v7.3, which makes it HDF5",
    b"\x80\x02\x8a\nl\xfc\x9cF": "is in torch's format of before 1.6; load it and torch.save it again",
    b"\x80": "is a Python pickle, which is never unpickled; save its arrays with numpy.savez",
    b"\x1f\x8b": "is compressed by gzip; unpack it first",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd; unpack it first",
    b"BZh": "is compressed by bzip2; unpack it first",
    b"\xfd7zXZ": "is compressed by xz; unpack it first",
    b"PAR1": "is a Parquet file; save its columns with numpy.savez",
    b"ARROW1": "is an Arrow file; save its columns with numpy.savez",
    b"GGUF": "is a GGUF file; save its tensors as safetensors",
    b'{"crc32c"': "is the manifest of a run; its folder is what can be opened",
}
"""First bytes of a file that cannot be imported → what it is, and what to do. If two fit, the longer comes first."""


def kind_of(path: Path) -> str:
    """NUMPY, HDF5, SAFETENSORS or TORCH.

    Raises RunNotFoundError if the file cannot be read, and UsageError if it is of none of these kinds.
    """
    try:
        with files.plain_file(path) as file:
            found = _kind(file)
            if found is None:
                file.seek(0)
                head = file.read(_HEAD_BYTES)
    except FileNotFoundError as error:
        raise RunNotFoundError(f"{path}: cannot be read: {error.strerror}") from error
    if found is not None:
        return found
    if not head:
        raise UsageError(f"{path}: is empty, so there is nothing to import")
    why = next((said for start, said in _OTHERS.items() if head.startswith(start)), "is of an unknown kind")
    raise UsageError(f"{path}: {why}; what can be imported is safetensors, HDF5, .npy, .npz and torch's .pt")


def _kind(file: IO[bytes]) -> str | None:
    head = file.read(_HEAD_BYTES)
    if head.startswith(b"\x93NUMPY"):
        return NUMPY
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return TORCH if _is_of_torch(file) else NUMPY
    file_bytes = file.seek(0, os.SEEK_END)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return SAFETENSORS
    offset = 0
    while offset < file_bytes:  # a program may have 512, 1,024, 2,048 … bytes before HDF5's
        file.seek(offset)
        if file.read(len(_HDF5_SIGNATURE)) == _HDF5_SIGNATURE:
            return HDF5
        offset = max(512, 2 * offset)
    return None


def _is_of_torch(file: IO[bytes]) -> bool:
    """Whether a zip archive has the pickle of torch.save in its one folder. A broken archive has none."""
    with contextlib.suppress(zipfile.BadZipFile, ValueError, NotImplementedError):
        names = zipfile.ZipFile(file).namelist()
        return any(name.partition("/")[2] == "data.pkl" for name in names)
    return False
