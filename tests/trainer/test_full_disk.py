"""A disk that fills up at any moment of a training: one sentence, the line that goes on, and nothing is lost."""

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

import trajectory_store as ts
from tests.harness.contracts import BACKENDS, NoSync
from tests.harness.faulty_files import FailingDisk
from tests.harness.outcome import assert_same_run
from tests.trainer.conftest import set_options
from trajectory_store import files, recording

Call = Callable[..., Result]
Train = Callable[..., Result]


@pytest.fixture
def train(trainer: Call, data: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Trains on a given disk, sealing every four steps, as if the arguments had come from a shell."""
    monkeypatch.setattr(recording, "block_steps_for", lambda _series: 4)

    def call(disk: files.Disk, out: Path, *options: str) -> Result:
        settings = set_options(checkpoint_steps="0,6,15", checkpoint_every="4")
        arguments = ["run", "--preset", "thimble-9", "--data", str(data), "--out", str(out), *settings, *options]
        monkeypatch.setattr(sys, "argv", ["trainer", *arguments])
        monkeypatch.setattr(files, "disk", disk)
        return trainer(*arguments)

    return call


def assert_stopped(failed: Result, out: Path) -> bool:
    """One sentence, and where the run had begun the line that goes on with it; the steps before are recorded."""
    assert failed.exit_code == 2
    assert "Traceback" not in failed.stderr
    sentence, *rest = failed.stderr.splitlines()
    assert sentence.startswith("Error: ")
    assert sentence.endswith("No space left on device; make room and resume")
    if not rest:
        return False
    stopped_at = re.fullmatch(r"Stopped at step (\d+); what was recorded stays. Then go on with:", rest[1])
    assert stopped_at
    with ts.open(out / "trajectory") as run:
        assert len(run.steps) >= int(stopped_at[1])
    assert shlex.split(rest[2]) == [*sys.argv, "--resume"]
    return True


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "stride",
    [pytest.param(23, id="some", marks=pytest.mark.slow), pytest.param(1, id="every", marks=pytest.mark.long)],
)
def test_a_full_disk_and_then_room(backend: str, stride: int, train: Train, tmp_path: Path) -> None:
    """At any durable call: an error, then space, then the line it gave, and not a bit differs."""
    options = ("--export", "--backend", backend)
    counted = FailingDisk(10**9)
    whole = train(counted, tmp_path / "uninterrupted", *options)
    assert whole.exit_code == 0, whole.stderr
    n_begun = 0
    for fail_at in range(1, counted.n_calls + 1, stride):
        out = tmp_path / str(fail_at)
        is_begun = assert_stopped(train(FailingDisk(fail_at), out, *options), out)
        n_begun += is_begun
        assert train(NoSync(), out, *options, *(["--resume"] if is_begun else [])).exit_code == 0
        assert_same_run(tmp_path / "uninterrupted", out)
        assert not list(out.rglob("*.partial"))
    assert n_begun > counted.n_calls // stride // 2
    print(f"{counted.n_calls:,} durable calls")
