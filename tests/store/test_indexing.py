"""Indexing a run is numpy's, whatever it is read from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trajectory_store as ts

pytestmark = pytest.mark.usefixtures("no_sync")

SHAPE = (10, 5, 3)
ROWS = np.arange(150, dtype=np.uint16).reshape(SHAPE)


def slices(size: int) -> st.SearchStrategy[slice]:
    bound = st.none() | st.integers(-2 * size, 2 * size)
    return st.builds(slice, bound, bound, st.none() | st.sampled_from([-7, -3, -2, -1, 1, 2, 3, 7]))


def parts(size: int) -> st.SearchStrategy[Any]:
    return st.integers(-size, size - 1) | slices(size)


def lists(size: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(-size, size - 1), max_size=2 * size)


@st.composite
def keys(draw: st.DrawFn) -> tuple[Any, ...]:
    """Ints and slices of each axis, one of them perhaps a list, some axes left out."""
    key = [draw(parts(size)) for size in SHAPE]
    if draw(st.booleans()):
        axis = draw(st.integers(0, 2))
        key[axis] = draw(lists(SHAPE[axis]))
    return tuple(key[: draw(st.integers(1, 3))])


@pytest.fixture(params=["zarr", "memmap", "safetensors"])
def lazy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ts.LazySeries]:
    """A series half sealed and half in the journal; in place; and in a file."""
    backend = "zarr" if request.param == "safetensors" else request.param
    series = {"W": ts.Series(SHAPE[1:], "uint16")}
    with ts.create(tmp_path / "run", series, steps=20, backend=backend, block_steps=4) as s:
        for step, row in enumerate(ROWS):
            s.append(step, W=row)
        path = tmp_path / "run"
        if request.param == "safetensors":
            path = ts.export_safetensors(path, tmp_path / "file")
        with ts.open(path) as run:
            yield run["W"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])  # it is only read
@given(key=keys())
def test_any_index_is_numpys(lazy: ts.LazySeries, key: tuple[Any, ...]) -> None:
    """Empty and reversed slices, lists with repeats, negative everything."""
    expected, found = ROWS[key], lazy[key]

    assert (expected.shape, expected.tolist()) == (found.shape, found.tolist())


def test_a_slice_that_runs_away_backwards_is_empty(lazy: ts.LazySeries) -> None:
    """range(-1, -1, -1) is empty, and the slice of the same numbers is everything."""
    for key in [(9, slice(-100, None, -1)), (slice(None), slice(-100, None, -1)), slice(-100, None, -1)]:
        assert ROWS[key].shape == lazy[key].shape
