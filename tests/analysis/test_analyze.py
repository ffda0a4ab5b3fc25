"""`trajectory-store analyze`: the analyses' own numbers, as tables of every kind."""

import csv
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner

from tests.harness import recordings
from trajectory_store import analysis
from trajectory_store.analysis import catalogue, table_files
from trajectory_store.cli import main
from trajectory_store.commands import analyze
from trajectory_store.errors import UsageError

PER_TOKEN = ["freeze_onset", "cohort_onset", "stumbles", "lifecycles"]


@pytest.fixture
def run(tmp_path):
    bits = recordings.walk()
    states = np.ones(bits.shape, dtype=np.float32)
    hyper = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.1}
    static = {"dead_mask": np.arange(150) % 3 == 0, "dead_indices": np.arange(1000, 1150)}
    with recordings.record(
        tmp_path / "run", bits, others={"m": states, "v": states}, static=static, attrs={"config": hyper}
    ) as run:
        yield run


def analyze_run(*arguments):
    return CliRunner().invoke(main, ["analyze", *map(str, arguments)])


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_help_lists_the_catalogue():
    """Every analysis there is, by what its rows are, and the schemes."""
    said = " ".join(analyze_run("--help").output.split())
    scheme = next(option for option in analyze.command.params if option.name == "scheme")

    assert f"A row a token: {', '.join(PER_TOKEN)}. A row a step: displacement, " in said
    for name in catalogue.NAMES:
        assert name in said
    assert list(scheme.type.choices) == list(catalogue.SCHEMES)


def test_a_row_a_token(run):
    """CSV on stdout, with the tokens' ids where the run knows them."""
    result = analyze_run(run.path, "freeze-onset", "stumbles")
    rows = rows_of(result.output)
    stumbles = analysis.stumbles(run)

    assert result.exit_code == 0, result.output
    assert [int(row["token"]) for row in rows] == list(range(150))
    assert [int(row["token_id"]) for row in rows] == list(range(1000, 1150))
    assert [int(row["freeze_onset"]) for row in rows] == analysis.freeze_onset(run).tolist()
    assert [int(row["stumbles.duration"]) for row in rows] == stumbles.duration.tolist()


def test_a_row_a_step(run):
    """Columns of several analyses side by side; a move has nothing at step 0."""
    result = analyze_run(run.path, "phases", "cloud", "displacement", "--scheme", "five-states")
    rows = rows_of(result.output)
    found = analysis.phases(run, scheme=analysis.FiveStates())

    assert [int(row["step"]) for row in rows] == list(range(23))
    assert rows[0]["phases.gas"] == rows[0]["cloud.drift"] == rows[0]["displacement.l1_mean"] == ""
    assert [int(row["phases.gas"]) for row in rows[1:]] == found.counts[:, 4].tolist()
    assert [float(row["cloud.radius"]) for row in rows] == analysis.cloud(run).radius.tolist()
    assert [float(row["displacement.l2_max"]) for row in rows[1:]] == pytest.approx(
        analysis.displacement(run).l2.max(axis=1).tolist()
    )


def test_every_analysis_as_json(run):
    """All of them in one pass, by step and by token."""
    other = recordings.record(run.path.parent / "other", recordings.walk(seed=9))
    result = analyze_run(run.path, *catalogue.NAMES, "--other", other.path, "--json")
    found = json.loads(result.output)

    assert result.exit_code == 0, result.output
    assert set(found) == {"by_step", "by_token"}
    assert {name.split(".")[0] for name in found["by_token"]} == {"token", "token_id", *PER_TOKEN}
    expected = {"step", *catalogue.NAMES} - set(PER_TOKEN)
    assert {name.split(".")[0] for name in found["by_step"]} == expected
    assert {len(column) for column in found["by_step"].values()} == {23}
    assert found["by_step"]["stillness.movers"] == [None, *analysis.stillness(run).movers.tolist()]
    assert found["by_step"]["divergence.distance"] == pytest.approx(analysis.divergence(run, other).distance.tolist())
    assert found["by_step"]["separation.distance"] == analysis.separation(run).distance.tolist()


@pytest.mark.parametrize("ending", ["csv", "json", "npz", "parquet"])
def test_files(run, tmp_path, ending):
    """Each kind of file holds the same numbers."""
    path = tmp_path / f"out.{ending}"
    result = analyze_run(run.path, "activity", "-o", path)
    expected = analysis.activity(run)

    assert result.exit_code == 0, result.output
    assert result.output == f"Wrote {path}\n"
    if ending == "csv":
        energy = [row["activity.energy"] for row in rows_of(path.read_text())]
        movers = [int(row["activity.movers"]) for row in rows_of(path.read_text())]
        energy = [float(text) for text in energy]
    elif ending == "json":
        columns = json.loads(path.read_text())["by_step"]
        energy, movers = columns["activity.energy"], columns["activity.movers"]
    elif ending == "npz":
        with np.load(path) as columns:
            energy, movers = columns["activity.energy"].tolist(), columns["activity.movers"].tolist()
    else:
        pandas = pytest.importorskip("pandas")
        pytest.importorskip("pyarrow")
        frame = pandas.read_parquet(path)
        energy, movers = frame["activity.energy"].tolist(), frame["activity.movers"].tolist()
    assert energy == expected.energy.tolist()
    assert movers == expected.movers.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["freezing"], "no analysis is called 'freezing'; choose from freeze_onset"),
        (["divergence"], "divergence needs a second run to compare with"),
        (["phases", "--series", "U"], "no series 'U'"),
        (["phases", "--series", "m"], "phases needs bfloat16, or its bits as uint16, found float32"),
        (["phases", "freeze_onset", "-o", "x.csv"], ".csv holds one table, these are by step and by token"),
        (["phases", "-o", "x.xlsx"], "a table is written as .csv, .json, .npz, .parquet, not as .xlsx"),
    ],
)
def test_wrong_use_exits_with_2_and_one_sentence(run, arguments, message):
    """What is unknown, missing or does not fit."""
    result = analyze_run(run.path, *arguments)

    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_run_that_is_not_there(tmp_path):
    """One sentence, exit code 2."""
    result = analyze_run(tmp_path / "none", "phases")

    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_parquet_without_pyarrow(run, monkeypatch, tmp_path):
    """It says what to install, and writes nothing."""
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    tables = catalogue.tables(run, ["stillness"])

    with pytest.raises(UsageError, match=r"Parquet needs pyarrow; install it, or write .csv"):
        table_files.write_tables(tmp_path / "out.parquet", tables)
    assert not list(tmp_path.glob("out*"))
