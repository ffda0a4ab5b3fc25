"""What the names in a run mean is known in one place: every reader labels the same rows by the same ids."""

import ast
import csv
import inspect
import io
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import trajectory_store as ts
from trajectory_store import analysis, conventions
from trajectory_store.analysis import catalogue
from trajectory_store.cli import main
from trajectory_store.errors import ConventionWarning, UsageError

ROOT = Path(__file__).parents[1]
CAPTURED = np.arange(5) * 10 + 1
DEAD = np.arange(5) * 10
BOTH = {"dead_indices": DEAD, "captured_indices": CAPTURED}


def record(path, *, static=None, attrs=None, others=None):
    """Five tokens of three numbers that move at each of four steps; and the series of `others` beside them."""
    others = others or {}
    series = {"W": ts.Series((5, 3), "bfloat16", dims=("token", "dim"))}
    series |= {name: ts.Series(rows.shape[1:], rows.dtype.name) for name, rows in others.items()}
    bits = np.arange(4 * 5 * 3, dtype=np.uint16).reshape(4, 5, 3) + 0x3C00
    with ts.create(path, series, steps=4, static=static, attrs=attrs) as sink:
        for step in range(4):
            sink.append(step, W=bits[step], **{name: rows[step] for name, rows in others.items()})
    return path


def xarray_ids(path):
    with ts.open(path) as run:
        dataset = run.to_xarray()
        return dataset.token_id.values.tolist() if "token_id" in dataset.coords else None


def table_ids(path):
    with ts.open(path) as run:
        columns = catalogue.tables(run, ["freeze_onset"])[0].columns
        return columns["token_id"].tolist() if "token_id" in columns else None


def report_ids(path):
    with ts.open(path) as run:
        ids = ts.report.findings(run).ids.tolist()
        return None if ids == list(range(5)) else ids


READERS = {"to_xarray": xarray_ids, "tables": table_ids, "report": report_ids}


@pytest.fixture(params=READERS)
def read_ids(request):
    if request.param == "to_xarray":
        pytest.importorskip("xarray")
    return READERS[request.param]


@pytest.mark.parametrize(
    ("static", "expected"),
    [
        (BOTH, CAPTURED.tolist()),
        ({"captured_indices": CAPTURED, "dead_indices": np.arange(2)}, CAPTURED.tolist()),
        ({"dead_indices": DEAD}, DEAD.tolist()),
        ({"dead_indices": DEAD.astype(np.uint16)}, DEAD.tolist()),
        (None, None),
    ],
    ids=["both fit", "captured fits", "dead only", "unsigned", "neither"],
)
def test_every_reader_has_the_same_ids(tmp_path, read_ids, static, expected):
    """`captured_indices` is the word on which tokens the rows are, and `dead_indices` only in a run without it."""
    assert read_ids(record(tmp_path / "run", static=static)) == expected


@pytest.mark.parametrize(
    ("static", "said"),
    [
        ({"captured_indices": np.arange(4), "dead_indices": DEAD}, r"'captured_indices' has shape \(4,\)"),
        ({"dead_indices": np.arange(6)}, r"'dead_indices' has shape \(6,\)"),
        ({"captured_indices": DEAD / 2}, "dtype float64"),
        ({"captured_indices": DEAD - 1}, "an integer of at least 0"),
    ],
    ids=["captured does not fit", "dead does not fit", "floats", "negative"],
)
def test_ids_that_do_not_fit_are_not_used_and_every_reader_says_so(tmp_path, read_ids, static, said):
    """None is guessed: not by the other array, where that one happens to be as long as the series."""
    path = record(tmp_path / "run", static=static)

    with pytest.warns(ConventionWarning, match=said):
        ids = read_ids(path)

    assert ids is None


def test_the_command_says_it_in_one_sentence(tmp_path):
    """`analyze` prints its table on stdout and one note on stderr, without a line of code."""
    path = record(tmp_path / "run", static={"dead_indices": np.arange(6)})

    result = CliRunner().invoke(main, ["analyze", str(path), "freeze_onset"])

    assert result.exit_code == 0, result.output
    assert "token_id" not in next(csv.reader(io.StringIO(result.stdout)))
    assert result.stderr.startswith("Note: static array 'dead_indices' has shape (6,)")
    assert result.stderr.count("\n") == 1


def test_a_series_with_other_rows_has_no_ids(tmp_path):
    """The ids label the rows that they fit, and no others; a dataset keeps the array that is not a label."""
    pytest.importorskip("xarray")
    positions = np.ones((4, 2, 3), dtype=np.uint16)
    path = record(tmp_path / "run", static=BOTH, others={"P": positions})

    with ts.open(path) as run:
        dataset = run.to_xarray()
        assert dataset.token_id.values.tolist() == CAPTURED.tolist()
        assert dataset.P.dims == ("step", "P_dim_0", "P_dim_1")
        assert dataset.dead_indices.values.tolist() == DEAD.tolist()
        assert "captured_indices" not in dataset
        assert catalogue.tables(run, ["freeze_onset"])[0].columns["token_id"].tolist() == CAPTURED.tolist()
        with pytest.warns(ConventionWarning, match="2 tokens of series 'P'"):
            columns = catalogue.tables(run, ["freeze_onset"], series="P")[0].columns
    assert "token_id" not in columns


def test_separation_looks_its_rows_up_in_the_mask(tmp_path):
    """`dead_mask` is about the vocabulary: a row is as dead as the token whose id it has, in whatever order."""
    mask = np.array([True, True, False, False, False])
    path = record(tmp_path / "run", static={"dead_mask": mask, "captured_indices": np.array([4, 3, 2, 1, 0])})

    with ts.open(path) as run:
        found = analysis.separation(run)
        expected = analysis.separation(run, dead=mask[::-1])

    assert found.distance.tolist() == expected.distance.tolist()
    assert found.dead.centroid.tolist() == expected.dead.centroid.tolist()


def test_separation_of_some_of_a_vocabulary(tmp_path):
    """A mask longer than the series is no hindrance, if the run says which of its entries the rows are."""
    mask = np.arange(50) % 20 == 1
    path = record(tmp_path / "run", static={"dead_mask": mask, **BOTH})

    with ts.open(path) as run:
        assert analysis.separation(run).distance.tolist() == (
            analysis.separation(run, dead=np.array([True, False, True, False, True])).distance.tolist()
        )


def test_ids_past_the_end_of_the_mask_are_refused(tmp_path):
    """One sentence names both arrays."""
    path = record(tmp_path / "run", static={"dead_mask": np.ones(5, dtype=bool), **BOTH})

    with ts.open(path) as run, pytest.raises(UsageError, match="'dead_mask' has 5 entries, and 'captured_indices'"):
        analysis.separation(run)


@pytest.mark.parametrize("value", ["3e-4", [0.1], True, {"a": 1}], ids=str)
def test_a_hyperparameter_that_is_no_number(tmp_path, value):
    """Adam's account is not made with it, and says which and what it found."""
    states = {"m": np.ones((4, 5, 3), np.float32), "v": np.ones((4, 5, 3), np.float32)}
    config = dict.fromkeys(conventions.HYPERPARAMETERS, 0.5) | {"beta2": value}
    path = record(tmp_path / "run", others=states, attrs={"config": config})

    with ts.open(path) as run, pytest.raises(UsageError, match="needs beta2 as a number: the run's attributes say"):
        analysis.adam_accounting(run)


def test_the_page_names_what_the_code_reads():
    """docs/conventions.md has every name of `conventions`, as a word of its own."""
    page = (ROOT / "docs" / "conventions.md").read_text()
    names = [value for name, value in vars(conventions).items() if name.isupper() and isinstance(value, str)]
    names += [*conventions.SERIES, *conventions.HYPERPARAMETERS, *conventions._TITLES]

    assert {name for name in names if f"`{name}`" not in page} == set()


def test_the_names_stand_in_one_place():
    """No other file of the store spells out what an array or an attribute of a run is called."""
    arrays = {conventions.CAPTURED_INDICES, conventions.DEAD_INDICES, conventions.DEAD_MASK}
    attributes = {conventions.TOKEN_TEXT, conventions.FINGERPRINT, conventions.CONFIG, conventions.PRESET}
    found = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.value!r}"
        for path in (ROOT / "trajectory_store").rglob("*.py")
        if path.name != "conventions.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in arrays | attributes
    }

    assert found == set()


def test_defaults_are_the_conventions():
    """What an analysis looks at by default, and the optimizer's states, are called as they are here."""
    expected = {"series": conventions.WEIGHTS, "m": conventions.FIRST_MOMENT, "v": conventions.SECOND_MOMENT}
    functions = [getattr(analysis, name) for name in analysis.__all__ if name.islower()] + [ts.report.findings]
    seen = set()
    for function in functions:
        if not callable(function) or function is analysis.autocorrelation:  # which is about another kind of series
            continue
        for name, parameter in inspect.signature(function).parameters.items():
            if name in expected:
                assert parameter.default == expected[name], function
                seen.add(name)
    assert seen == set(expected)
