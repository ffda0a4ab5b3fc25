"""Indexing a run is numpy's, whatever it is read from."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trajectory_store as ts

pytestmark = pytest.mark.usefixtures("no_sync")

KINDS = ["zarr", "memmap", "safetensors"]
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


@contextlib.contextmanager
def opened(kind: str, folder: Path) -> Iterator[ts.LazySeries]:
    """A series half sealed and half in the journal; in place; and in a file."""
    series = {"W": ts.Series(SHAPE[1:], "uint16")}
    backend = "memmap" if kind == "memmap" else "zarr"
    with ts.create(folder / "run", series, steps=20, backend=backend, block_steps=4) as sink:
        for step, row in enumerate(ROWS):
            sink.append(step, W=row)
        path = folder / "run"
        if kind == "safetensors":
            path = ts.export_safetensors(path, folder / "file")
        with ts.open(path) as run:
            yield run["W"]


@pytest.mark.parametrize("kind", KINDS)
def test_any_index_is_numpys(tmp_path: Path, kind: str) -> None:
    """Empty and reversed slices, lists with repeats, negative everything."""
    with opened(kind, tmp_path) as lazy:

        @settings(deadline=None)
        @given(key=keys())
        def check(key: tuple[Any, ...]) -> None:
            expected, found = ROWS[key], lazy[key]
            assert (expected.shape, expected.tolist()) == (found.shape, found.tolist())

        check()


@pytest.mark.parametrize("kind", KINDS)
def test_a_slice_that_runs_away_backwards_is_empty(tmp_path: Path, kind: str) -> None:
    """range(-1, -1, -1) is empty, and the slice of the same numbers is everything."""
    with opened(kind, tmp_path) as lazy:
        for key in [(9, slice(-100, None, -1)), (slice(None), slice(-100, None, -1)), slice(-100, None, -1)]:
            assert ROWS[key].shape == lazy[key].shape
