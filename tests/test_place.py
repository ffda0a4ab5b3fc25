"""Where a run is: a path is resolved when it is given, and what is no path of this machine is refused."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import trajectory_store as ts
from tests.harness import contracts
from trajectory_store import place, report
from trajectory_store.cli import main
from trajectory_store.errors import RunExistsError, StorageError, UsageError

SCALAR = {"x": ts.Series((), "float32")}

ELSEWHERE = [
    *("s3://bucket/run", "gs://bucket/run", "az://c/run", "hf://datasets/u/r", "https://host/run", "memory://run"),
    *("file:///tmp/run", "simplecache::s3://bucket/run", "S3://bucket/run", "server:/scratch/run", "user@host:/run"),
    *(Path("s3://bucket/run"), Path("https://host/run")),
]
NO_NAMES = ["", "a\0b", b"a\0b", Path("a\0b/run"), "a\ud800b", Path("\ud800/run")]
NO_PATHS = [*ELSEWHERE, *NO_NAMES, "~nobody-of-this-name/run", None, 3, 1.5, object(), ["run"]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


TAKES_A_PATH: dict[str, Callable[[Any], Any]] = {
    "create": lambda path: ts.create(path, SCALAR),
    "overwrite": lambda path: ts.create(path, SCALAR, overwrite=True),
    "resume": ts.resume,
    "open": ts.open,
    "check": lambda path: next(ts.check(path)),
    "repair": ts.repair,
    "compare": lambda path: ts.compare(path, path),
    "export from": lambda path: ts.export_safetensors(path, "out.safetensors"),
    "import from": lambda path: ts.import_file(path, "run"),
    "import_safetensors": lambda path: ts.import_safetensors(path, "run"),
    "import_hdf5": lambda path: ts.import_hdf5(path, "run"),
    "import_numpy": lambda path: ts.import_numpy(path, "run"),
    "import_torch": lambda path: ts.import_torch(path, "run"),
    "report page": lambda path: report.write_page(None, path),
    "report figures": lambda path: report.write_figures(None, path),
    "place": place.to_write,
}


@pytest.mark.parametrize("call", TAKES_A_PATH.values(), ids=TAKES_A_PATH)
def test_what_is_no_path_of_this_machine_is_refused(call: Callable[[Any], Any], here: Path) -> None:
    """URLs, other hosts, nothing, a null byte, half a character, another type: one sentence, and no folder."""
    for path in NO_PATHS:
        with pytest.raises(UsageError):
            call(path)
    assert not list(here.iterdir())


def test_outputs_are_not_written_elsewhere(here: Path, tmp_path: Path) -> None:
    """Imports and exports too say that only local folders will do."""
    run = contracts.record(tmp_path / "run", "memmap", stop=3)
    np.save(tmp_path / "a.npy", np.zeros((3, 2), np.float32))
    for path in ELSEWHERE:
        with pytest.raises(UsageError, match=r"names a place outside|is a URL; give the path itself, /tmp/run"):
            ts.export_safetensors(run, path)
        with pytest.raises(UsageError):
            ts.import_file(tmp_path / "a.npy", path)
        commands = ["export", run, path], ["import", tmp_path / "a.npy", path], ["slice", run, "W", "-o", path]
        for arguments in commands:
            done = CliRunner().invoke(main, [str(argument) for argument in arguments])
            assert done.exit_code == 2, done.output
            assert "Error: " in done.output
    assert not list(here.iterdir())


@pytest.mark.parametrize("make", [lambda at: f"./{at}/", Path])
def test_a_change_of_folder_moves_no_run(backend: str, make: Callable[[str], Any], here: Path, tmp_path: Path) -> None:
    """Writing, reading, refreshing, resuming with a comparison and exporting go on where they were begun."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    sink = ts.create(
        make("run"),
        contracts.SERIES,
        steps=contracts.STEPS,
        backend=backend,
        block_steps=4,
        static=contracts.STATIC,
        attrs=contracts.ATTRS,
    )
    os.chdir(elsewhere)
    for step in range(6):
        sink.append(step, **contracts.values(step))
    sink.close()
    os.chdir(here)
    run = ts.open(make("run"))
    sink = ts.resume(make("run"), from_step=3)
    os.chdir(elsewhere)
    for step in range(4, contracts.STEPS):
        sink.append(step, **contracts.values(step))
    sink.close()
    run.refresh()
    contracts.assert_prefix(run, contracts.STEPS)
    assert run.static["ids"].tolist() == contracts.STATIC["ids"].tolist()
    run.close()
    contracts.check_run(here / "run")
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("path", [".", "./", "../here", "../here/.", "x/.."])
def test_the_current_folder_can_be_the_run(backend: str, path: str, here: Path) -> None:
    """However it is called."""
    if path == "x/..":
        (here.parent / "y").mkdir()
        (here.parent / "y" / "x").mkdir()
        os.chdir(here.parent / "y")
        here = here.parent / "y" / "run"
        path = "x/../run"
    with ts.create(path, SCALAR, steps=3, backend=backend) as sink:
        sink.append(0, x=1.0)
    with ts.open(path) as run:
        assert run.path == here
        assert run["x"][...].tolist() == [1.0]


def test_the_current_folder_is_still_there_when_it_was_replaced(backend: str, here: Path) -> None:
    """A run that is overwritten is another folder, and the process is in that one, so relative paths lead there."""
    for value in (1.0, 2.0):
        with ts.create(".", SCALAR, steps=3, backend=backend, overwrite=True) as sink:
            sink.append(0, x=value)
        assert Path.cwd() == here
    with pytest.raises(RuntimeError, match="mine"), ts.create(".", SCALAR, steps=3, backend=backend, overwrite=True):
        raise RuntimeError("mine")
    with ts.resume(".") as sink:
        sink.append(0, x=3.0)
    with ts.open(".") as run:
        assert run["x"][:].tolist() == [3.0]
    ts.export_safetensors(".", "../out.safetensors")
    assert here.with_name("out.safetensors").exists()


def test_parents_are_found_through_links(here: Path, tmp_path: Path) -> None:
    """`link/..` is the parent of where the link leads, as the kernel has it."""
    (tmp_path / "deep" / "folder").mkdir(parents=True)
    (here / "link").symlink_to(tmp_path / "deep" / "folder")
    ts.create("link/../run", SCALAR).close()
    assert (tmp_path / "deep" / "run" / "manifest.json").is_file()


def test_the_home_folder(backend: str, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the user's home and never a folder of that name; `./~` is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    ts.create("~/run", SCALAR, steps=2, backend=backend).close()
    assert ts.open("~/run").path == tmp_path / "run"
    assert not list(here.iterdir())
    ts.create("./~", SCALAR, steps=2, backend=backend).close()
    assert (here / "~" / "manifest.json").is_file()


def test_a_link_is_followed_and_stays(backend: str, tmp_path: Path) -> None:
    """A run is made, replaced and imported where a symbolic link leads."""
    (tmp_path / "scratch").mkdir()
    link = tmp_path / "out"
    link.symlink_to(tmp_path / "scratch")
    contracts.record(link, backend, stop=3)
    contracts.record(link, backend, overwrite=True)
    assert link.is_symlink()
    contracts.check_run(tmp_path / "scratch")
    exported = tmp_path / "real.safetensors"
    exported.write_bytes(b"old")
    (tmp_path / "link.safetensors").symlink_to(exported)
    ts.export_safetensors(link, tmp_path / "link.safetensors", overwrite=True)
    assert (tmp_path / "link.safetensors").is_symlink()
    assert exported.stat().st_size > 3


def test_a_run_that_is_open_stays_where_its_link_led(backend: str, tmp_path: Path) -> None:
    """`latest` may lead elsewhere by the next refresh."""
    for name, n_steps in (("a", 5), ("b", 7)):
        contracts.record(tmp_path / name, backend, stop=n_steps)
    link = tmp_path / "latest"
    link.symlink_to("a")
    with ts.open(link) as run:
        link.unlink()
        link.symlink_to("b")
        run.refresh()
        assert contracts.recorded_steps(run) == 5
        contracts.assert_prefix(run, 5)


def test_a_link_that_leads_nowhere(backend: str, tmp_path: Path) -> None:
    """A scratch file system that is not mounted: the error names link and target, and nothing is made."""
    link = tmp_path / "out"
    link.symlink_to(tmp_path / "gone" / "run")
    for overwrite in (False, True):
        with pytest.raises(RunExistsError, match=r"out: is a symbolic link to .*gone/run, where nothing is"):
            ts.create(link, SCALAR, steps=3, backend=backend, overwrite=overwrite)
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(StorageError, match="symbolic links"):
        ts.create(link, SCALAR, steps=3, backend=backend)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_name_that_no_file_system_takes(here: Path) -> None:
    """One of our errors, from whoever looks."""
    for name in ("x" * 256, "x" * 5000, "a/" + "é" * 128):
        for call in (lambda path: ts.create(path, SCALAR), ts.open, ts.repair):
            with pytest.raises(StorageError, match="File name too long; give it a shorter name"):
                call(name)
    assert not list(here.iterdir())


@pytest.mark.parametrize("length", [236, 255])
def test_the_longest_names(backend: str, length: int, tmp_path: Path) -> None:
    """What is built beside the run finds room for its own, longer name."""
    path = tmp_path / ("é" * 40 + "x" * (length - 80))
    contracts.record(path, backend, stop=3)
    contracts.record(path, backend, overwrite=True)
    contracts.check_run(path)
    assert [path.name] == [other.name for other in tmp_path.iterdir()]


def test_names_of_bytes(tmp_path: Path) -> None:
    """As Python's own `open` takes them."""
    ts.create(os.fsencode(tmp_path / "run"), SCALAR).close()
    assert ts.open(os.fsencode(tmp_path / "run")).path == tmp_path / "run"


def test_a_current_folder_that_is_gone(here: Path) -> None:
    """A sentence, and not pathlib's own error."""
    here.rmdir()
    with pytest.raises(StorageError, match="run: cannot find: No such file"):
        ts.create("run", SCALAR)
    os.chdir("/")
