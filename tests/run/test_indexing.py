"""Indexing a run is numpy's, whatever it is read from, and whatever the index is made of."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trajectory_store as ts
from trajectory_store.analysis.arrays import as_series
from trajectory_store.errors import SelectionError

pytestmark = [pytest.mark.leaks]  # the runs stay open from test to test

N_ROWS = 10
SHAPES: dict[str, tuple[int, ...]] = {"scalar": (), "row": (5,), "matrix": (5, 3), "deep": (3, 2, 4)}
ARRAYS = {
    name: np.arange(N_ROWS * int(np.prod(shape)), dtype=np.uint16).reshape(N_ROWS, *shape)
    for name, shape in SHAPES.items()
}
KINDS = ["zarr", "memmap", "safetensors", "memory"]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every series by each kind of source: half sealed and half in the journal, in place, in a file, in memory."""
    folder: Path = tmp_path_factory.mktemp("indexing")
    series = {name: ts.Series(shape, "uint16") for name, shape in SHAPES.items()}
    for backend in ("zarr", "memmap"):
        sink = ts.create(folder / backend, series, steps=N_ROWS, backend=backend, block_steps=4, durability="none")
        for step in range(N_ROWS):
            sink.append(step, **{name: array[step] for name, array in ARRAYS.items()})
        if backend == "memmap":
            sink.close()
    runs = {kind: ts.open(folder / kind) for kind in ("zarr", "memmap")}
    runs["safetensors"] = ts.open(ts.export_safetensors(folder / "memmap", folder / "file"))
    found: dict[str, Any] = {kind: {name: run[name] for name in SHAPES} for kind, run in runs.items()}
    found["memory"] = {name: as_series(array, name) for name, array in ARRAYS.items()}
    return found


def ints(size: int) -> st.SearchStrategy[Any]:
    """Of Python's and numpy's types, and as arrays of no axes."""
    forms = st.sampled_from([int, np.int64, np.int8, np.array])
    return st.builds(lambda form, value: form(value), forms, st.integers(-size, size - 1))


def slices(size: int) -> st.SearchStrategy[slice]:
    bound = st.none() | st.integers(-2 * size, 2 * size) | st.integers(-2, 2).map(np.int64)
    return st.builds(slice, bound, bound, st.none() | st.sampled_from([-7, -3, -2, -1, 1, 2, 3, 7]))


@st.composite
def lists(draw: st.DrawFn, size: int) -> Any:
    """Lists, tuples and arrays of ints, of more axes than one too, ranges, and masks."""
    kind = draw(st.sampled_from(["list", "tuple", "array", "square", "range", "mask", "list of booleans", "bytes"]))
    if kind == "range":
        start, stop, step = (
            draw(st.integers(0, size)),
            draw(st.integers(0, size)),
            draw(st.sampled_from([1, 2, -1, -2])),
        )
        return range(start, stop, step) if step > 0 else range(max(start - 1, 0), stop, step)
    if kind in ("mask", "list of booleans"):
        mask = draw(st.lists(st.booleans(), min_size=size, max_size=size))
        return np.array(mask) if kind == "mask" else mask
    values = draw(st.lists(st.integers(-size, size - 1), max_size=2 * size))
    if kind == "bytes":
        return memoryview(bytes(value % size for value in values))
    if kind == "array":
        return np.array(values, draw(st.sampled_from([np.int64, np.int8, ">i4"])))
    if kind == "square":
        return [values, values[::-1]] if draw(st.booleans()) else np.array([[values]], np.int64)
    return tuple(values) if kind == "tuple" else values


@st.composite
def keys(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """An index of some axes, one of them perhaps a list; an ellipsis, None and booleans anywhere."""
    n_indexed = draw(st.integers(0, len(shape)))
    ellipsis_at = draw(st.none() | st.integers(0, n_indexed))
    # Behind an ellipsis the last axes are meant.
    axes = [axis if ellipsis_at is None or axis < ellipsis_at else axis - n_indexed for axis in range(n_indexed)]
    parts: list[Any] = [draw(ints(shape[axis]) | slices(shape[axis])) for axis in axes]
    if axes and draw(st.booleans()):
        at = draw(st.integers(0, n_indexed - 1))
        parts[at] = draw(lists(shape[axes[at]]))
    if ellipsis_at is not None:
        parts.insert(ellipsis_at, Ellipsis)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        new = draw(st.sampled_from([None, None, None, True, np.True_, False]))
        parts.insert(draw(st.integers(0, len(parts))), new)
    if len(parts) == 1 and not isinstance(parts[0], tuple) and draw(st.booleans()):
        return parts[0]
    return tuple(parts)


def outcome(array: Any, key: Any) -> Any:
    """Kind, shape, dtype and values of what an index gives, or that it is refused."""
    try:
        found = array[key]
    except IndexError:
        return IndexError
    return isinstance(found, np.ndarray), np.shape(found), found.dtype, found.tolist()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=500)
@given(st.data(), st.sampled_from(sorted(SHAPES)))
def test_any_index_gives_what_numpy_gives(opened: dict[str, Any], kind: str, data: st.DataObject, name: str) -> None:
    """Values, shape, dtype, and whether it is a scalar: 2,000 keys, every form in every place."""
    key = data.draw(keys(ARRAYS[name].shape))

    assert outcome(opened[kind][name], key) == outcome(ARRAYS[name], key)


@st.composite
def wrong_keys(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Keys that are right but for one part."""
    parts: list[Any] = [draw(slices(size)) for size in shape]
    at = draw(st.integers(0, len(shape) - 1))
    size = shape[at]
    wrong: list[Any] = [size, -size - 1, 2**80, 1.0, np.float64(0), "a", {0}, 1j, [size], [0, -size - 1], [[2**80]]]
    wrong += [[True] * (size + 1), np.zeros(size + 2, bool), np.array([]), [0.0], ["a"], [None], [slice(1)], object()]
    parts[at] = draw(st.sampled_from(wrong))
    if draw(st.booleans()):
        parts.insert(draw(st.integers(0, len(parts))), draw(st.sampled_from([None, Ellipsis, 0, True])))
    return tuple(parts)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150)
@given(st.data(), st.sampled_from(sorted(SHAPES)))
def test_what_numpy_refuses_is_refused(opened: dict[str, Any], kind: str, data: st.DataObject, name: str) -> None:
    """With an IndexError of ours."""
    key = data.draw(wrong_keys(ARRAYS[name].shape))
    with pytest.raises((IndexError, DeprecationWarning)):  # numpy 1 only warns of some
        ARRAYS[name][key]

    with pytest.raises(IndexError) as raised:
        opened[kind][name][key]
    assert isinstance(raised.value, ts.errors.TrajectoryError)


def array_likes() -> dict[str, Any]:
    """Tokens and masks of an axis of five, as other libraries have them."""
    pandas, xarray, torch = map(pytest.importorskip, ("pandas", "xarray", "torch"))
    mask = [True, False, True, True, False]
    return {
        "torch ints": torch.tensor([1, -3]),
        "one torch int in a list": torch.tensor([3]),
        "torch.where": torch.where(torch.tensor(mask))[0],
        "torch int32": torch.tensor([[1], [4]], dtype=torch.int32),
        "torch mask": torch.tensor(mask),
        "a list of torch ints": [torch.tensor(1), torch.tensor(3)],
        "pandas.Index": pandas.Index([1, 3]),
        "pandas.RangeIndex": pandas.RangeIndex(0, 5, 2),
        "pandas.Series": pandas.Series([4, 0], index=["a", "b"]),
        "pandas mask": pandas.Series(mask, index=[9, 8, 7, 6, 5]),
        "no pandas.Index": pandas.Index([]),
        "xarray": xarray.DataArray([3, 3, 0], dims="token"),
        "xarray mask": xarray.DataArray(mask, dims="token"),
        "dict keys": list({1: "a", 3: "b"}.keys()),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_array_likes_are_indices(opened: dict[str, Any], kind: str) -> None:
    """Of each axis, as numpy takes them once they are arrays; and scalars, which drop the axis."""
    W, array = opened[kind]["matrix"], ARRAYS["matrix"]
    for what, key in array_likes().items():
        plain = np.asarray(key) if len(key) else np.array([], np.int64)
        assert outcome(W, (slice(2, 5), key)) == outcome(array, (slice(2, 5), plain)), what
        if plain.dtype != bool:
            assert outcome(W, key) == outcome(array, plain), what
            assert outcome(opened[kind]["scalar"], key) == outcome(ARRAYS["scalar"], plain), what
    torch, xarray = pytest.importorskip("torch"), pytest.importorskip("xarray")
    for three in (torch.tensor(3), xarray.DataArray(3), np.uint64(3), np.array(3)):
        assert outcome(W, three) == outcome(array, 3)
        assert outcome(W, (slice(None), three)) == outcome(array, (slice(None), 3))
        if hasattr(three, "__index__"):
            assert outcome(W, slice(three, None)) == outcome(array, slice(3, None))
    assert outcome(W, torch.tensor(True)) == outcome(array, True)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (([0], [1]), r"W\[rows\]\[:, tokens\]"),
        ((slice(None), [0, 1], np.zeros(3, bool)), r"W\[rows\]"),
        (np.zeros((N_ROWS, 5), bool), r"series\[\.\.\.\]\[mask\]"),
        ((slice(None), np.zeros((5, 3), bool)), r"series\[\.\.\.\]\[mask\]"),
    ],
)
def test_what_is_not_read_in_pieces_says_how_it_is(opened: dict[str, Any], key: Any, said: str) -> None:
    """Two lists, and masks of more axes than one, are all of numpy's index that is not taken."""
    for kind in KINDS:
        with pytest.raises(SelectionError, match=said):
            opened[kind]["matrix"][key]


@pytest.mark.parametrize("kind", KINDS)
def test_a_slice_that_runs_away_backwards_is_empty(opened: dict[str, Any], kind: str) -> None:
    """range(-1, -1, -1) is empty, and the slice of the same numbers is everything."""
    for key in [(9, slice(-100, None, -1)), (slice(None), slice(-100, None, -1)), slice(-100, None, -1)]:
        assert outcome(opened[kind]["matrix"], key) == outcome(ARRAYS["matrix"], key)
