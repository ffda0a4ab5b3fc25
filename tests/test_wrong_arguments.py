"""What is no argument at all, by its type or its value, is one of our errors and never Python's own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trajectory_store as ts
from tests.harness import contracts
from trajectory_store.errors import UsageError

pytestmark = pytest.mark.usefixtures("no_sync")

LOSS = ts.Series((), "float32")
NO_SERIES = [3, None, "x", [LOSS], ts.RunSpec({"x": LOSS}), {}, {1: LOSS}, {"x": "float32"}]


@pytest.mark.parametrize("series", NO_SERIES, ids=lambda value: f"{value!r:.20}")
def test_a_declaration_is_a_mapping_of_series(series: Any, tmp_path: Path) -> None:
    """For every sink, and nothing is made."""
    for declare in (
        lambda: ts.create(tmp_path / "run", series),
        lambda: ts.MemorySink(series),
        lambda: ts.NullSink(series),
    ):
        with pytest.raises(UsageError):
            declare()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("static", [3, "ids", [1, 2], [("ids", [1])], 0], ids=repr)
def test_static_arrays_are_a_mapping(static: Any, tmp_path: Path) -> None:
    """A list of pairs is none either."""
    with pytest.raises(UsageError, match="static="):
        ts.create(tmp_path / "run", contracts.SERIES, static=static)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("step", ["3", 1.0, True, -2, [1]], ids=repr)
def test_a_step_to_go_on_from_is_an_int(step: Any, backend: str, tmp_path: Path) -> None:
    """The run is not locked after it was refused."""
    path = contracts.record(tmp_path / "run", backend)
    with pytest.raises(UsageError, match="from_step="):
        ts.resume(path, step)
    ts.resume(path).close()


QUESTIONS: dict[str, Callable[[ts.Run], Any]] = {
    "no name": lambda run: run[["W"]],
    "a number as a name": lambda run: run[0],
    "text as a step": lambda run: run["W"].at_step("1"),
    "no step": lambda run: run["W"].at_step(None),
    "a fraction as a step": lambda run: run["W"].at_step(1.0),
    "text as rows": lambda run: list(run["W"].blocks("1")),
    "a fraction as rows": lambda run: list(run["W"].blocks(0, 2.5)),
    "text as a number of rows": lambda run: list(run["W"].blocks(max_rows="1")),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_is_asked_of_a_run(question: str, backend: str, tmp_path: Path) -> None:
    """Names are text, steps and rows are ints."""
    with ts.open(contracts.record(tmp_path / "run", backend)) as run:
        with pytest.raises(ts.errors.TrajectoryError):
            QUESTIONS[question](run)
        assert ["W"] not in run
