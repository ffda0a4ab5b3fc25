"""Both commands end alike: they share one group, so what holds for one holds for the other."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import trainer.cli
import trajectory_store.cli
from trajectory_store.errors import UsageError

ROOT = Path(trainer.cli.__file__).parents[1]
GROUPS = {"trainer": trainer.cli.main, "trajectory-store": trajectory_store.cli.main}
OUTPUT = {"trainer": ["presets"], "trajectory-store": ["info", "--help"]}

ENDINGS = {
    "an error of ours": (UsageError("this is wrong"), 2, "Error: this is wrong\n"),
    "an error of a file": (FileNotFoundError(2, "No such file", "a/b"), 2, "Error: a/b: No such file\n"),
    "an error of the system": (OSError("no luck"), 2, "Error: no luck\n"),
    "text that a terminal obeys": (UsageError("a\x1b[2Jb\nc"), 2, "Error: a\\x1b[2Jb\\nc\n"),
    "no memory": (MemoryError(), 2, "Error: there is not enough memory; "),
    "Ctrl-C": (KeyboardInterrupt(), 128 + signal.SIGINT, "Interrupted.\n"),
}


@pytest.fixture(params=GROUPS, ids=str)
def group(request: pytest.FixtureRequest) -> Iterator[click.Group]:
    """A command with one more command below it, `fail`."""
    group = GROUPS[request.param]
    yield group
    group.commands.pop("fail", None)


@pytest.mark.parametrize(("error", "code", "sentence"), ENDINGS.values(), ids=ENDINGS)
def test_what_is_raised_is_one_sentence(group: click.Group, error: BaseException, code: int, sentence: str) -> None:
    """On standard error, with its exit code, and without a traceback."""

    def fail() -> None:
        raise error

    group.add_command(click.Command("fail", callback=fail))

    result = CliRunner().invoke(group, ["fail"])

    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.lstrip("\n").startswith(sentence)
    assert result.stderr.lstrip("\n").count("\n") == 1


def test_an_error_of_the_program_stays_one(group: click.Group) -> None:
    """What is nobody's mistake is not dressed up as one."""

    def fail() -> None:
        raise ZeroDivisionError

    group.add_command(click.Command("fail", callback=fail))

    assert isinstance(CliRunner().invoke(group, ["fail"]).exception, ZeroDivisionError)


@pytest.mark.parametrize("program", GROUPS)
def test_a_reader_that_goes_away_is_no_error(program: str) -> None:
    """As in `| head -c 5`: not a word, and the exit code that shells give."""
    module = "trainer.cli" if program == "trainer" else "trajectory_store.cli"
    command = [sys.executable, "-c", f"from {module} import main\nmain()", *OUTPUT[program]]
    read, write = os.pipe()
    os.close(read)

    found = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    os.close(write)

    assert (found.stderr, found.returncode) == (b"", 128 + signal.SIGPIPE)


def test_wrong_use_and_the_version_are_alike(group: click.Group) -> None:
    """Usage errors end with 2, and both print the version of the one distribution."""
    assert CliRunner().invoke(group, ["no-such-command"]).exit_code == 2
    assert CliRunner().invoke(group, ["--version"]).output.endswith(f"version {trajectory_store.__version__}\n")
