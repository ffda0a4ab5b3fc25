"""A run is a mapping of its series, and is itself."""

import copy
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import trajectory_store as ts
from tests.harness import contracts
from trajectory_store.errors import SeriesNotFoundError

pytestmark = pytest.mark.usefixtures("no_sync")


def test_a_run_is_a_mapping_of_its_series(backend: str, tmp_path: Path) -> None:
    """Every method of a mapping, with lazy series as values."""
    with ts.open(contracts.record(tmp_path / "run", backend)) as run:
        assert isinstance(run, Mapping)
        assert len(run) == len(contracts.SERIES)
        assert list(run) == list(run.keys()) == list(run.series)
        assert {name: len(series) for name, series in run.items()} == {"W": 11, "loss": 11, "g": 4, "flag": 3}
        assert [series.name for series in run.values()] == list(run)
        assert all(isinstance(series, ts.LazySeries) for series in dict(run).values())
        assert {**run}.keys() == run.keys()
        assert run.get("nothing") is None
        assert run.get("W", None).shape == (11, 5, 3)
        assert "W" in run
        assert "nothing" not in run
        with pytest.raises(SeriesNotFoundError, match="no series 'nothing'; it has W, flag, g, loss"):
            run["nothing"]
        match run:
            case {"loss": loss}:
                assert loss.ndim == 1
            case _:
                pytest.fail("no pattern of a mapping matches a run")


def test_a_run_is_equal_to_itself_alone(backend: str, tmp_path: Path) -> None:
    """Equality reads nothing: not of a damaged run, not of a closed one; so a run can be a key."""
    path = contracts.record(tmp_path / "run", backend)
    with ts.open(path) as run, ts.open(path) as again:
        for block in path.rglob("c/*"):
            if block.is_file():
                block.write_bytes(b"")
        assert run == run
        assert run != again
        assert run != dict(run)
        assert len({run, again, run}) == 2
    assert run == run
    assert hash(run) != hash(again)


def test_a_run_travels_as_its_path(backend: str, tmp_path: Path) -> None:
    """Not as a mapping's items: a copy and an unpickled run are runs."""
    with ts.open(contracts.record(tmp_path / "run", backend)) as run:
        for other in (pickle.loads(pickle.dumps(run)), copy.copy(run)):
            assert type(other) is ts.Run
            assert other.keys() == run.keys()
            assert np.array_equal(other["W"].bits[...], run["W"].bits[...])
            other.close()


def test_an_analysis_of_a_run_scans_the_series_that_it_names(backend: str, tmp_path: Path) -> None:
    """A mapping's first series is scanned, but a run's is `series`, wherever it stands."""
    series = {"loss": ts.Series((), "float32"), "W": ts.Series((2, 2), "bfloat16")}
    with ts.create(tmp_path / "run", series, steps=3, backend=backend) as sink:
        for step in range(3):
            sink.append(step, loss=step, W=np.full((2, 2), step // 2, np.uint16))
    with ts.open(tmp_path / "run") as run:
        assert next(iter(run)) == "loss"
        assert ts.analysis.freeze_onset(run).tolist() == [2, 2]
        assert ts.analysis.freeze_onset({"W": run["W"]}).tolist() == [2, 2]
