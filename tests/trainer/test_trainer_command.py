"""The command `trainer` beside PyPI's package of the same name: one sentence, whichever of the two Python finds."""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import trainer
import trainer_command

ROOT = Path(trainer_command.__file__).parent
OTHER = {"__init__.py": "raise RuntimeError('the other one ran')\n", "model.py": "", "trainer.py": "", "io.py": ""}
"""As much of PyPI's package as matters: its `__init__.py` runs code, and `model.py` has the name of one of ours."""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages with ours in it."""
    site = tmp_path / "site"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "trainer", site / "trainer", ignore=ignored)
    shutil.copy(ROOT / "trainer_command.py", site)
    return site


def install_other(folder: Path) -> None:
    """Put the other package's files into a folder, over what is there."""
    (folder / "trainer").mkdir(parents=True, exist_ok=True)
    for name, text in OTHER.items():
        (folder / "trainer" / name).write_text(text)


def installed_over(site: Path) -> None:
    """The other one came last."""
    install_other(site)


def installed_under(site: Path) -> None:
    """Ours came last."""
    install_other(site)
    shutil.copytree(ROOT / "trainer", site / "trainer", dirs_exist_ok=True)


def uninstalled(site: Path) -> None:
    """The other one was installed and then removed, and files of ours with it."""
    install_other(site)
    for name in OTHER:
        (site / "trainer" / name).unlink()


def removed(site: Path) -> None:
    """No file of ours is left but the door."""
    shutil.rmtree(site / "trainer")


def run(folders: list[Path], *command: str) -> subprocess.CompletedProcess[str]:
    """A Python that finds packages in these folders first, and the store and what it needs after them."""
    path = os.pathsep.join(map(str, [*folders, *sys.path]))
    environment = os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, env=environment)


def test_alone_it_is_the_command(site: Path) -> None:
    """It passes the arguments on, and the exit code back."""
    found = run([site], "-m", "trainer_command", "presets")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("demo\n")

    assert run([site], "-m", "trainer_command", "presets", "--no").returncode == 2


@pytest.mark.parametrize("accident", [installed_over, installed_under, uninstalled, removed])
def test_the_other_in_the_same_folder(site: Path, accident: Callable[[Path], None]) -> None:
    """Whichever came last, and also after the other was removed: what is wrong, where, and the remedy."""
    accident(site)

    found = run([site], "-m", "trainer_command", "presets")

    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith(f"Error: {site / 'trainer'}: another package `trainer` was installed")
    assert "install trajectory-store again, in an environment that has no other package `trainer`" in found.stderr
    assert found.stderr.count("\n") == 1


def test_the_other_in_a_folder_before_ours(site: Path, tmp_path: Path) -> None:
    """It is named, and not one line of it runs."""
    install_other(tmp_path / "before")

    found = run([tmp_path / "before", site], "-m", "trainer_command", "presets")

    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith(f"Error: {tmp_path / 'before' / 'trainer' / '__init__.py'}: another package")
    assert found.stderr.count("\n") == 1


def test_a_module_of_that_name_before_ours(site: Path, tmp_path: Path) -> None:
    """A `trainer.py` of the user's own hides the package too."""
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "trainer.py").write_text(OTHER["__init__.py"])

    found = run([tmp_path / "before", site], "-m", "trainer_command", "presets")

    assert found.returncode == 2
    assert found.stderr.startswith(f"Error: {tmp_path / 'before' / 'trainer.py'}: another package `trainer` hides")


@pytest.mark.parametrize("command", [["-m", "trainer", "presets"], ["-c", "import trainer"]])
def test_a_mixed_package_is_not_imported(site: Path, command: list[str]) -> None:
    """Without the command too, where our own `__init__.py` came last."""
    installed_under(site)

    found = run([site], *command)

    assert found.returncode == 1
    assert f"{site / 'trainer'}: another package `trainer` was installed into the same folder" in found.stderr
    assert len(found.stderr.splitlines()) == 1 or "-c" in command


def test_an_error_of_our_own_is_not_taken_for_a_clash(site: Path) -> None:
    """A package that the trainer needs and that is missing is another sentence."""
    (site / "trainer" / "cli.py").write_text("import no_such_package\n")

    assert "No module named 'no_such_package'" in run([site], "-m", "trainer_command").stderr


def test_the_wheel_has_the_command_and_its_door() -> None:
    """The script points outside of the package, to a module that is installed with it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    assert project["project"]["scripts"]["trainer"] == "trainer_command:main"
    assert project["tool"]["setuptools"]["py-modules"] == ["trainer_command"]
    assert Path(trainer.__file__).parent == ROOT / "trainer"
