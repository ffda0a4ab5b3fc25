"""What is printed: whatever the names in a run or a file hold, a terminal obeys none of it."""

import ast
import json
import os
import subprocess
import sys
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import save_file

import trajectory_store as ts
from tests.harness import contracts
from trajectory_store import commands
from trajectory_store.cli import main
from trajectory_store.plain_text import printable

pytestmark = pytest.mark.usefixtures("no_sync")

HOSTILE = {
    "title": "\x1b]0;owned\x07",
    "colour": "\x1b[31m",
    "c1": "\x9b2J\x85",
    "bidi": "\u202etxt.\u202c\u2066x\u2069\u200f",
    "zero width": "\u200b\u200d\ufeff\u2060",
    "line ends": "a\nError: b\r\x0b\x0c\u2028\u2029c",
    "tab": "a\tb\x7f\x08",
}
"""What a terminal obeys, by what it would do."""
EVERY = "".join(HOSTILE.values())
ALL = pytest.mark.parametrize("evil", HOSTILE.values(), ids=HOSTILE.keys())


def is_plain(text: str) -> bool:
    """Whether a terminal would show it line by line, and each character of it."""
    return all(char == "\n" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in text)


def call(*arguments: object) -> Result:
    """A command that ended by itself, and printed nothing that a terminal obeys."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert is_plain(result.stdout + result.stderr), (result.stdout, result.stderr)
    return result


def error_of(*arguments: object) -> str:
    """The one line of a call that failed."""
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert result.stderr.count("Error: ") == 1 + last.count("\\nError: ")
    return last


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    """A safetensors file whose names, its own included, are hostile."""

    def make(evil: str) -> Path:
        path = tmp_path / f"f{evil}"
        values = np.zeros((11, 3, 2), np.uint16)
        save_file({"W": values, "loss": np.zeros(11, np.float32), f"m{evil}": np.zeros(3)}, path)
        return path

    return make


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """A run with hostile attributes, in a folder of such a name, and a stranger's file in it."""

    def make(evil: str, backend: str = "zarr") -> Path:
        path = tmp_path / f"r{evil}"
        attrs = {f"k{evil}": evil, "token_text": [evil] * 5}
        with ts.create(path, contracts.SERIES, steps=contracts.STEPS, static=contracts.STATIC, attrs=attrs,
                       backend=backend) as sink:  # fmt: skip
            for step in range(contracts.STEPS):
                sink.append(step, **contracts.values(step))
        (path / f"x{evil}").write_bytes(b"")
        (path / f".y{evil}.0123abcd.partial").write_bytes(b"")
        return path

    return make


@ALL
def test_of_files(evil: str, file: Callable[[str], Path], tmp_path: Path) -> None:
    """Each command on a safetensors file."""
    path = file(evil)
    escaped = printable(evil)

    assert escaped in call("info", path).stdout
    (static,) = json.loads(call("info", path, "--json").stdout)["static"]
    for arguments in (
        [],
        ["0"],
        ["--json"],
        ["-o", tmp_path / f"{evil}.csv"],
        ["-o", tmp_path / f"{evil}.safetensors"],
    ):
        assert call("slice", path, static, *arguments).exit_code == 0
    assert escaped in error_of("slice", path, evil)
    call("compare", path, path)
    call("compare", path, path, "--json")
    error_of("compare", path, path, "--series", f"no{evil}")
    call("compare", path, file(f"{evil}2"))
    call("export", path, tmp_path / f"out{evil}")
    error_of("export", path, tmp_path / "out", "--widen", f"no{evil}")
    call("import", path, tmp_path / f"i{evil}", "--overwrite")
    error_of("import", path, tmp_path / "i2", "--bfloat16", f"no{evil}")
    error_of("import", path, tmp_path / "i2", "--first-step", f"no{evil}=1")
    error_of("import", path, tmp_path / "i2", "--first-step", f"no{evil}")
    error_of("check", path)
    call("analyze", path, "displacement")
    error_of("analyze", path, "displacement", "--series", f"m{evil}")
    call("report", path, "-o", tmp_path / f"{evil}.html")


@ALL
def test_of_runs(evil: str, run: Callable[..., Path], backend: str, tmp_path: Path) -> None:
    """Each command on a run."""
    path = run(evil, backend)
    escaped = printable(evil)

    assert escaped in call("info", path).stdout
    assert json.loads(call("info", path, "--json").stdout)["attrs"][f"k{evil}"] == evil
    assert f"x{escaped}" in call("check", path).stdout
    assert call("check", path, "--json").exit_code == 1
    assert f".y{escaped}.0123abcd.partial" in call("check", "--repair", path).stdout
    call("check", "--repair", path, "--json")
    call("slice", path, "W", "0")
    error_of("slice", path, "W", evil)
    error_of("slice", path, "W", "0", "-o", path / "x.npy")
    call("slice", path, "W", "0", "-o", tmp_path / f"{evil}.npy")
    call("compare", path, path)
    call("export", path, tmp_path / f"out{evil}")
    error_of("export", path, tmp_path / f"out{evil}")
    call("analyze", path, "displacement")
    call("analyze", path, "displacement", "freeze_onset")
    call("analyze", path, "displacement", "--json")
    call("analyze", path, "displacement", "-o", tmp_path / f"{evil}.csv")
    error_of("analyze", path, evil)
    error_of("analyze", path, "displacement", "--series", evil)
    call("report", path, "-o", tmp_path / f"{evil}.html", "--figures", tmp_path / f"{evil}")
    error_of("report", path, "-o", tmp_path / f"{evil}.html")
    (path / "manifest.json").write_bytes(b"{}")
    for command in ("info", "check", "slice", "compare", "export"):
        rest = {"slice": ["W"], "compare": [path], "export": [tmp_path / "o"]}.get(command, [])
        call(command, path, *rest)


@ALL
def test_of_click_itself(evil: str, tmp_path: Path) -> None:
    """What click says of an argument that came from elsewhere."""
    for arguments in ([evil], ["info", f"--{evil}"], ["info", "a", evil], ["import", "a", "b", "--backend", evil],
                      ["import", "a", "b", "--block-steps", evil], ["slice", "a", "W", f"--{evil}"]):  # fmt: skip
        result = call(*arguments)
        assert result.exit_code == 2
    error_of("info", tmp_path / evil)


@ALL
def test_of_archives(evil: str, tmp_path: Path) -> None:
    """Names in .npz and HDF5 files, which become errors or findings."""
    np.savez(tmp_path / "a.npz", **{f"W{evil}": np.zeros((4, 2)), "loss": np.zeros(4), f"o{evil}": np.array([{}])})
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5[f"W{evil}"], h5["loss"], h5[f"t{evil}"] = np.zeros((4, 2)), np.zeros(4), "text"
        h5.attrs[f"k{evil}"] = evil
        h5[b"\xff\x1b"] = np.zeros(3)
    for name in ("a.npz", "a.h5"):
        call("import", tmp_path / name, tmp_path / f"r{name}")
        call("import", tmp_path / name, tmp_path / f"r2{name}", "--json")
        error_of("import", tmp_path / name, tmp_path / "r3", "--bfloat16", f"W{evil}")


def test_names_that_are_no_text(run: Callable[..., Path], tmp_path: Path) -> None:
    """A file's name may be any bytes, and a header's may hold half of a surrogate pair."""
    path = run(os.fsdecode(b"\xff\x1b"))
    for command in (["info"], ["check"], ["check", "--json"], ["check", "--repair"], ["slice"], ["info", "--json"]):
        assert call(command[0], path, *command[1:], *(["W"] * (command[0] == "slice"))).exit_code in (0, 1)
    error_of("info", tmp_path / os.fsdecode(b"\xfe"))
    entry: dict[str, Any] = {"dtype": "U16", "shape": [6, 2, 2], "data_offsets": [0, 48]}
    other = {"dtype": "F32", "shape": [2], "data_offsets": [48, 56]}
    header = json.dumps({"W": entry, "m\udcff\x1b": other}).encode()
    path = tmp_path / "surrogate"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(56))
    for arguments in (["info", path], ["slice", path, "m\udcff\x1b"], ["slice", path, "m\udcff\x1b", "--json"],
                      ["slice", path, "m\udcff\x1b", "-o", tmp_path / "o.csv"], ["export", path, tmp_path / "o"],
                      ["slice", path, "m\udcff\x1b", "-o", tmp_path / "o.safetensors"], ["compare", path, path],
                      ["import", path, tmp_path / "i"], ["report", path, "-o", tmp_path / "o.html"]):  # fmt: skip
        call(*arguments)


def test_of_a_terminal_that_knows_only_ascii(tmp_path: Path) -> None:
    """What its encoding lacks is escaped; there is no traceback."""
    path = contracts.record(tmp_path / "run", "zarr")
    ran = subprocess.run(
        [sys.executable, "-c", "from trajectory_store.cli import main; main()", "info", str(path)],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert b"\\xd7" in ran.stdout
    assert ran.stderr == b""


def test_a_warning_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What code below a command warns of is printed like everything else."""
    monkeypatch.setattr("trajectory_store.commands.info.about", lambda _: warnings.warn(EVERY, stacklevel=1) or {})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        result = CliRunner().invoke(main, ["info", "x", "--json"])
    assert result.stderr == f"Warning: {printable(EVERY)}\n"


def test_what_python_shows_of_a_run(file: Callable[[str], Path], run: Callable[..., Path]) -> None:
    """`repr` of a run, and a finding as text, are what a session prints."""
    assert is_plain(repr(ts.open(file(EVERY))))
    assert all(is_plain(str(finding)) for finding in ts.check(run(EVERY)))


def test_one_place_prints() -> None:
    """No command writes to the terminal but through `commands.terminal`."""
    package = Path(ts.__file__).parent
    only_place = Path(commands.__file__).with_name("terminal.py")
    for path in sorted(package.rglob("*.py")):
        if path == only_place:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            name = ast.unparse(node.func if isinstance(node, ast.Call) else node)
            assert name not in ("print", "click.echo", "click.secho", "click.echo_via_pager"), path
            assert name not in ("sys.stdout", "sys.stderr", "sys.__stderr__"), path
            if isinstance(node, ast.ImportFrom) and node.module == "click":
                raise AssertionError(path)
