"""Declarations: which step has which row, and what a frame must be."""

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trajectory_store as ts
from tests.harness import strategies
from trajectory_store.errors import LossyCastError, SpecError, UsageError

N = 60


def due_steps(series: ts.Series) -> list[int]:
    """The steps at which a series is due, from its declaration alone."""
    steps = series.steps
    if steps is None:
        return list(range(N))
    return list(range(0, N, steps)) if isinstance(steps, int) else [step for step in steps if step < N]


@given(strategies.series())
def test_rows_and_steps_agree(series: ts.Series) -> None:
    """is_due, rows_before, steps_of and next_due say the same as the list of due steps."""
    due = due_steps(series)
    for step in range(N):
        before = [other for other in due if other < step]
        assert series.is_due(step) == (step in due)
        assert series.rows_before(step) == len(before)
        assert series.steps_of(0, len(before)).tolist() == before
        assert series.next_due(step) == next((other for other in due if other >= step), series.next_due(N))


@given(st.dictionaries(st.sampled_from(["W", "m", "loss"]), strategies.series(), min_size=1), st.integers(41, N))
def test_a_run_is_due_when_any_series_is(series: dict[str, ts.Series], steps: int) -> None:
    """The same for all series together; and it comes back from JSON."""
    spec = ts.RunSpec(series, steps)
    due = sorted({step for one in series.values() for step in due_steps(one) if step < steps})
    assert spec.steps_before(steps).tolist() == due or None in [one.steps for one in series.values()]
    for step in range(steps):
        assert spec.next_due(step) == next((other for other in due if other >= step), None)
        assert spec.last_due_before(step) == max((other for other in due if other < step), default=None)
    assert ts.RunSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": 3},
        {"shape": (0,)},
        {"shape": (-1,)},
        {"shape": (1.5,)},
        {"shape": ("3",)},
        {"shape": (1,) * 40},
        {"shape": (1 << 40,)},
        {"dtype": "float8"},
        {"dtype": "complex64"},
        {"dims": ("a",)},
        {"dims": ("step", "b")},
        {"dims": ("a", "a")},
        {"dims": ("a", "../b")},
        {"steps": 0},
        {"steps": True},
        {"steps": 1.5},
        {"steps": []},
        {"steps": [3, 2]},
        {"steps": [-1]},
        {"steps": range(0)},
        {"steps": range(5, 0, -1)},
        {"steps": "every"},
        {"steps": range(10**30)},
        {"steps": 10**30},
        {"steps": [10**30]},
    ],
)
def test_wrong_series_are_refused(wrong: dict[str, Any]) -> None:
    """Each with one sentence."""
    with pytest.raises(SpecError):
        ts.Series(**{"shape": (2, 3), "dtype": "float32", **wrong})


def test_wrong_runs_are_refused() -> None:
    """No series, no steps, sizes that contradict each other, steps that will not come."""
    x = ts.Series((2,), "float32", dims=("token",))
    for series, steps in (
        ({}, None),
        ({"x": x}, 0),
        ({"x": x}, 1.5),
        ({"x": x}, 10**30),
        ({"x": x, "y": ts.Series((3,), "float32", dims=("token",))}, None),
        ({"x": ts.Series((), "float32", steps=(5,))}, 5),
        ({"x": "float32"}, None),
    ):
        with pytest.raises(SpecError):
            ts.RunSpec(series, steps)


def test_more_series_than_a_record_counts_are_refused() -> None:
    """Two bytes count them."""
    one = ts.Series((), "int8")
    with pytest.raises(SpecError, match="65,536 series"):
        ts.RunSpec({f"s{n}": one for n in range(65_536)})


def row(dtype: str, value: Any, shape: tuple[int, ...] = ()) -> np.ndarray:
    spec = ts.RunSpec({"x": ts.Series(shape, dtype)})
    return spec.frame(0, {"x": value})["x"]


@pytest.mark.parametrize("dtype", strategies.DTYPE_NAMES)
def test_bits_pass_through(dtype: str) -> None:
    """An array of the series' own dtype is taken bit for bit, as are bfloat16's bits; strides do not matter."""
    series = ts.Series((3, 2), dtype)
    raw = np.random.default_rng(0).integers(
        0, 2 if dtype == "bool" else 256, (2, 3, series.storage_dtype.itemsize), np.uint8
    )
    array = raw.view(series.storage_dtype)[..., 0].T
    for given_array in (array, np.ascontiguousarray(array), array.view() if dtype != "bfloat16" else array):
        assert row(dtype, given_array, (3, 2)).tobytes() == np.ascontiguousarray(array).tobytes()
    logical = np.ascontiguousarray(array).view(series.logical_dtype)
    assert row(dtype, logical, (3, 2)).tobytes() == np.ascontiguousarray(array).tobytes()


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("bfloat16", np.float32(1)),
        ("float16", np.float32(1)),
        ("float32", np.ones((), np.float64)),
        ("float32", np.int64(1)),
        ("int32", np.int64(1)),
        ("uint8", np.int8(1)),
        ("int32", 1.0),
        ("int8", 128),
        ("uint8", -1),
        ("bool", 1),
        ("float32", True),
        ("float16", 1e6),
        ("bfloat16", np.float16(1)),
    ],
)
def test_lossy_casts_are_errors(dtype: str, value: Any) -> None:
    """A value whose bits could change is refused, also where this one would fit."""
    with pytest.raises(LossyCastError):
        row(dtype, value)


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("float32", ml_dtypes.bfloat16(1.5), 1.5),
        ("float64", np.float32(0.1), float(np.float32(0.1))),
        ("int64", np.int8(-3), -3),
        ("float32", 0.1, float(np.float32(0.1))),
        ("float32", 3, 3.0),
        ("float32", math.inf, math.inf),
        ("bool", True, True),
    ],
)
def test_exact_casts_are_made(dtype: str, value: Any, expected: Any) -> None:
    """Python numbers are rounded as numpy does, arrays widened where nothing is lost."""
    assert row(dtype, value) == expected


def test_objects_are_no_arrays() -> None:
    """Nothing is guessed."""
    for value in (None, "1", [None], object(), {"a": 1}):
        with pytest.raises(UsageError):
            row("float32", value)


def test_torch_tensors_are_taken() -> None:
    """bfloat16 too, strided, and requiring a gradient; this package imports no torch for it."""
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6, dtype=torch.float32).to(torch.bfloat16).reshape(2, 3).T.requires_grad_()
    expected = np.array([[0, 3], [1, 4], [2, 5]], ml_dtypes.bfloat16)
    assert row("bfloat16", tensor, (3, 2)).tobytes() == expected.tobytes()
    assert row("float32", torch.tensor(2.5)) == 2.5
