"""A run is indexed as numpy indexes the array of all its rows, sealed or not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trajectory_store as ts
from tests.harness import contracts, strategies
from trajectory_store.errors import SelectionError, StepNotRecordedError

pytestmark = pytest.mark.leaks  # the runs stay open, with the blocks they read, from test to test

STEPS = 21
SHAPES: dict[str, tuple[int, ...]] = {"scalar": (), "row": (7,), "matrix": (130, 3), "deep": (2, 3, 4)}


def arrays() -> dict[str, np.ndarray]:
    """Every series whole, as its bits."""
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 1 << 16, (STEPS, *shape)).astype(np.uint16) for name, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ts.Run]:
    """The same rows by each backend, zarr's with some of them still in the journal, and as a safetensors file."""
    opened: dict[str, ts.Run] = {}
    folder: Path = tmp_path_factory.mktemp("selection")
    for backend in contracts.BACKENDS:
        series = {name: ts.Series(shape, "bfloat16") for name, shape in SHAPES.items()}
        sink = ts.create(folder / backend, series, steps=STEPS + 1, backend=backend, block_steps=8)
        for step in range(STEPS):
            sink.append(step, **{name: array[step] for name, array in arrays().items()})
        sink.flush()
        contracts.abandon(sink)
        opened[backend] = ts.open(folder / backend)
        if backend == "zarr":
            sink._executor.shutdown()
    return opened


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from(sorted(SHAPES)), st.sampled_from(contracts.BACKENDS))
def test_an_index_gives_what_numpy_gives(runs: dict[str, ts.Run], data: st.DataObject, name: str, backend: str) -> None:
    """Ints, slices of any step, ellipses, and one list or mask: shape and bits."""
    array = arrays()[name]
    key = data.draw(strategies.indices(array.shape))
    expected = array[key]

    found = runs[backend][name].bits[key]

    assert np.shape(found) == np.shape(expected)
    assert contracts.bits(found) == contracts.bits(expected)


@pytest.mark.parametrize("key", [STEPS, -STEPS - 1, [0, STEPS], (STEPS, 0)])
def test_a_step_that_is_not_recorded_is_an_error(runs: dict[str, ts.Run], backend: str, key: Any) -> None:
    """Never zeros: the run has room for it."""
    with pytest.raises(StepNotRecordedError):
        runs[backend]["row"][key]


@pytest.mark.parametrize(
    "key",
    [
        1.5,
        "a",
        (0, 0, 0, 0),
        ([0], [1]),
        [True],
        [[0], [1, 2]],
        (..., ...),
        (0, 7),
        slice(None, None, 0),
        [0.5],
        {0},
        [None],
    ],
)
def test_other_indices_are_refused(runs: dict[str, ts.Run], backend: str, key: Any) -> None:
    """With an error of ours that says why."""
    with pytest.raises(SelectionError):
        runs[backend]["row"][key]


def test_blocks_are_the_series_in_order(runs: dict[str, ts.Run], backend: str) -> None:
    """Once each, in pieces no larger than asked for."""
    for name, array in arrays().items():
        for most in (None, 1, 3, 100):
            pieces = list(runs[backend][name].bits.blocks(2, 19, max_rows=most))
            assert np.concatenate([steps for steps, _ in pieces]).tolist() == list(range(2, 19))
            assert contracts.bits(np.concatenate([block for _, block in pieces])) == contracts.bits(array[2:19])
            assert most is None or max(len(block) for _, block in pieces) <= most
