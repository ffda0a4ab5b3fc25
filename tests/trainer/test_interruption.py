"""Signals sent to a real process: Ctrl-C and SIGTERM end cleanly, SIGKILL loses nothing that was recorded."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import trajectory_store as ts
from tests.harness.outcome import assert_same_run
from tests.trainer.conftest import set_options
from trainer.checkpoint import checkpoints, read_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.slow]
STEPS = 400


def command(data: Path, out: Path) -> list[str]:
    """A tiny training long enough to be met in the middle."""
    settings = set_options(total_steps=STEPS, checkpoint_steps=f"0,{STEPS}", checkpoint_every="20")
    program = [sys.executable, "-m", "trainer", "run", "--preset", "thimble-9"]
    return [*program, "--data", str(data), "--out", str(out), *settings]


def recorded_steps(out: Path) -> int:
    """How many steps another process has recorded so far."""
    try:
        with ts.open(out / "trajectory") as run:
            return len(run.steps)
    except ts.errors.NotFoundError:
        return 0


def start(arguments: list[str], out: Path, steps: int) -> subprocess.Popen[str]:
    """The training in a process, once it has recorded `steps`."""
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while recorded_steps(out) < steps:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, left alone."""
    out = tmp_path_factory.mktemp("uninterrupted") / "out"
    subprocess.run(command(data, out), check=True, capture_output=True)
    return out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_that_its_last_line_resumes(
    tmp_path: Path, data: Path, uninterrupted: Path, number: signal.Signals, code: int
) -> None:
    """The step is finished, flushed and checkpointed; the printed command goes on to the same bits."""
    process = start(command(data, tmp_path / "out"), tmp_path / "out", steps=30)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)

    assert process.returncode == code
    assert "Traceback" not in errors
    stopped_at = recorded_steps(tmp_path / "out") - 1
    assert f"Stopped after step {stopped_at};" in output
    assert read_checkpoint(checkpoints(tmp_path / "out" / "checkpoints")[-1].path)["step"] == stopped_at
    resuming = shlex.split(output.strip().splitlines()[-1])
    assert resuming[:4] == ["python", "-m", "trainer", "run"]
    resumed = subprocess.run([sys.executable, *resuming[1:]], capture_output=True, text=True, check=False)
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert f"Resuming after step {stopped_at}" in resumed.stdout
    assert_same_run(uninterrupted, tmp_path / "out")


@pytest.mark.parametrize("steps", [1, 57, 230])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path, data: Path, uninterrupted: Path, steps: int) -> None:
    """SIGKILL at a moment after so many steps: what was recorded is there, and resume ends as if nothing had been."""
    process = start(command(data, tmp_path / "out"), tmp_path / "out", steps)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert recorded_steps(tmp_path / "out") >= steps

    resumed = subprocess.run(
        [*command(data, tmp_path / "out"), "--resume"], capture_output=True, text=True, check=False
    )

    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert_same_run(uninterrupted, tmp_path / "out")
