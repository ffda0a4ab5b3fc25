"""The command line: exit codes a script can trust, one sentence an error, and nothing that is run from an argument."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import trajectory_store as ts
from tests.harness import contracts
from trajectory_store.cli import COMMANDS, main
from trajectory_store.commands.index_text import parse_index
from trajectory_store.errors import SelectionError

pytestmark = pytest.mark.usefixtures("no_sync")

COMMAND = [sys.executable, "-c", "from trajectory_store.cli import main; main()"]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def succeed(*arguments: object) -> str:
    result = call(*arguments)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def fail(*arguments: object) -> str:
    """The one sentence of a call that ends with exit code 2."""
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert isinstance(result.exception, SystemExit)
    sentence = result.stderr.strip().splitlines()[-1]
    assert sentence.startswith("Error: ")
    return sentence


@pytest.fixture
def run(tmp_path: Path, backend: str) -> Path:
    """The small recording of the contracts."""
    return contracts.record(tmp_path / "run", backend)


def w(steps: int = contracts.STEPS) -> np.ndarray:
    return np.array([contracts.values(step)["W"] for step in range(steps)])


def test_help_answers_at_once() -> None:
    """None of the slow imports is made for it; benchmarks/startup.py measures what is left."""
    seen = subprocess.run(
        [sys.executable, "-c", "import sys, trajectory_store.cli; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"zarr", "torch", "h5py", "xarray", "numcodecs", "numba", "tqdm", "matplotlib"} & set(seen)


def test_every_command_has_a_help_and_the_version_is_said() -> None:
    """--help works everywhere, -h too."""
    assert len(main.commands) == len(COMMANDS)
    for name in main.commands:
        assert "Usage:" in succeed(name, "--help")
        assert name in succeed("-h")
    assert succeed("--version").endswith(f", version {ts.__version__}\n")


def test_info_says_what_a_run_holds(run: Path, backend: str) -> None:
    """As text, and as JSON that agrees with the run."""
    text = succeed("info", run)
    found = json.loads(succeed("info", run, "--json"))

    for word in ("11", "bfloat16", "mask", "experiment", backend, "contract"):
        assert word in text
    assert (found["backend"], found["recorded_steps"], found["planned_steps"]) == (backend, 11, 11)
    rows = {name: series["rows"] for name, series in found["series"].items()}
    assert rows == {"W": 11, "loss": 11, "g": 4, "flag": 3}
    assert found["stored_bytes"] == sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    assert found["raw_bytes"] == 11 * 30 + 11 * 4 + 4 * 8 + 3 * 2 + 5 + 48
    assert (found["attrs"], found["is_being_written"]) == (contracts.ATTRS, False)


def test_info_sees_a_run_that_is_being_written(tmp_path: Path) -> None:
    """Its tail, and that somebody writes it."""
    with contracts.create(tmp_path / "run", "zarr") as sink:
        for step in range(6):
            sink.append(step, **contracts.values(step))
        found = json.loads(succeed("info", tmp_path / "run", "--json"))
        assert "being written" in succeed("info", tmp_path / "run")

    assert (found["recorded_steps"], found["is_being_written"], found["tail"]["steps"]) == (6, True, 2)


def test_info_takes_a_safetensors_file(tmp_path: Path) -> None:
    """Names from a file are printed without what a terminal would obey."""
    save_file({"W": w(), "loss": np.zeros(11, np.float32), "\x1b[2Jm\ud7ff": np.zeros(3)}, tmp_path / "file")

    text = succeed("info", tmp_path / "file")

    assert "safetensors file" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["5"], 5),
        (["-1"], -1),
        ([":, 3"], (slice(None), 3)),
        ([":,", "3"], (slice(None), 3)),
        (["1:9:2, [0, 4]"], (slice(1, 9, 2), [0, 4])),
        (["[7, -2, 0]"], [7, -2, 0]),
        (["..., 1"], (..., 1)),
        (["-3:, ::-1, 0"], (slice(-3, None), slice(None, None, -1), 0)),
        ([], ...),
        (["2, :, [2, 0]"], (2, slice(None), [2, 0])),
        (["[7, -2], ..., 1"], ([7, -2], ..., 1)),
        (["4:4"], slice(4, 4)),
    ],
)
def test_slices_are_numpys(run: Path, tmp_path: Path, arguments: list[str], key: Any) -> None:
    """In every output format, values and bits."""
    expected = w()[key]
    floats = (expected.astype(np.uint32) << 16).view(np.float32)

    found = json.loads(succeed("slice", run, "W", *arguments, "--bits", "--json"))
    assert (found["shape"], found["values"], found["dtype"]) == (list(expected.shape), expected.tolist(), "uint16")
    assert np.atleast_1d(np.arange(11)[key[0] if isinstance(key, tuple) else key]).tolist() == found["steps"] or (
        key == (..., 1)
    )
    succeed("slice", run, "W", *arguments, "-o", tmp_path / "values.npy")
    values = np.load(tmp_path / "values.npy")
    assert (values.dtype, values.tobytes()) == (np.float32, floats.tobytes())
    assert values.shape == expected.shape
    succeed("slice", run, "W", *arguments, "--bits", "-o", tmp_path / "bits.safetensors")
    assert np.array_equal(expected, load_file(tmp_path / "bits.safetensors")["W"])
    succeed("slice", run, "W", *arguments, "-o", tmp_path / "values.safetensors")
    with safe_open(tmp_path / "values.safetensors", "numpy") as file:
        assert file.get_slice("W").get_dtype() == "BF16"
    succeed("slice", run, "W", *arguments, "-o", tmp_path / "values.csv")
    lines = (tmp_path / "values.csv").read_text().splitlines()
    cells = np.array([line.split(",")[1:] for line in lines[1:]], np.float32)
    assert np.array_equal(floats.reshape(cells.shape), cells, equal_nan=True)
    assert len(lines[0].split(",")) == 1 + (cells.shape[1] if len(cells) else len(lines[0].split(",")) - 1)
    assert lines[0].startswith("step,token=")
    assert "W" in succeed("slice", run, "W", *arguments)


def test_labels_of_a_csv_name_the_token_and_dimension(run: Path, tmp_path: Path) -> None:
    """What a spreadsheet's columns are."""
    succeed("slice", run, "W", "4:1:-2, [1, 3]", "-o", tmp_path / "w.csv")

    header, first, second = (tmp_path / "w.csv").read_text().splitlines()
    assert header.split(",") == ["step", *(f"token={token} dim={dim}" for token in (1, 3) for dim in range(3))]
    assert (first.split(",")[0], second.split(",")[0]) == ("4", "2")


def test_scalars_sparse_series_and_static_arrays_are_sliced(run: Path, tmp_path: Path) -> None:
    """loss as a table, g at its own steps, a mask."""
    succeed("slice", run, "loss", "::5", "-o", tmp_path / "loss.csv")
    lines = (tmp_path / "loss.csv").read_text().splitlines()
    assert lines[0] == "step,loss"
    for step, line in zip((0, 5, 10), lines[1:], strict=True):
        assert [str(step), str(contracts.values(step)["loss"])] == line.split(",")
    assert json.loads(succeed("slice", run, "g", ":", "--json"))["steps"] == [0, 3, 6, 9]
    assert json.loads(succeed("slice", run, "mask", "--json"))["values"] == contracts.STATIC["mask"].tolist()
    assert json.loads(succeed("slice", run, "ids", "1, ::-1", "--json"))["values"] == [5, 4, 3]
    succeed("slice", run, "ids", "-o", tmp_path / "ids.npy")
    assert np.array_equal(contracts.STATIC["ids"], np.load(tmp_path / "ids.npy"))
    assert "True" in succeed("slice", run, "mask", "0")


@pytest.mark.parametrize("name", ["step", "steps", "0.weight", "row"])
def test_series_of_any_name_are_sliced(tmp_path: Path, name: str) -> None:
    """Beside the columns and tensors that say the steps."""
    with ts.create(tmp_path / "run", {name: ts.Series((), "int64")}) as sink:
        for step in range(3):
            sink.append(step, **{name: 10 * step})

    succeed("slice", tmp_path / "run", name, "-o", tmp_path / "part.csv")
    succeed("slice", tmp_path / "run", name, "-o", tmp_path / "part.safetensors")
    header, *lines = (tmp_path / "part.csv").read_text().splitlines()
    assert header.split(",") == ["step", "step_2" if name == "step" else name]
    assert lines == ["0,0", "1,10", "2,20"]
    tensors = load_file(tmp_path / "part.safetensors")
    assert tensors.pop(name).tolist() == [0, 10, 20]
    assert {key: one.tolist() for key, one in tensors.items()} == {"steps_2" if name == "steps" else "steps": [0, 1, 2]}


def test_not_a_number_is_valid_json(tmp_path: Path) -> None:
    """JSON has no NaN: strings stand for it."""
    with ts.create(tmp_path / "run", {"loss": ts.Series((), "float32")}) as sink:
        for step, loss in enumerate((np.nan, np.inf, -np.inf, 0.5)):
            sink.append(step, loss=np.float32(loss))

    def refuse(name: str) -> None:
        raise AssertionError(name)

    found = json.loads(succeed("slice", tmp_path / "run", "loss", "--json"), parse_constant=refuse)
    assert found["values"] == ["NaN", "Infinity", "-Infinity", 0.5]


@pytest.mark.parametrize(
    "text",
    [
        *("0][1", "0] + [1", "__import__('os').system('true')", "1.5", "'a'", "True", "None", "x", "0:1:2:3", "[[1]]"),
        *("(1, 2), 3", "1 2", "[1, 2", "lambda: 0", "[x for x in y]", "1,,2", "5j", "--1-", "()" * 5000, "[" * 300),
        *("1 if 1 else 2", "\x00", "*[1]", "0\n+1", "~0", "+1", "b''"),
    ],
)
def test_an_index_that_is_none_is_refused(text: str) -> None:
    """Parsed, never evaluated."""
    with pytest.raises(SelectionError):
        parse_index(text)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789:,[]-. ()\n", max_size=20))
def test_any_text_is_an_index_or_refused(text: str) -> None:
    """What it parses to is what Python itself takes it for."""

    class Echo:
        def __getitem__(self, key: Any) -> Any:
            return key

    try:
        key = parse_index(text)
    except SelectionError:
        return
    if text.strip():
        assert key == eval(f"echo[{text.strip()}]", {"echo": Echo()})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["W", "99"], "11 steps are recorded"),
        (["W", ":, 9"], "out of range"),
        (["W", "0, 0, 0, 0"], "4 indices"),
        (["W", "2:4, 3, ..., [0, 1]"], "list's axis first"),
        (["V"], "no series 'V'"),
        (["W", "nonsense"], "write it as for numpy"),
        (["W", "0", "--bitz"], "--bitz"),
        (["mask", "99"], "mask"),
        (["W", "-o", "out.txt"], "its ending says no format"),
    ],
)
def test_wrong_slices_are_one_sentence(run: Path, arguments: list[str], words: str) -> None:
    """Exit 2, nothing printed."""
    assert words in fail("slice", run, *arguments)


def test_an_output_is_kept_unless_overwritten(run: Path, tmp_path: Path) -> None:
    """For slices and exports alike, and never a run's own file."""
    out = tmp_path / "out.npy"
    out.write_bytes(b"mine")
    assert "already exists" in fail("slice", run, "W", "0", "-o", out)
    assert "already exists" in fail("export", run, out)
    assert out.read_bytes() == b"mine"
    succeed("slice", run, "W", "0", "-o", out, "--overwrite")
    succeed("export", run, out, "--overwrite")
    assert "belongs to the run" in fail("slice", run, "W", "-o", run / "x.npy")
    assert "belongs to the run" in fail("export", run, run / "x")


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], {}),
        (["--dtype", "bfloat16"], {"dtype": "bfloat16"}),
        (["--steps", "2:9:3"], {"steps": slice(2, 9, 3)}),
        (["--steps=-4:"], {"steps": slice(-4, None)}),
        (["--widen", "W"], {"widen": {"W"}}),
    ],
    ids=str,
)
def test_export_passes_its_options(run: Path, tmp_path: Path, arguments: list[str], options: Any) -> None:
    """The command writes what the function does."""
    assert "Wrote" in succeed("export", run, tmp_path / "command", *arguments)

    ts.export_safetensors(run, tmp_path / "function", **options)
    assert (tmp_path / "function").read_bytes() == (tmp_path / "command").read_bytes()


def test_wrong_exports_are_one_sentence(run: Path, tmp_path: Path) -> None:
    """Exit 2, and no file."""
    out = tmp_path / "out"
    assert "slice of step numbers" in fail("export", run, out, "--steps", "5")
    assert "slice of step numbers" in fail("export", run, out, "--steps", "a:b")
    assert "selects none" in fail("export", run, out, "--steps", "90:")
    assert "only bfloat16" in fail("export", run, out, "--widen", "loss")
    assert "not a run" in fail("export", tmp_path / "nothing", out)
    fail("export", run, out, "--dtype", "float32")
    fail("export", run, tmp_path / "no" / "folder" / "out")
    fail("export", run)
    assert not out.exists()


def test_compare_exits_with_what_it_found(run: Path, tmp_path: Path) -> None:
    """0 identical, 1 different, a prefix only where told, 2 an error."""
    exported, part = tmp_path / "exported", tmp_path / "part"
    succeed("export", run, exported)
    succeed("export", run, part, "--steps", ":4")
    save_file({**load_file(exported), "W": load_file(exported)["W"] ^ np.uint16(1)}, tmp_path / "other")

    assert "identical" in succeed("compare", run, exported)
    assert json.loads(succeed("compare", run, exported, "--json"))["identical"]
    assert call("compare", part, run).exit_code == 1
    assert "a is a prefix of b" in succeed("compare", part, run, "--prefix", "--series", "W,loss")
    assert "a is a prefix of b" in succeed("compare", part, run, "--prefix", "--series", "W", "--series", "loss")
    different = call("compare", run, tmp_path / "other")
    assert (different.exit_code, "165 of 198" in different.stdout) == (1, True)
    assert "Verdict: different" in different.stdout
    found = json.loads(call("compare", run, tmp_path / "other", "--json").stdout)
    assert (found["identical"], found["first_step"], found["first"]["series"]) == (False, 0, "W")
    assert succeed("compare", run, tmp_path / "other", "--series", "loss,mask")
    assert "no series 'V'" in fail("compare", run, exported, "--series", "V")
    fail("compare", run, tmp_path / "nothing")


def test_import_makes_a_run(tmp_path: Path) -> None:
    """Findings are printed; the run compares equal; options arrive."""
    tensors = {"W": w(), "loss": np.zeros(11, np.float32), "g": w()[1:]}
    save_file(tensors, tmp_path / "file")

    text = succeed("import", tmp_path / "file", tmp_path / "run", "--first-step", "g=1", "--block-steps", "4")
    assert "W: uint16 taken for bfloat16 bit patterns" in text
    succeed("compare", tmp_path / "run", tmp_path / "file")
    found = json.loads(
        succeed("import", tmp_path / "file", tmp_path / "other", "--bfloat16", "", "--backend", "memmap", "--json")
    )
    assert (found["series"], found["static"]) == (["loss", "W"], ["g"])
    assert "g: a static array, since it has 10 rows" in "".join(found["findings"])
    assert "already exists" in fail("import", tmp_path / "file", tmp_path / "run")
    assert "NAME=STEP" in fail("import", tmp_path / "file", tmp_path / "third", "--first-step", "g")
    assert "cannot be read" in fail("import", tmp_path / "nothing", tmp_path / "third")
    np.save(tmp_path / "v.npy", np.zeros((3, 2), np.float16) + np.float16(1.5))
    assert "lossy" in fail("import", tmp_path / "v.npy", tmp_path / "third", "--bfloat16", "v")
    assert not (tmp_path / "third").exists()
    succeed("import", tmp_path / "v.npy", tmp_path / "third", "--bfloat16", "v", "--allow-lossy")


def test_damage_is_one_sentence(run: Path, tmp_path: Path) -> None:
    """No traceback for a damaged run, nor half a file."""
    (run / "manifest.json").write_text("{}")
    for arguments in (["info", run], ["slice", run, "W"], ["export", run, tmp_path / "out"], ["compare", run, run]):
        assert "manifest.json" in fail(*arguments)
    assert not (tmp_path / "out").exists()


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """As in `| head -1`: no traceback, and the exit code that shells give."""
    with ts.create(tmp_path / "run", {"W": ts.Series((400,), "float32")}) as sink:
        for step in range(300):
            sink.append(step, W=np.full(400, step, np.float32))
    read, write = os.pipe()
    process = subprocess.Popen(
        [*COMMAND, "slice", str(tmp_path / "run"), "W", "--json"], stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    os.read(read, 10)
    os.close(read)
    _, errors = process.communicate(timeout=30)

    assert (errors, process.returncode) == (b"", 141)


def test_no_bar_is_drawn_where_there_is_no_terminal(run: Path, tmp_path: Path) -> None:
    """stderr stays empty in a script."""
    ran = subprocess.run([*COMMAND, "export", str(run), str(tmp_path / "out")], capture_output=True, check=True)

    assert ran.stderr == b""


def test_a_large_slice_is_printed_by_its_edges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than fits a screen is not read: the first and last rows are."""
    from trajectory_store.commands import slice as slicing

    run = contracts.record(tmp_path / "run", "zarr")
    monkeypatch.setattr(slicing, "_PRINTED_WHOLE_BYTES", 100)

    text = succeed("slice", run, "W", "--bits")

    assert "5 rows" in text
    assert f"{w()[10, 4, 2]:#06x}" in text
    assert f"{w()[5, 0, 0]:#06x}" not in text
