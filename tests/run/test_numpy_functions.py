"""A lazy series where numpy, pandas, matplotlib and torch take an array."""

import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trajectory_store as ts
from tests.harness import contracts
from trajectory_store.analysis.arrays import as_series
from trajectory_store.errors import SelectionError, UsageError

pytestmark = pytest.mark.leaks  # the runs stay open from test to test

BF16 = np.dtype(ml_dtypes.bfloat16)
N_ROWS = 3000
RNG = np.random.default_rng(0)
ARRAYS: dict[str, np.ndarray] = {
    "loss": (1 / np.arange(1, N_ROWS + 1)).astype(np.float32),
    "W": (1 + 0.1 * RNG.standard_normal((N_ROWS, 4, 2))).astype(BF16),
    "half": (1 + RNG.standard_normal((N_ROWS, 3))).astype(np.float16),
    "double": 10 + RNG.standard_normal((N_ROWS, 2)),
    "n": RNG.integers(0, 9, (N_ROWS, 3)).astype(np.uint8),
    "far": RNG.integers(-(2**60), 2**60, N_ROWS),
    "flag": RNG.integers(0, 2, (N_ROWS, 2)).astype(bool),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ts.Run:
    """All of them, sealed in many blocks, the last ones in the journal."""
    path: Path = tmp_path_factory.mktemp("numpy") / "run"
    series = {name: ts.Series(array.shape[1:], str(array.dtype.name)) for name, array in ARRAYS.items()}
    sink = ts.create(path, series, block_steps=512, durability="none")
    for step in range(N_ROWS):
        sink.append(step, **{name: array[step] for name, array in ARRAYS.items()})
    sink.flush()
    contracts.abandon(sink)
    sink._executor.shutdown()
    return ts.open(path)


def wide(array: np.ndarray) -> np.ndarray:
    """The same numbers, in which numpy adds up without stopping."""
    return array.astype(np.float64) if array.dtype in (BF16, np.float16, np.float32) else array


# Sums.


@settings(max_examples=150)
@given(
    st.sampled_from(sorted(ARRAYS)),
    st.sampled_from(["mean", "sum", "std", "var", "min", "max"]),
    st.data(),
    st.booleans(),
    st.booleans(),
)
def test_a_reduction_is_that_of_the_wide_array(
    run: ts.Run, name: str, what: str, data: st.DataObject, keepdims: bool, as_method: bool
) -> None:
    """Over any axes, as a function and as a method, to the last digits of its dtype."""
    array = ARRAYS[name]
    axes = st.integers(-array.ndim, array.ndim - 1)
    axis = data.draw(st.none() | axes | st.lists(axes, unique_by=lambda one: one % array.ndim).map(tuple))

    if as_method:
        found = getattr(run[name], what)(axis=axis, keepdims=keepdims)
    else:
        found = getattr(np, what)(run[name], axis=axis, keepdims=keepdims)

    expected = getattr(np, what)(wide(array), axis=axis, keepdims=keepdims)
    narrow = array.dtype in (BF16, np.float16, np.float32)
    assert found.shape == expected.shape
    assert found.dtype == (np.float32 if narrow else expected.dtype)
    np.testing.assert_allclose(found, expected, rtol=2e-7 if narrow else 1e-11)


FUNCTIONS = {
    "average": np.average,
    "nanmean": np.nanmean,
    "nansum": np.nansum,
    "nanstd": np.nanstd,
    "nanvar": np.nanvar,
    "cumsum": lambda a: np.cumsum(a, axis=0),
    "median": np.median,
    "percentile": lambda a: np.percentile(a, 90, axis=0),
    "norm": np.linalg.norm,
    "trapezoid": lambda a: (np.trapezoid if hasattr(np, "trapezoid") else np.trapz)(a, axis=0),
    "add.reduce": np.add.reduce,
    "add.accumulate": np.add.accumulate,
    "weighted": lambda a: np.average(a, axis=0, weights=np.ones(N_ROWS)),
    "dot": lambda a: (
        np.dot(np.ones(N_ROWS, np.float32), a) if np.ndim(a) < 3 else np.tensordot(a, np.ones(2, np.float32), 1)
    ),
    "einsum": lambda a: np.einsum("s...->...", a),
    "where": lambda a: np.sum(a, where=np.arange(np.shape(a)[-1]) > 0),
    "initial": lambda a: np.sum(a, axis=0, initial=5),
    "dtype": lambda a: np.mean(a, dtype=np.float64),
    "out": lambda a: np.mean(a, axis=0, out=np.zeros(np.shape(a)[1:])),
    "positional": lambda a: np.std(a, 0, None, None, 1),
    "amax": lambda a: np.amax(a, 0),
    "exp": lambda a: np.exp(np.multiply(a, 0.5)).sum(axis=0),
    "difference": lambda a: np.diff(a, axis=0),
    "operators": lambda a: (1 - a * 2) ** 2 / 3,
    "comparison": lambda a: (a == a) & (a > 1),
    "two": lambda a: np.subtract(a, a),
    "concatenated": lambda a: np.concatenate([a, a]).sum(axis=0),
    "ptp": np.ptp,
    "argmax": lambda a: np.argmax(a, axis=0),
    "array_equal": lambda a: np.array(np.array_equal(a, a)),
    "histogram": lambda a: np.histogram(a, bins=7)[0],
}


@pytest.mark.parametrize("what", FUNCTIONS)
@pytest.mark.parametrize("name", ["W", "half", "loss", "double", "n"])
def test_numpys_functions_take_a_series_as_numbers(run: ts.Run, what: str, name: str) -> None:
    """Within a thousandth of what they say of the wide array: a 16-bit sum of these stops at a tenth of it."""
    found, expected = FUNCTIONS[what](run[name]), FUNCTIONS[what](wide(ARRAYS[name]))
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_allclose(np.asarray(found, np.float64), np.asarray(expected, np.float64), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [BF16, np.float16])
def test_pythons_sum_goes_on_growing(dtype: Any) -> None:
    """It adds up what iteration gives, from either end; what an index gives is in the series' own dtype."""
    series = as_series(np.full(5000, 0.5, dtype), "loss")
    assert sum(series) == sum(reversed(series)) == math.fsum(series) == 2500
    assert series[0].dtype == dtype
    assert next(iter(series.bits)).dtype == np.uint16


def test_numpys_own_sums_of_16_bits_stop_growing() -> None:
    """The hazard: were it gone, so could be what guards against it."""
    assert float(ARRAYS["W"].sum(axis=0).max()) < N_ROWS / 2
    assert float(np.ones((N_ROWS, 2), np.float16).sum(axis=0).max()) == 2048


def test_reductions_of_what_is_not_finite() -> None:
    """NaN and infinities come out as numpy says, with its warnings."""
    values = np.array([[1, np.inf], [np.nan, -np.inf], [2, 3]], np.float32)
    series = as_series(values, "x")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for what in ("mean", "sum", "std", "var", "min", "max"):
            for axis in (None, 0, 1):
                expected = getattr(values, what)(axis=axis)
                np.testing.assert_allclose(getattr(series, what)(axis=axis), expected, rtol=1e-6)


def test_reductions_of_nothing(tmp_path: Path) -> None:
    """A run without steps: numpy's warning and NaN, and its error for the largest of none."""
    with ts.create(tmp_path / "run", {"W": ts.Series((3,), "bfloat16")}):
        pass
    with ts.open(tmp_path / "run") as empty:
        assert empty["W"].sum() == 0
        assert empty["W"].mean(axis=1).shape == (0,)
        with pytest.warns(RuntimeWarning, match=r"empty|invalid"):
            assert math.isnan(empty["W"].mean())
        with pytest.raises(ValueError, match="zero-size"):
            empty["W"].max()


def test_a_series_is_not_written_to(run: ts.Run) -> None:
    """What numpy would write to is an array that nobody sees again, so it is refused."""
    n = run["n"]
    for write in (
        lambda: np.add(1, 1, out=n),
        lambda: np.add.at(n, 0, 1),
        lambda: np.copyto(n, 0),
        lambda: np.put(n, 0, 1),
        lambda: np.clip(ARRAYS["n"], 0, 1, out=n),
    ):
        with pytest.raises((ValueError, TypeError)):
            write()
    assert len({n, run["n"]}) == 2


@pytest.mark.parametrize("axis", [2, -3, (0, 0), (0, -2)])
def test_a_wrong_axis_is_an_error_of_ours(run: ts.Run, axis: Any) -> None:
    with pytest.raises(SelectionError, match="axis"):
        run["n"].sum(axis=axis)


def test_the_shape_is_known_without_reading(run: ts.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is an array made for it."""

    def refuse(*_: Any) -> None:
        raise AssertionError("was read")

    W = run["W"]
    monkeypatch.setattr(W._source, "read", refuse)
    assert np.shape(W) == W.shape
    assert (np.ndim(W), np.size(W)) == (3, N_ROWS * 8)
    assert np.zeros_like(W).dtype == np.empty_like(W).dtype == np.result_type(W) == BF16
    with pytest.raises(AssertionError, match="was read"):
        np.median(W)


# Arrays.


@pytest.mark.parametrize("name", ARRAYS)
def test_a_series_becomes_an_array(run: ts.Run, name: str) -> None:
    """Its own bits, unless another dtype is asked for; a copy, so that there is none without."""
    lazy, array = run[name], ARRAYS[name]
    assert np.asarray(lazy).tobytes() == np.array(lazy).tobytes() == array.tobytes()
    assert np.asarray(lazy).dtype == array.dtype
    for dtype in (np.float64, np.float32, complex, *([] if name == "W" else [str])):
        assert np.asarray(lazy, dtype=dtype).tolist() == array.astype(dtype).tolist()
    with pytest.raises(ValueError, match="copy"):
        lazy.__array__(copy=False)


@pytest.mark.parametrize("name", ["loss", "W", "flag"])
def test_a_series_is_a_sequence(run: ts.Run, name: str) -> None:
    """`list`, `for`, `reversed`, `in` and `len` are those of the array."""
    lazy, array = run[name], ARRAYS[name]
    assert len(lazy) == len(list(lazy)) == N_ROWS
    assert np.array(list(lazy)).tobytes() == array.tobytes()
    assert np.array(list(reversed(lazy))).tobytes() == array[::-1].tobytes()
    assert np.array([row for _, rows in lazy.blocks(-700, -3) for row in rows]).tobytes() == array[-700:-3].tobytes()
    for value in (array.reshape(-1)[7], array.reshape(-1)[-1], 12345.0):
        assert (value in lazy) == (value in array)


def test_pandas_takes_a_series(run: ts.Run) -> None:
    pandas = pytest.importorskip("pandas")
    for name in ("loss", "far"):
        assert pandas.Series(run[name], index=run[name].steps).tolist() == ARRAYS[name].tolist()
        assert pandas.DataFrame({"x": run[name]})["x"].tolist() == ARRAYS[name].tolist()
    assert pandas.DataFrame(run["n"]).to_numpy().tolist() == ARRAYS["n"].tolist()


def test_xarray_takes_a_series(run: ts.Run) -> None:
    """As it is, read where it is asked for."""
    xarray = pytest.importorskip("xarray")
    for name in ("W", "double"):
        array = xarray.DataArray(run[name], dims=run[name].dims)
        assert array.shape == ARRAYS[name].shape
        assert array.isel(step=slice(5, 9)).values.tolist() == ARRAYS[name][5:9].tolist()
    np.testing.assert_allclose(array.mean("step"), ARRAYS["double"].mean(axis=0))


def test_dask_takes_a_series(run: ts.Run) -> None:
    array = pytest.importorskip("dask.array").from_array(run["double"], chunks=(700, 1))
    np.testing.assert_allclose(array.mean(axis=0).compute(), ARRAYS["double"].mean(axis=0))


def test_matplotlib_draws_a_series(run: ts.Run) -> None:
    """A line of a scalar series, alone and over its steps, and of bfloat16."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    (line,) = axes.plot(run["loss"])
    (other,) = axes.semilogy(run["loss"].steps, run["loss"])
    several = axes.plot(run["W"].bits[:, 0])
    axes.hist(run["loss"])
    assert len(several) == 2
    assert line.get_ydata().tolist() == other.get_ydata().tolist() == ARRAYS["loss"].tolist()
    pyplot.close(figure)


@pytest.mark.parametrize("name", ["loss", "W", "n", "flag"])
@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_data_loader_goes_over_a_series(run: ts.Run, name: str, n_workers: int) -> None:
    """A map-style data set, in this process and in workers, bfloat16 too: every row once, in batches."""
    torch = pytest.importorskip("torch")
    if n_workers and name != "W":
        pytest.skip("once is enough")
    order = np.random.default_rng(1).permutation(N_ROWS)[:300].tolist()
    loader = torch.utils.data.DataLoader(run[name], batch_size=64, sampler=order, num_workers=n_workers)

    batches = list(loader)

    rows = torch.cat(batches)
    assert [len(batch) for batch in batches] == [64, 64, 64, 64, 44]
    expected = run[name].to_torch(order)
    assert rows.dtype == expected.dtype
    assert torch.equal(rows, expected)


def test_a_worker_reads_what_its_parent_has_read_with_threads(tmp_path: Path) -> None:
    """A forked child has none of the threads that decode."""
    torch = pytest.importorskip("torch")
    rows = np.random.default_rng(2).integers(0, 9, (40, 4000, 64)).astype(np.uint16)
    with ts.create(tmp_path / "run", {"W": ts.Series((4000, 64), "bfloat16")}, durability="none") as sink:
        for step, row in enumerate(rows):
            sink.append(step, W=row)
    with ts.open(tmp_path / "run") as wide_run:
        bits = wide_run["W"].bits
        assert bits[...].tobytes() == rows.tobytes()
        loader = torch.utils.data.DataLoader(
            bits, batch_size=40, num_workers=1, multiprocessing_context="fork", timeout=120
        )
        (batch,) = loader
        assert batch.numpy().tobytes() == rows.tobytes()


def test_a_series_that_does_not_fit_in_memory_says_what_to_do(run: ts.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(run.source, "read", too_much)
    with pytest.raises(UsageError, match=r"blocks\(\)"):
        np.median(run["W"])


def test_arrays_that_are_alive_at_the_end_of_the_interpreter_say_nothing(run: ts.Run) -> None:
    """Their memory comes back when the names of modules are gone."""
    script = f"""
import sys, numpy, trajectory_store as ts
W = ts.open({str(run.path)!r})["W"]
loss = ts.open({str(run.path)!r})["double"]
numpy.held, sys.held, ts.held, held = loss[...], loss[1:], loss[2:], loss[3:]
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
