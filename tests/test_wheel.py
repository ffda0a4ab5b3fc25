"""The wheel, installed without any extra: a user's types are checked, a user's script runs, the commands answer.

The new environment sees what the package depends on, and what that depends on, through links to this environment:
nothing is downloaded, and torch, xarray and all else that is optional is not there.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
USER = ROOT / "tests" / "harness" / "typed_user.py"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path) -> str:
    """What a command prints; it must end well, and sees no PYTHONPATH."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(c) for c in command], check=False, capture_output=True, text=True, cwd=cwd, env=environment
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def needed() -> dict[str, Distribution]:
    """The package's own dependencies, without extras, and theirs, by name."""
    found: dict[str, Distribution] = {}
    waiting = list(PROJECT["dependencies"])
    while waiting:
        requirement = Requirement(waiting.pop())
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found[name] = distribution(name)
        waiting += found[name].requires or []
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing that lies in build/ or is not committed gets into it."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", "trainer_command.py"):
        shutil.copy(ROOT / name, source)
    for package in ("trajectory_store", "trainer"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", source / "dist", source, cwd=source)
    (made,) = (source / "dist").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel, its dependencies, and nothing else: where its commands are."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, with_pip=False)
    (packages,) = environment.glob("lib/python*/site-packages")
    for one in needed().values():
        for top in {file.parts[0] for file in one.files or ()} - {"..", "__pycache__"}:
            (packages / top).symlink_to(Path(str(one.locate_file(top))))
    python = environment / "bin" / "python"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        "--quiet",
        wheel,
        cwd=packages,
    )
    return python.parent


def test_a_users_types_are_checked(bin_folder: Path, tmp_path: Path) -> None:
    """mypy, strict, finds every type in the wheel, and refuses what a user must not write."""
    shutil.copy(USER, tmp_path)
    options = ("--strict", "--warn-unused-ignores", "--no-incremental", "--python-executable", bin_folder / "python")

    assert "Success" in run(sys.executable, "-m", "mypy", *options, USER.name, cwd=tmp_path)


def test_a_users_script_runs(bin_folder: Path, tmp_path: Path) -> None:
    """With the base installation alone."""
    run(bin_folder / "python", "-W", "error", USER, tmp_path, cwd=tmp_path)


def test_the_commands_answer(bin_folder: Path, tmp_path: Path) -> None:
    """Help, version, and a run sliced, exported, compared and reported from the shell."""
    store = bin_folder / "trajectory-store"
    version = run(
        bin_folder / "python", "-c", "import trajectory_store as ts; print(ts.__version__)", cwd=tmp_path
    ).strip()
    run(bin_folder / "python", USER, tmp_path, cwd=tmp_path)

    assert "Usage: trajectory-store" in run(store, "--help", cwd=tmp_path)
    assert run(store, "--version", cwd=tmp_path).strip().endswith(f" {version}")
    assert run(bin_folder / "trainer", "--version", cwd=tmp_path).strip().endswith(f" {version}")
    assert "--preset" in run(bin_folder / "trainer", "run", "--help", cwd=tmp_path)
    run(store, "slice", "a", "W", "3:9, [1, 5]", "-o", "part.npy", cwd=tmp_path)
    run(store, "export", "a", "out.safetensors", cwd=tmp_path)
    run(store, "compare", "a", "out.safetensors", cwd=tmp_path)
    run(store, "report", "a", cwd=tmp_path)
    page = (tmp_path / "report.html").read_text()
    for name in ("page.js", "page.css", "chart.css"):
        assert (ROOT / "trajectory_store" / "report" / name).read_text() in page
    assert (tmp_path / "part.npy").stat().st_size > 6 * 2 * 4 * 2


def test_the_wheel_says_what_it_is(wheel: Path, bin_folder: Path) -> None:
    """The version in its name, the types in its metadata, and in it what .ci/package expects."""
    (packages,) = bin_folder.parent.glob("lib/python*/site-packages")
    (about,) = packages.glob("trajectory_store-*.dist-info/METADATA")
    metadata = about.read_text()
    version = re.search(r"^Version: (.+)$", metadata, re.M)

    assert version is not None
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    expected = re.search(r"--toplevel (\S+)", (ROOT / ".ci" / "package").read_text())
    assert expected is not None
    assert sorted(tops - {about.parent.name}) == expected[1].split(",")
    assert wheel.name.startswith(f"trajectory_store-{version[1]}-")
    assert (packages / "trajectory_store" / "py.typed").is_file()
    assert (packages / "trainer" / "py.typed").is_file()
    assert "Classifier: Typing :: Typed" in metadata
