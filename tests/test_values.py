"""What is handed to `append`, or given as a static array: right bit for bit, or an error that says what to do."""

import array
import contextlib
import math
from enum import IntEnum
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import trajectory_store as ts
from tests.harness.one_value import SIX, recorded, refusal
from trajectory_store.blocks.static_array import checked_static
from trajectory_store.dtypes import DTYPES
from trajectory_store.errors import FrameError, LossyCastError, SpecError, UsageError

BF16 = np.dtype(ml_dtypes.bfloat16)


# Casts.


@given(st.sampled_from(sorted(DTYPES)), st.data())
def test_an_array_is_recorded_as_it_is_or_refused(dtype: str, data: st.DataObject) -> None:
    """Of any dtype that numpy has, of either byte order, scalars too: every value survives, or LossyCastError."""
    kinds = [npst.boolean_dtypes(), npst.integer_dtypes(), npst.unsigned_integer_dtypes(), npst.floating_dtypes()]
    source = data.draw(st.one_of(*kinds, npst.complex_number_dtypes(), npst.datetime64_dtypes()))
    value = data.draw(npst.arrays(source, 2))
    if dtype == "bfloat16" and source in (np.dtype("<u2"), np.dtype(">u2")):
        return  # its bits

    for given_value, shape in ((value, (2,)), (value[0], ())):
        if isinstance(given_value, float):
            continue  # np.float64 is a Python float, and rounded as one
        try:
            found = recorded(given_value, dtype, shape)
        except LossyCastError:
            continue
        numbers = found.astype(np.float32) if dtype == "bfloat16" else found
        for mine, its in zip(np.ravel(numbers).tolist(), np.ravel(given_value).tolist(), strict=True):
            assert (mine, math.copysign(1, mine)) == (its, math.copysign(1, its)) or (mine != mine and its != its)


@pytest.mark.parametrize(
    ("source", "dtype"),
    [
        *[(source, "float64") for source in ("int64", "uint64")],
        *[(source, "float32") for source in ("int32", "uint32", "int64", "uint64", "float64")],
        *[(source, "float16") for source in ("int16", "uint16", "int32", "float32", "bfloat16")],
        *[(source, "bfloat16") for source in ("uint8", "int8", "float16", "float32", "float64", "bool")],
        *[(source, "int64") for source in ("uint64", "float16", "datetime64[s]", "timedelta64[ns]", "S8")],
        *[(source, "bool") for source in ("uint8", "int8", "float32")],
        *[(source, "float64") for source in ("longdouble", "complex64", "U4", "V8", "float8_e5m2", "int4")],
        ("i4,f4", "float32"),
    ],
)
def test_a_cast_is_refused_by_its_dtypes(source: str, dtype: str) -> None:
    """Also where these values, all of them zero or so, would survive it: no run ends at the first one that does not."""
    named = getattr(ml_dtypes, source, source)
    refusal(np.zeros((2, 3), named), dtype)
    if source != "float64":  # its scalars are Python floats
        refusal(np.zeros((), named)[()], dtype, ())
    refusal(np.zeros((), named), dtype, ())
    refusal([np.zeros(3, named)] * 2, dtype)


@pytest.mark.parametrize(
    ("value", "dtype", "way"),
    [
        (np.zeros(2, "i4,f4"), "float32", "each field"),
        (np.zeros((2, 3), "V2"), "bfloat16", "view(numpy.uint16)"),
        (np.zeros((2, 3), ml_dtypes.float8_e5m2), "float32", "an array of float32"),
        (np.zeros((2, 3), np.complex64), "float32", "two series"),
        (np.zeros((2, 3), "M8[s]"), "int64", 'astype("int64")'),
        (np.zeros((2, 3), np.float64), "float32", "declare the series as float64"),
    ],
)
def test_a_refused_dtype_has_a_way_on(value: np.ndarray, dtype: str, way: str) -> None:
    assert way in refusal(value, dtype)


@pytest.mark.parametrize(
    ("source", "dtype"),
    [("int32", "float64"), ("uint16", "float32"), ("int8", "float16"), ("uint8", "int16"), ("bool", "uint8")],
)
def test_ints_are_cast_where_every_one_survives(source: str, dtype: str) -> None:
    """At both ends of their range."""
    limits = [0, 1, 1] if source == "bool" else [np.iinfo(source).min, np.iinfo(source).max, 1]
    value = np.array([limits, limits], source)
    assert recorded(value, dtype).astype(object).tolist() == value.astype(object).tolist()


NANS = {"float16": [0x7C01, 0xFE55], "bfloat16": [0x7F81, 0xFFD5], "float32": [0x7F800001, 0xFFC00055]}


@pytest.mark.parametrize(("source", "dtype"), [("float16", "float32"), ("bfloat16", "float32"), ("float32", "float64")])
def test_the_bits_of_a_nan_survive_a_cast_or_it_is_refused(source: str, dtype: str) -> None:
    """Signalling ones and payloads: what comes back, narrowed without arithmetic, is what went in."""
    bits = np.array(NANS[source], f"u{np.dtype(DTYPES[source]).itemsize}")
    with contextlib.suppress(LossyCastError):
        found = recorded(bits.view(DTYPES[source]), dtype, (2,))
        assert_same_nans(found, bits, source)
    quiet = bits | {"float16": 0x200, "bfloat16": 0x40, "float32": 0x400000}[source]
    assert_same_nans(recorded(quiet.view(DTYPES[source]), dtype, (2,)), quiet, source)


def assert_same_nans(found: np.ndarray, bits: np.ndarray, source: str) -> None:
    """Widened without arithmetic: the mantissa's bits are at the upper end of the wider one's."""
    assert np.isnan(found).all()
    wide = found.view(f"u{found.itemsize}")
    narrow = {"float16": wide >> 13 & 0x3FF, "bfloat16": wide >> 16, "float32": wide >> 29 & 0x7FFFFF}[source]
    mask = {"float16": 0x3FF, "bfloat16": 0xFFFF, "float32": 0x7FFFFF}[source]
    assert narrow.tolist() == (bits & mask).tolist()


def test_zeros_and_subnormals_keep_their_bits() -> None:
    """−0 and the smallest number of each floating dtype, cast to each wider one."""
    for source, dtype in (("float16", "float64"), ("bfloat16", "float64"), ("float32", "float64")):
        value = (
            np.array([0x8000, 1], np.uint16).view(DTYPES[source]) if source != "float32" else np.float32([-0.0, 1e-45])
        )
        found = recorded(value, dtype, (2,))
        assert found.tolist() == value.astype(object).tolist()
        assert math.copysign(1, found[0]) == -1
        assert found[1] > 0


# Python's numbers, and lists.


class Phase(IntEnum):
    WARM = 3


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (2**53, "float64", 2.0**53),
        (-(2**100), "float64", -(2.0**100)),
        (256, "bfloat16", 256.0),
        (Phase.WARM, "float16", 3.0),
        (Phase.WARM, "uint8", 3),
        (2**64 - 1, "uint64", 2**64 - 1),
        (-(2**63), "int64", -(2**63)),
        (-128, "int8", -128),
        (0.1, "float16", float(np.float16(0.1))),
        (0.1, "bfloat16", float(ml_dtypes.bfloat16(0.1))),
        (1e-60, "float32", 0.0),
        (-math.inf, "bfloat16", -math.inf),
        (False, "bool", False),
    ],
)
def test_a_python_number_takes_the_series_dtype(value: Any, dtype: str, expected: Any) -> None:
    """Alone and in lists: a float is rounded, an int is that number."""
    assert recorded(value, dtype, ()) == expected
    assert recorded([[value] * 3, (value,) * 3], dtype).astype(object).tolist() == [[expected] * 3] * 2


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (2**53 + 1, "float64"),
        (2**24 + 1, "float32"),
        (257, "bfloat16"),
        (10**400, "float64"),
        (300, "uint8"),
        (-1, "uint64"),
        (2**63, "int64"),
        (2**64, "uint64"),
        (-129, "int8"),
        (1e39, "float32"),
        (-1e5, "float16"),
        (1e39, "bfloat16"),
        (1.0, "int8"),
        (1, "bool"),
        (True, "int8"),
        (True, "float64"),
        (1j, "float64"),
        ("1", "float32"),
        (b"1", "uint8"),
    ],
)
def test_a_python_number_that_would_change_is_refused(value: Any, dtype: str) -> None:
    """Nothing wraps, on any numpy, and nothing warns."""
    refusal(value, dtype, ())
    refusal([value], dtype, (1,))
    refusal([[value, value, value]] * 2, dtype)


def test_a_float64_scalar_is_a_python_float() -> None:
    """np.float64 is a Python float, and rounded as one: what np.mean gives goes into a float32 loss. Arrays do not."""
    assert recorded(np.float64(0.1), "float32", ()) == np.float32(0.1)
    assert recorded(np.float64(0.1), "float64", ()) == 0.1
    assert recorded(np.mean([0.1, 0.2]), "bfloat16", ()) == recorded(float(np.mean([0.1, 0.2])), "bfloat16", ())
    assert "cast it yourself" in refusal(np.array(0.1), "float32", ())


def test_lists_are_arrays() -> None:
    """Of numbers, of ints beside floats, of rows, of ranges."""
    assert recorded([[0, 1.0, 2], np.float32([3, 4, 5])]).tolist() == SIX.tolist()
    assert recorded([range(3), range(3, 6)], "int16").tolist() == SIX.tolist()
    assert recorded(array.array("f", range(6)), shape=(6,)).tolist() == list(range(6))
    assert recorded(memoryview(SIX), shape=(2, 3)).tolist() == SIX.tolist()


def itself() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([[1.0], [1.0, 2.0]], "different shapes"),
        ([1.0, [2.0]], "different shapes"),
        ([SIX, SIX[0]], "different shapes"),
        ([], "shape"),
        (itself(), "nested"),
        ([None, 1.0], "NoneType"),
        ([Fraction(1, 3)], "Fraction"),
        (iter([1.0]), "list_iterator"),
        ({1.0}, "set"),
        (None, "NoneType"),
        (np.array([1.0, None]), "ndarray"),
        (np.ma.masked_array([1.0, 2.0], [False, True]), "masked"),
        ([np.ma.masked, 1.0], "masked"),
    ],
)
def test_what_is_no_array_is_refused(value: Any, said: str) -> None:
    """Ragged, endless, of objects, with holes."""
    assert said in refusal(value)


# Arrays of others.


def test_arrays_of_any_layout() -> None:
    """Transposed, backwards, read-only, repeated by a stride of zero, big-endian, subclasses of numpy's."""
    fixed = SIX.copy()
    fixed.flags.writeable = False
    cases = [fixed, np.asfortranarray(SIX), SIX[::-1, ::-1].copy()[::-1, ::-1], SIX.astype(">f4")]
    for value in [*cases, np.ma.masked_array(SIX), SIX.view(np.recarray)]:
        assert recorded(value).tobytes() == SIX.tobytes()
    assert recorded(np.broadcast_to(np.float32(7), (2, 3))).tolist() == [[7.0] * 3] * 2
    patterns = np.arange(6, dtype=">u2").reshape(2, 3)
    assert recorded(patterns, "bfloat16").view(np.uint16).tolist() == patterns.tolist()


class Duck:
    """An array of another library, as numpy sees it."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy
        return np.array(self._values, dtype=dtype)


class DlpackDuck:
    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def __dlpack__(self, **options: Any) -> Any:
        return self._values.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._values.__dlpack_device__()


class OnAnotherDevice(Duck):
    """As cupy's and jax's sharded arrays do."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")


def test_arrays_of_other_libraries() -> None:
    """By __array__, with ml_dtypes' bfloat16 as jax has it, or by DLPack."""
    assert recorded(Duck(SIX)).tobytes() == SIX.tobytes()
    assert recorded(Duck(SIX.astype(BF16)), "bfloat16").tobytes() == SIX.astype(BF16).tobytes()
    assert recorded(DlpackDuck(SIX)).tobytes() == SIX.tobytes()
    assert recorded([Duck(SIX[0]), Duck(SIX[1])]).tobytes() == SIX.tobytes()
    assert "Implicit conversion" in refusal(OnAnotherDevice(SIX))


def test_frames_and_labelled_arrays() -> None:
    """pandas' and xarray's; what has no value in one of them is refused."""
    pandas, xarray = pytest.importorskip("pandas"), pytest.importorskip("xarray")
    for value in (pandas.DataFrame(SIX), xarray.DataArray(SIX, dims=("token", "dim"))):
        assert recorded(value).tobytes() == SIX.tobytes()
    assert recorded(pandas.Series([1, 2], dtype="Int64"), "int64", (2,)).tolist() == [1, 2]
    refusal(pandas.Series([1, None], dtype="Int64"), "int64", (2,))
    refusal(pandas.Series(["a", "b"]), "int64", (2,))
    refusal(xarray.Dataset({"a": ("x", SIX[0])}))


def test_memory_maps_and_lazy_series(tmp_path: Any) -> None:
    """A row of one run is a value for another."""
    np.save(tmp_path / "six.npy", SIX)
    mapped = np.load(tmp_path / "six.npy", mmap_mode="r")
    assert recorded(mapped).tobytes() == SIX.tobytes()
    with ts.create(tmp_path / "run", {"W": ts.Series((3,), "bfloat16")}) as sink:
        for row in SIX:
            sink.append(sink.next_step, W=row.astype(BF16))
    with ts.open(tmp_path / "run") as run:
        assert recorded(run["W"], "bfloat16").tobytes() == SIX.astype(BF16).tobytes()


# Static arrays.


def static(value: Any) -> np.ndarray:
    return checked_static({"ids": value}, {})["ids"]


def test_lists_of_numbers_are_static_arrays() -> None:
    """In the dtype that numpy gives them, rows and tensors too."""
    assert static([3, 1, 2]).dtype == np.int64
    assert static([[True, False]]).tolist() == [[True, False]]
    assert static([1, 0.5]).tolist() == [1.0, 0.5]
    assert static([2**63, 2**64 - 1]).dtype == np.uint64
    assert static([[1, 2], [0.5, 3]]).tolist() == [[1, 2], [0.5, 3]]
    assert static(5).tolist() == 5
    torch = pytest.importorskip("torch")
    assert static([torch.ones(2).requires_grad_(), torch.zeros(2)]).tolist() == [[1, 1], [0, 0]]
    assert static(torch.ones(2).bfloat16()).dtype == BF16


@pytest.mark.parametrize(
    "value",
    [
        [2**53 + 1, 0.5],
        [2**63, -1],
        [2**64],
        [[2**53 + 1], [0.5]],
        [np.int64(2**53 + 1), 0.5],
        [1, "a"],
        [np.datetime64("2026-01-01"), 1],
        [[1], [1, 2]],
        itself(),
        np.ma.masked_array([1, 2], [True, False]),
        {"a": 1},
    ],
)
def test_static_arrays_that_would_change_are_refused(value: Any) -> None:
    """numpy makes floats of ints that stand beside one."""
    with pytest.raises(SpecError, match="static array 'ids'"):
        static(value)


def test_every_error_is_the_callers() -> None:
    """One group of errors for all of it, so that one `except` finds them."""
    assert issubclass(FrameError, UsageError)
    assert issubclass(LossyCastError, UsageError)
