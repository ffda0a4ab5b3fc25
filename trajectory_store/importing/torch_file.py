"""A file of torch.save: its tensors, mapped, so that no more of them is in memory than the rows asked for.

Nothing that the file brings along is executed: torch loads it with `weights_only`, and refuses what is more than
tensors, arrays and plain values.
"""

import contextlib
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import files
from ..dtypes import DTYPES
from ..errors import MalformedFileError, RunNotFoundError, UsageError
from ..naming import free_name
from ..values import as_numpy
from .foreign import ForeignArray, broken_array, broken_file

_MOST_DEPTH = 100
_MOST_ATTRS = 1000


class ForeignTorch:
    """Every tensor and numpy array of a saved object, its keys and positions on the way joined with "/".

    An object that is one tensor has the file's name, unless another is given. Plain values are attributes.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path
        self.arrays: dict[str, ForeignArray] = {}
        self.attrs: dict[str, Any] = {}
        self.left_out: list[str] = []
        self.remarks: list[str] = []
        self._values: dict[str, Any] = {}
        try:
            files.open_plain(path).close()
        except FileNotFoundError as error:
            raise RunNotFoundError(f"{path}: cannot be read: {error.strerror}") from error
        saved = _loaded(path)
        for key, value in _leaves(saved, "", _MOST_DEPTH):
            self._add(key or name or path.stem, value)

    def _add(self, name: str, value: Any) -> None:
        import torch

        if name in self.arrays:  # such as {"a": {"b": …}, "a/b": …}
            path, name = name, free_name(name, self.arrays)
            self.remarks.append(f"{name}: one more array at {path!r} in the file")
        if isinstance(value, torch.Tensor):
            if why := _why_left_out(value):
                self.left_out.append(f"{name!r} {why}")
                return
            self.arrays[name] = ForeignArray(_numpy_dtype(value), tuple(value.shape))
            self._values[name] = value.detach()
        elif isinstance(value, np.ndarray):
            if value.dtype.hasobject:
                self.left_out.append(f"{name!r} is an array of Python objects")
                return
            self.arrays[name] = ForeignArray(value.dtype.newbyteorder("="), value.shape)
            self._values[name] = value
        elif isinstance(value, (str, bool, int, float)) and not (isinstance(value, float) and not math.isfinite(value)):
            if len(self.attrs) < _MOST_ATTRS:
                self.attrs[name] = value
        elif value is not None:
            self.left_out.append(f"{name!r} is a {type(value).__name__}, which is no array")

    def read(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows of a tensor, whatever its strides."""
        array, value = self.arrays[name], self._values[name]
        try:
            rows = as_numpy(value[start:stop] if array.shape else value)
            return np.ascontiguousarray(rows, dtype=array.dtype).reshape(rows.shape)
        except (RuntimeError, ValueError, TypeError) as error:
            raise broken_array(self.path, name, start, error) from error

    def close(self) -> None:
        """The mapping goes with the tensors."""
        self._values.clear()


def _loaded(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise UsageError(f"{path}: importing a file of torch.save needs torch; install it") from error
    import pickle

    if _is_torchscript(path):
        raise UsageError(f"{path}: is a TorchScript archive, which is a program; torch.save its state_dict instead")
    try:
        with _numpy_allowed():
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"{path}: has more in it than tensors and plain values{_culprit(error)}, which torch loads only by running"
            " code of the file; save its state_dict or its tensors alone"
        ) from error
    except OSError as error:
        raise broken_file(path, "not a file of torch.save that torch can read", error) from error
    except (RuntimeError, ValueError, EOFError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise MalformedFileError(
            f"{path}: not a file of torch.save that torch can read: {_first_line(error)}"
        ) from error


def _is_torchscript(path: Path) -> bool:
    with contextlib.suppress(zipfile.BadZipFile, ValueError, NotImplementedError), files.plain_file(path) as file:
        return any(name.partition("/")[2] == "constants.pkl" for name in zipfile.ZipFile(file).namelist())
    return False


@contextlib.contextmanager
def _numpy_allowed() -> Iterator[None]:
    """Let numpy's arrays and numbers be loaded: they are made of bytes, and run nothing of the file's."""
    import torch

    if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):  # torch before 2.6 knows no other names
        yield
        return
    core = np._core.multiarray if hasattr(np, "_core") else np.core.multiarray
    functions = [getattr(core, name) for name in ("_reconstruct", "scalar")]
    # numpy 1 and 2 write the module's name in two ways.
    named = [(one, f"numpy.{name}.multiarray.{one.__name__}") for one in functions for name in ("core", "_core")]
    dtypes = [getattr(np.dtypes, name) for name in np.dtypes.__all__]
    with torch.serialization.safe_globals([*named, np.ndarray, np.dtype, *dtypes]):
        yield


def _culprit(error: Exception) -> str:
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f", such as {found[1]}" if found else ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _leaves(value: Any, where: str, depth: int) -> Iterator[tuple[str, Any]]:
    """(path, value) of all that is no dictionary, list or tuple."""
    if isinstance(value, Mapping):
        items = [(str(key), one) for key, one in value.items()]
    elif isinstance(value, (list, tuple)):
        items = [(str(number), one) for number, one in enumerate(value)]
    else:
        yield where, value.item() if isinstance(value, np.generic) else value
        return
    if depth == 0:
        yield where, value
        return
    for key, one in items:
        yield from _leaves(one, f"{where}/{key}" if where else key, depth - 1)


def _why_left_out(tensor: Any) -> str | None:
    """Why a tensor cannot be imported; None if it can."""
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        kind = "quantized" if tensor.is_quantized else str(tensor.layout).removeprefix("torch.")
        return f"is a {kind} tensor on {tensor.device.type}, which is no plain array"
    if str(tensor.dtype).removeprefix("torch.") not in DTYPES:
        return f"has dtype {tensor.dtype}, which no series can have"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return "repeats its values, so that it says less than its shape"
    return None


def _numpy_dtype(tensor: Any) -> np.dtype[Any]:
    return DTYPES[str(tensor.dtype).removeprefix("torch.")]
