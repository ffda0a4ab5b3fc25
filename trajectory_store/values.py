"""What a caller hands over as one array: numpy's and torch's arrays, Python's numbers, lists, whatever numpy takes.

Knows no file, and of a series only its shape and dtype. Each value comes out bit for bit, or an error says what it is
and what to hand over instead. A value without a dtype, a Python number or a list, takes the dtype that is wanted. An
array of another dtype is cast only if that dtype's every number is also one of the wanted dtype.
"""

import math
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from .bf16 import BFLOAT16, to_float32
from .errors import FrameError, LossyCastError, TrajectoryError

Array = npt.NDArray[Any]

_MOST_NESTED = 64
"""Lists inside of lists: numpy has 64 axes at most."""

_REMEDIES = {
    "c": "record its real and its imaginary part as two series",
    "M": 'pass value.astype("int64") to a series of int64',
    "m": 'pass value.astype("int64") to a series of int64',
    "S": "text cannot be recorded",
    "U": "text cannot be recorded",
    "V": "record each field as a series of its own, and saved bfloat16 as value.view(numpy.uint16)",
}
"""What to do with an array that no series can hold, by the kind of its dtype."""


def as_row(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """One value as the row of a series of `shape` and logical `dtype`, C-contiguous, bfloat16 as its bits.

    May share memory with `value`. Raises FrameError on what is no array of that shape, LossyCastError if bits would
    change; neither knows the step and the series, which the caller puts in front.
    """
    row = _in_dtype(value, dtype)
    if row.shape != shape:
        raise FrameError(f"found shape {row.shape}, expected {shape}")
    return np.ascontiguousarray(row).reshape(shape)  # numpy makes a scalar one-dimensional


def as_numpy(value: Any) -> Array:
    """`value` as a numpy array in its own dtype, torch's bfloat16 as ml_dtypes'; no copy of what is on the CPU.

    Raises FrameError, which says what to pass instead, on what has no values at hand or would lose some of them.
    """
    if type(value) is np.ndarray:
        array: Array = value
    else:
        torch = sys.modules.get("torch")  # whoever passes a tensor has imported torch; this package never does
        if torch is not None and isinstance(value, torch.Tensor):
            return _of_tensor(value, torch)
        array = _of_list(value) if isinstance(value, (list, tuple)) else _of_array_like(value)
    if array.dtype == object and array.size:
        raise FrameError(
            f"a value of type {type(value).__name__} is not an array of numbers; pass a numpy array of one dtype"
        )
    return array


def _in_dtype(value: Any, dtype: np.dtype[Any], depth: int = 0) -> Array:
    """A value of any shape in a logical dtype's storage form."""
    if isinstance(value, (bool, int, float)):  # np.float64 too, which is a float: so np.mean of losses is rounded
        return _number(value, dtype)
    if isinstance(value, (list, tuple, range)):
        return _list(value, dtype, depth)
    return _cast(as_numpy(value), dtype)


def _number(value: bool | int | float, dtype: np.dtype[Any]) -> Array:
    """A Python number. A float is rounded to the series' dtype, as by numpy; an int stays the number that it is."""
    is_float_series = dtype.kind not in "biu"
    if isinstance(value, float) and is_float_series:
        if math.isfinite(value) and abs(value) > _largest(dtype):
            raise LossyCastError(f"{value} does not fit in {dtype}")
        return np.asarray(value, dtype=np.float64).astype(dtype).view(_stored(dtype))
    if isinstance(value, bool) != (dtype.kind == "b") or isinstance(value, float):
        raise LossyCastError(f"a Python {type(value).__name__} would change as {dtype}")
    if not is_float_series:
        if dtype.kind != "b" and not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
            raise LossyCastError(f"{value} does not fit in {dtype}")
        return np.asarray(value, dtype=dtype)
    if abs(value) > _largest(dtype):
        raise LossyCastError(f"{value} does not fit in {dtype}")
    number = np.asarray(float(value)).astype(dtype)
    if float(number) != value:
        raise LossyCastError(f"the int {value} would change as {dtype}; pass float(value) to have it rounded")
    return number.view(_stored(dtype))


def _list(values: Sequence[Any], dtype: np.dtype[Any], depth: int) -> Array:
    """A list: each entry as it would be alone."""
    if depth == _MOST_NESTED:
        raise FrameError(f"lists nested more than {_MOST_NESTED} deep are not an array")
    if dtype.kind not in "biu" and values and all(type(value) is float for value in values):
        many = np.array(values, dtype=np.float64)  # all at once: a list of lists of weights has many
        if (np.abs(many[np.isfinite(many)]) <= _largest(dtype)).all():
            return many.astype(dtype).view(_stored(dtype))
    return _stacked([_in_dtype(value, dtype, depth + 1) for value in values], _stored(dtype))


def _stacked(parts: Sequence[Array], dtype: np.dtype[Any]) -> Array:
    shapes = sorted({part.shape for part in parts})
    if len(shapes) > 1:
        raise FrameError(f"a list whose entries have different shapes, {shapes[0]} and {shapes[1]}, is not an array")
    return np.array(parts, dtype=dtype).reshape(len(parts), *(shapes[0] if shapes else ()))


def _cast(array: Array, dtype: np.dtype[Any]) -> Array:
    """An array in a logical dtype's storage form. Its bits are taken if it has that dtype, or is bfloat16's
    patterns."""
    stored = _stored(dtype)
    if not array.dtype.isnative and array.dtype.kind in "biuf":
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype == dtype or array.dtype == stored:
        # ascontiguousarray first: a transposed view cannot be reinterpreted.
        return np.ascontiguousarray(array).reshape(array.shape).view(stored)
    if not _is_number(array.dtype):
        kind = array.dtype.kind if array.dtype.type.__module__ == "numpy" else ""  # ml_dtypes says V, too
        remedy = _REMEDIES.get(kind, f"pass an array of {dtype}, or its bits to a series of unsigned ints")
        raise LossyCastError(f"{array.dtype} is not a dtype that a series can have; {remedy}")
    if not _holds_all_of(dtype, array.dtype):
        raise LossyCastError(
            f"{array.dtype} would lose bits as {dtype}; cast it yourself first if that is intended, or declare"
            f" the series as {array.dtype}"
        )
    if array.dtype == BFLOAT16:
        array = to_float32(np.ascontiguousarray(array).reshape(array.shape).view(np.uint16))
    with np.errstate(invalid="ignore"):
        row = array.astype(stored)
        # Every number survives. Of the NaNs, a signalling one does not if the processor widens it.
        if array.dtype.kind == "f" and np.isnan(row).any() and array.tobytes() != row.astype(array.dtype).tobytes():
            raise LossyCastError(
                f"the bits of a NaN of {array.dtype} would change as {dtype}; replace it, or cast first"
            )
    return row


def _is_number(dtype: np.dtype[Any]) -> bool:
    """Whether a series can have this dtype."""
    is_numpys = issubclass(dtype.type, (np.number, np.bool_))  # ml_dtypes' eight bits are floats, too, by their kind
    return dtype == BFLOAT16 or (is_numpys and dtype.kind in "biuf" and dtype.itemsize <= 8)


@cache
def _holds_all_of(target: np.dtype[Any], source: np.dtype[Any]) -> bool:
    """Whether every number of one dtype is one of the other: numpy's safe casts, but not wide ints to floats."""
    if source == BFLOAT16:
        return target in (np.float32, np.float64)
    if target == BFLOAT16 or not np.can_cast(source, target, "safe"):
        return False
    n_bits = source.itemsize * 8 - (source.kind == "i")
    return not (source.kind in "iu" and target.kind == "f" and n_bits > np.finfo(target).nmant + 1)


@cache
def _largest(dtype: np.dtype[Any]) -> float:
    """The largest finite number of a floating dtype."""
    return float(ml_dtypes.finfo(dtype).max)


@cache
def _stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype("<u2") if dtype == BFLOAT16 else dtype


def _of_list(values: Sequence[Any], depth: int = 0) -> Array:
    """A list in the dtype that numpy gives it, if all of its numbers survive that."""
    if depth == _MOST_NESTED:
        raise FrameError(f"lists nested more than {_MOST_NESTED} deep are not an array")
    kinds = set(map(type, values))
    if len(kinds) == 1 and kinds <= {bool, int, float}:
        array = np.array(values)
        if (array.dtype.kind not in "iu") and kinds == {int}:
            raise FrameError("no dtype holds all of these ints; pass an array")
        return array
    parts = [_of_list(value, depth + 1) if isinstance(value, (list, tuple)) else as_numpy(value) for value in values]
    try:
        dtype = np.result_type(*{part.dtype for part in parts}) if parts else np.dtype(np.float64)
    except TypeError as error:
        raise FrameError(f"a list of different things is not an array: {_sentence(error)}") from error
    stacked = _stacked(parts, dtype)
    for part, original in zip(stacked, parts, strict=True):
        if original.dtype not in (dtype, object) and (part.astype(object) != original.astype(object)).any():
            raise FrameError(f"a list of {original.dtype} and others would change as {dtype}; pass an array")
    return stacked


def _of_array_like(value: Any) -> Array:
    """Whatever numpy makes an array of by itself."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise FrameError("some entries are masked and have no value; pass value.filled(…)")
    try:
        array = np.asarray(value)
        if array.dtype == object and array.ndim == 0 and hasattr(value, "__dlpack__"):
            array = np.from_dlpack(value)
    except (MemoryError, TrajectoryError):
        raise
    except Exception as error:  # an array-like's own code, which raises what it likes
        raise FrameError(f"{_article(type(value))} does not become a numpy array: {_sentence(error)}") from error
    return array


def _of_tensor(tensor: Any, torch: Any) -> Array:
    try:
        if not tensor.untyped_storage().nbytes() and tensor.numel():  # numpy would be given zeros
            raise FrameError("a tensor whose memory was freed, as FSDP does, has no values; pass the gathered one")
        if tensor.dtype is torch.bfloat16:
            if tensor.requires_grad or not tensor.is_cpu or tensor.is_neg():
                tensor = tensor.detach().cpu().resolve_neg()
            bits: Array = tensor.view(torch.int16).numpy()
            return bits.view(BFLOAT16)
        array: Array = tensor.numpy(force=True)
    except (MemoryError, FrameError):
        raise
    except Exception as error:  # what a tensor is can be asked in many ways, and each kind fails in its own
        raise FrameError(f"{_what_it_is(tensor, torch)} (torch says: {_sentence(error)})") from error
    return array


def _what_it_is(tensor: Any, torch: Any) -> str:
    """Why a tensor has no values that numpy could take, and what to pass instead."""
    kind = type(tensor)
    if kind.__name__ == "DTensor":
        return (
            "a DTensor is one process's share of a tensor; call value.full_tensor() on every rank and record on one,"
            " or declare the shape of the share and pass value.to_local()"
        )
    if tensor.is_nested:
        return "a nested tensor has rows of different lengths; pass torch.nested.to_padded_tensor(value, …)"
    if tensor.layout is not torch.strided:
        return f"a tensor of layout {tensor.layout} is not an array; pass value.to_dense()"
    if tensor.is_quantized:
        return "a quantized tensor is not an array; pass value.dequantize(), or value.int_repr()"
    if tensor.device.type == "meta":
        return "a tensor on the meta device has no values"
    if "Uninitialized" in kind.__name__:
        return f"{_article(kind)} has no values before the module's first forward pass"
    if kind not in (torch.Tensor, torch.nn.Parameter):
        return f"{_article(kind)} does not give numpy its values; pass a plain tensor"
    if tensor.dtype.is_floating_point and tensor.dtype.itemsize == 1:
        return f"{tensor.dtype} is not a dtype that a series can have; pass value.float(), or value.view(torch.uint8)"
    return f"a tensor of {tensor.dtype} does not give numpy its values here; pass a plain one of a series' dtype"


def _article(kind: type) -> str:
    return f"{'an' if kind.__name__[:1] in 'AEIOU' else 'a'} {kind.__name__}"


def _sentence(error: Exception) -> str:
    """The first sentence of another library's error, because the advice behind it does not apply."""
    first = str(error).strip().split("\n", 1)[0].split(". ", 1)[0].rstrip(".")
    return first or type(error).__name__
