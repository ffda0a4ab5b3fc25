"""Trainings that are killed, at known moments and at random ones, and resumed by processes that are killed too."""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

import trajectory_store as ts
from tests.harness import dying_trainer
from tests.harness.contracts import BACKENDS
from tests.harness.outcome import assert_same_run
from tests.trainer.conftest import VOCAB_SIZE, set_options
from trainer.prepare import prepare

pytestmark = pytest.mark.slow

STEPS = 100
EXPORTED = "thimble_9_trajectory.safetensors"

MOMENTS: dict[str, dict[str, tuple[str, int]]] = {
    "zarr": {
        "while the run is made": (r"write .*\.trajectory\.\w+\.partial/", 4),
        "as the run is put in place": (r"rename .*/trajectory$", 1),
        "while a step is appended": (r"write .*/journal/", 40),
        "while a block is written": (r"write .*/W/c/", 3),
        "as a block is put in place": (r"rename .*/W/c/", 5),
        "between the blocks and the manifest": (r"rename .*/trajectory/zarr.json$", 2),
        "as the manifest commits": (r"rename .*/trajectory/manifest.json$", 2),
        # Which of the two depends on whether sealing keeps pace: a segment is removed if there is a spare already.
        "as a segment is removed or kept": (r"unlink .*/journal/\d|rename .*/journal/\.spare$", 3),
    },
    "memmap": {
        "while the run is made": (r"write .*\.trajectory\.\w+\.partial/", 2),
        "as the run is put in place": (r"rename .*/trajectory$", 1),
        "while a row is written": (r"write .*/trajectory/frames.safetensors", 41),
        "while a step is committed": (r"write .*/trajectory/commits", 41),
        "as the manifest commits": (r"rename .*/trajectory/manifest.json$", 1),
    },
    "both": {
        "while a checkpoint is written": (r"write .*/checkpoints/", 3),
        "as a checkpoint is put in place": (r"rename .*/checkpoints/", 4),
        "as an older checkpoint is removed": (r"unlink .*/rolling_step", 2),
        "as the export's space is reserved": (r"allocate .*\.thimble_9_trajectory", 1),
        "while the export is written": (r"write .*\.thimble_9_trajectory", 2),
        "as the export is put in place": (r"rename .*/thimble_9_trajectory", 1),
        "after the export": (r"sync_folder .*/out$", 2),
        "while the metadata is written": (r"write .*/\.metadata.json", 1),
    },
}
"""Where a training can be hit: a kind of durable call as dying_trainer.py reads it, and which of its calls."""


def arguments(
    data: Path, out: Path, backend: str, *, overwrite: bool = False, checkpoint_steps: str = f"0,50,{STEPS}"
) -> list[str]:
    """A tiny training with a checkpoint every 15 steps and an export; resumed where there is one."""
    settings = set_options(total_steps=STEPS, checkpoint_steps=checkpoint_steps, checkpoint_every="15")
    options = ["--data", str(data), "--out", str(out), "--backend", backend, "--export", *settings]
    if out.exists():
        options.append("--overwrite" if overwrite else "--resume")
    return ["run", "--preset", "thimble-9", *options]


def start(command: Sequence[str], *, call: str = "^$", n: int = 0) -> subprocess.Popen[bytes]:
    """A training in a process, which kills itself at its `n`-th durable call of a kind."""
    program = [sys.executable, dying_trainer.__file__, call, str(n), *command]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[bytes]) -> bool:
    """Wait for the end of a process; whether it was killed. It may not end in any other way but well."""
    output = process.communicate()[0]
    assert process.returncode in (0, -signal.SIGKILL), output.decode()
    return process.returncode != 0


def recorded_steps(out: Path) -> int:
    """How many steps are recorded."""
    try:
        with ts.open(out / "trajectory") as run:
            return len(run.steps)
    except ts.errors.RunNotFoundError:
        return 0


def assert_nothing_lost(whole: Path, out: Path, n_before: int) -> int:
    """After a kill no step is gone, what is there is right, an export is whole; returns how many steps there are."""
    n_steps = recorded_steps(out)
    assert n_before <= n_steps <= STEPS + 1
    if n_steps:
        assert {"torn"} >= {finding.kind for finding in ts.check(out / "trajectory")}
        with ts.open(out / "trajectory") as run, ts.open(whole / "trajectory") as expected:
            for name in run:
                assert (expected[name].bits[:n_steps] == run[name].bits[...]).all()
    if (out / EXPORTED).exists():
        assert (whole / EXPORTED).read_bytes() == (out / EXPORTED).read_bytes()
    return n_steps


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend in turn."""
    return str(request.param)


@pytest.fixture(scope="module")
def whole(data: Path, backend: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training, left alone."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert not finish(start(arguments(data, out, backend)))
    return out


def kill_at(call: str, n: int, whole: Path, data: Path, out: Path, backend: str) -> int:
    """Train and be killed at a call, resume and be killed twice more, then resume to the end; returns the kills."""
    chance = random.Random(call)
    assert finish(start(arguments(data, out, backend), call=call, n=n)), call
    n_kills, n_steps = 1, assert_nothing_lost(whole, out, 0)
    for of_resume, latest in ((".", 12), (call, 2)):  # in the recovery, then where it was killed before
        n_kills += finish(start(arguments(data, out, backend), call=of_resume, n=chance.randint(1, latest)))
        n_steps = assert_nothing_lost(whole, out, n_steps)
    assert not finish(start(arguments(data, out, backend)))
    assert_same_run(whole, out)
    assert not list(out.rglob("*.partial"))
    return n_kills


@pytest.mark.slow
def test_killed_as_the_manifest_commits(tmp_path: Path, data: Path, backend: str, whole: Path) -> None:
    """Of a seal, or of the whole run; and again while that is recovered."""
    assert kill_at(*MOMENTS[backend]["as the manifest commits"], whole, data, tmp_path / "out", backend) >= 2


@pytest.mark.long
def test_killed_at_known_moments(tmp_path: Path, data: Path, backend: str, whole: Path) -> None:
    """While it is made, appends, seals, saves, exports, ends; and the resumes of all that too."""
    moments = MOMENTS[backend] | MOMENTS["both"]
    n_kills = 0
    for number, (moment, (call, n)) in enumerate(moments.items()):
        n_kills += kill_at(call, n, whole, data, tmp_path / str(number) / "out", backend)
        print(f"{moment}: {n_kills} kills so far")
    assert n_kills >= 2 * len(moments)


@pytest.mark.long
def test_killed_at_random_moments(tmp_path: Path, data: Path, backend: str, whole: Path) -> None:
    """By the clock, wherever that hits: while it starts, trains, seals, saves, exports or recovers."""
    chance = random.Random(backend)
    n_kills, n_runs = 0, 0
    while n_kills < 30:
        out, n_steps = tmp_path / str(n_runs) / "out", 0
        is_done = False
        while not is_done:
            process = start(arguments(data, out, backend))
            until = n_steps + chance.randrange(40)
            while process.poll() is None and recorded_steps(out) < until:
                time.sleep(0.002)
            time.sleep(chance.random() * 0.05)
            process.kill()
            is_done = not finish(process)
            n_kills += not is_done
            n_steps = assert_nothing_lost(whole, out, n_steps)
        assert_same_run(whole, out)
        n_runs += 1
    print(f"{n_kills} kills of {n_runs} runs")


@pytest.fixture
def other_data(texts: SimpleNamespace, tmp_path: Path) -> Path:
    """Data to which the same configuration fits."""
    corpus = tmp_path / "other.txt"
    corpus.write_text(texts.corpus.read_text()[::-1])
    prepare(tmp_path / "other", corpus_file=corpus, tokenizer_corpus_files=[texts.tokenizer], vocab_size=VOCAB_SIZE)
    return tmp_path / "other"


@pytest.mark.slow
def test_an_overwrite_that_was_killed_takes_nothing_of_the_old_run(
    tmp_path: Path, data: Path, other_data: Path, backend: str, whole: Path
) -> None:
    """Its checkpoints are still there, of the same configuration, and one of a step that the new run will have."""
    out = tmp_path / "out"
    assert not finish(start(arguments(other_data, out, backend, checkpoint_steps="40")))
    command = arguments(data, out, backend, overwrite=True)

    assert finish(start(command, call=r"unlink .*/checkpoints/", n=1))
    assert finish(start(arguments(data, out, backend), call=r"create .*/checkpoints/.*_00045", n=1))

    assert_nothing_lost(whole, out, 46)
    assert not finish(start(arguments(data, out, backend)))
    assert_same_run(whole, out)


@pytest.mark.slow
def test_an_overwrite_that_was_killed_between_its_renames(
    tmp_path: Path, data: Path, backend: str, whole: Path
) -> None:
    """A resume says where the old run is and touches nothing; an overwrite goes through."""
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    command = arguments(data, out, backend, overwrite=True)
    assert finish(start(command, call="rename .*/trajectory$", n=1))
    (aside,) = out.glob(".trajectory.*.replaced")

    resumed = start(arguments(data, out, backend))

    assert f"left the run as {aside.name} beside it; rename that back" in resumed.communicate()[0].decode()
    assert resumed.returncode == 2
    assert not finish(start(command))
    assert_same_run(whole, out)
    assert not aside.exists()
