"""Real processes, killed at random moments, and read while they write."""

import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import trajectory_store as ts
from tests.harness import recorder
from tests.harness.contracts import bits
from trajectory_store.errors import RunLockedError, RunNotFoundError

SHAPE = (600, 32)
BLOCK_STEPS = 16


def start(folder: Path, backend: str, n_steps: int, pause_s: float = 0) -> subprocess.Popen:
    """A process that records, or goes on recording, a run."""
    shape = "x".join(map(str, SHAPE))
    arguments = [folder / "run", backend, n_steps, shape, BLOCK_STEPS, folder / "acknowledged", pause_s]
    return subprocess.Popen(
        [sys.executable, recorder.__file__, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def acknowledged(folder: Path) -> int:
    """The last step whose `append` returned in the other process, −1 before there was one."""
    try:
        return struct.unpack("<q", (folder / "acknowledged").read_bytes())[0]
    except (FileNotFoundError, struct.error):
        return -1


def assert_equal(run: ts.Run, n_steps: int) -> None:
    """Every value of every step is the one that was recorded."""
    assert list(range(n_steps)) == run.steps.tolist()
    for steps, block in run["W"].bits.blocks():
        for step, row in zip(steps.tolist(), block, strict=True):
            assert bits(recorder.row(step, SHAPE)) == bits(row)
    assert bits(np.arange(n_steps, dtype=np.float32) / 4) == bits(run["loss"][...])
    assert bits(run["m"][:, 0]) == bits(np.arange(0, n_steps, 5, dtype=np.float32))


@pytest.mark.parametrize(
    "n_kills",
    [pytest.param(5, marks=pytest.mark.slow, id="few"), pytest.param(120, marks=pytest.mark.long, id="many")],
)
def test_sigkill_at_random_moments(backend: str, n_kills: int, tmp_path: Path) -> None:
    """Killed while it creates, appends, seals, flushes, recovers and closes: no acknowledged step is ever missing."""
    chance = random.Random(n_kills)
    n_steps, n_done, n_killed, n_finished = 400, -1, 0, 0
    while n_killed < n_kills:
        folder = tmp_path / str(n_finished)
        folder.mkdir(exist_ok=True)
        process = start(folder, backend, n_steps)
        until, deadline = n_done + chance.randrange(1, 60), time.monotonic() + 60
        while process.poll() is None and acknowledged(folder) < until and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        output = process.communicate()[0]
        assert process.returncode in (-signal.SIGKILL, 0), output
        n_killed += process.returncode != 0
        n_done = acknowledged(folder)
        if not (folder / "run").exists():
            assert n_done < 0
            continue
        assert {finding.kind for finding in ts.check(folder / "run")} <= {"torn"}
        with ts.open(folder / "run") as run:
            n_recorded = len(run.steps)
            assert n_done + 1 <= n_recorded <= n_done + 2
            if n_recorded:
                assert bits(recorder.row(n_recorded - 1, SHAPE)) == bits(run["W"].bits[n_recorded - 1])
        if n_recorded == n_steps:
            assert_finished(folder, backend, n_steps)
            n_finished, n_done = n_finished + 1, -1
    assert_finished(folder, backend, n_steps)


def assert_finished(folder: Path, backend: str, n_steps: int) -> None:
    """Left alone, the recording comes to its end; the result is the uninterrupted one."""
    process = start(folder, backend, n_steps)
    output = process.communicate(timeout=300)[0]
    assert output == b"done\n", output
    assert list(ts.check(folder / "run")) == []
    with ts.open(folder / "run") as run:
        assert_equal(run, n_steps)


@pytest.mark.parametrize(
    ("n_steps", "pause_s"),
    [
        pytest.param(400, 0.0, marks=pytest.mark.slow, id="few"),
        pytest.param(12_000, 0.01, marks=pytest.mark.long, id="many"),
    ],
)
def test_a_reader_follows_a_run_that_is_written(backend: str, n_steps: int, pause_s: float, tmp_path: Path) -> None:
    """Every refresh shows a prefix that never shrinks, has every acknowledged step, and reads right."""
    process = start(tmp_path, backend, n_steps, pause_s)
    chance = random.Random(n_steps)
    n_refreshes, n_seen, n_read = 0, 0, 0
    while True:
        try:
            run = ts.open(tmp_path / "run")
            break
        except RunNotFoundError:
            assert process.poll() is None
    with run:
        while n_seen < n_steps:
            is_running, promised = process.poll() is None, acknowledged(tmp_path) + 1
            run.refresh()
            n_refreshes += 1
            n_now = len(run.steps)
            assert n_seen <= n_now <= n_steps
            assert promised <= n_now
            assert is_running or n_now == n_steps, process.communicate()[0]
            for step in {n_now - 1, chance.randrange(n_now)} if n_now else ():
                assert bits(recorder.row(step, SHAPE)) == bits(run["W"].bits[step])
                assert run["loss"][step] == step / 4
                n_read += 1
            if n_now > 5:
                sparse = chance.randrange(len(run["m"]))
                assert run["m"][sparse, 0] == 5 * sparse
            n_seen = n_now
            if n_refreshes % 50 == 0:
                with ts.open(tmp_path / "run") as other:
                    assert n_seen <= len(other.steps)
            if n_refreshes % 200 == 0 and is_running:
                assert list(ts.check(tmp_path / "run")) == []
    assert process.communicate(timeout=60)[0] == b"done\n"
    print(f"{n_refreshes:,} refreshes, {n_read:,} reads")
    assert n_refreshes > 20


@pytest.mark.slow
def test_a_second_writer_gets_one_sentence(backend: str, tmp_path: Path) -> None:
    """Another process writes the run: it says which one."""
    process = start(tmp_path, backend, 100_000)
    while acknowledged(tmp_path) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    try:
        with pytest.raises(RunLockedError, match=f"another process writes this run \\(process {process.pid} on "):
            ts.resume(tmp_path / "run")
        with pytest.raises(RunLockedError, match=f"another process writes this run \\(process {process.pid} on "):
            ts.create(tmp_path / "run", recorder.series(SHAPE), overwrite=True)
    finally:
        process.kill()
        process.communicate()
    ts.resume(tmp_path / "run").close()


def test_a_forked_worker_does_not_keep_the_lock(backend: str, tmp_path: Path) -> None:
    """A data loader's worker that outlives its parent leaves the run free to be resumed."""
    script = f"""
import os, sys, time
import recorder, trajectory_store as ts
sink = ts.create({str(tmp_path / "run")!r}, recorder.series((3, 2)), steps=9, backend={backend!r})
sink.append(0, **recorder.frame(0, (3, 2)))
if os.fork() == 0:
    print("worker", flush=True)
    time.sleep(3)
os.kill(os.getpid(), 9)
"""
    folder = Path(recorder.__file__).parent
    process = subprocess.Popen([sys.executable, "-c", script], cwd=folder, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        process.wait()
        with ts.resume(tmp_path / "run") as sink:
            assert sink.next_step == 1
