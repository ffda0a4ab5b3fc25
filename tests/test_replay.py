"""A resumed run compares the steps it already has, bit for bit, and goes on after them."""

import gc
from pathlib import Path

import numpy as np
import pytest

import trajectory_store as ts

SERIES = {"W": ts.Series((3, 2), "bfloat16"), "loss": ts.Series((), "float32")}


def frame(step: int) -> dict[str, object]:
    return {"W": np.full((3, 2), 0x3F80 + step, dtype=np.uint16), "loss": np.float32(step)}


@pytest.fixture(params=["zarr", "memmap"])
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A run of five of its eight steps."""
    with ts.create(tmp_path / "run", SERIES, steps=8, backend=request.param) as sink:
        for step in range(5):
            sink.append(step, **frame(step))
    return tmp_path / "run"


def test_replayed_steps_are_compared_and_later_ones_recorded(recorded: Path) -> None:
    """Steps 3 and 4 are there and agree; steps 5 to 7 are new."""
    with ts.resume(recorded, from_step=2) as sink:
        for step in range(3, 8):
            assert sink.next_step == step
            sink.append(step, **frame(step))

    with ts.open(recorded) as run:
        assert run["W"].bits[:, 0, 0].tolist() == [0x3F80 + step for step in range(8)]


@pytest.mark.parametrize(
    ("name", "value"), [("loss", np.float32(9)), ("W", np.array([[1, 2], [3, 4], [5, 6]], np.uint16))]
)
def test_a_step_replayed_differently_is_named(recorded: Path, name: str, value: object) -> None:
    """Scalars and matrices alike: step, series, how many elements, the first one; the recording stays as it is."""
    with (
        ts.resume(recorded, from_step=2) as sink,
        pytest.raises(ts.errors.ReplayMismatchError, match=rf"step 3 of series '{name}' was replayed differently"),
    ):
        sink.append(3, **{**frame(3), name: value})

    with ts.open(recorded) as run:
        assert run["loss"][:].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_minus_zero_is_not_zero_in_a_replay(recorded: Path) -> None:
    """Bits are compared, not values."""
    with ts.resume(recorded, from_step=-1) as sink, pytest.raises(ts.errors.ReplayMismatchError):
        sink.append(0, **{**frame(0), "loss": np.float32(-0.0)})


def test_a_run_that_ends_before_the_step_cannot_go_on_from_it(recorded: Path) -> None:
    """There would be a gap; the run stays open for another."""
    with pytest.raises(ts.errors.StepNotRecordedError, match="the run ends before step 5"):
        ts.resume(recorded, from_step=6)

    ts.resume(recorded, from_step=4).close()


def test_a_run_dropped_without_close_leaves_no_file_open(tmp_path: Path) -> None:
    """Notebooks rarely close; pytest turns the warning of a file left open into an error."""
    with ts.create(tmp_path / "run", SERIES) as sink:
        sink.append(0, **frame(0))
        run = ts.open(tmp_path / "run")
        assert run.steps.tolist() == [0]
        del run
        gc.collect()
