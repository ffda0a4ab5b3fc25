"""A forked child: it reads what its parent reads, and never touches what its parent writes."""

import contextlib
import copy
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trajectory_store as ts
from trajectory_store.backends.writer_lock import WriterLock
from trajectory_store.blocks.block_file import BlockFile
from trajectory_store.errors import UsageError
from trajectory_store.journal.writer import JournalWriter

SERIES = {"x": ts.Series((4,), "float32")}
STEPS = 40


def row(step: int) -> np.ndarray:
    return np.full(4, step, np.float32)


def begin(path: Path, backend: str, stop: int = 20) -> Any:
    sink = ts.create(path, SERIES, steps=STEPS, block_steps=8, backend=backend)
    for step in range(stop):
        sink.append(step, x=row(step))
    return sink


def in_a_child(work: Callable[[], Any], *, within_s: float = 30) -> str:
    """What a forked child says of some work: "done", or its error; fails if the child hangs."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = "nothing"
        try:
            work()
            said = "done"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(writer, said.encode())
            os._exit(0)
    os.close(writer)
    stop = time.monotonic() + within_s
    try:
        while os.waitpid(child, os.WNOHANG)[0] == 0:
            if time.monotonic() > stop:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                pytest.fail("the child hangs")
            time.sleep(0.005)
        return os.read(reader, 1 << 16).decode()
    finally:
        os.close(reader)


def leave(sink: Any) -> None:
    with sink:
        pass


USES: dict[str, Callable[[Any], Any]] = {
    "append": lambda sink: sink.append(20, x=row(999)),
    "flush": lambda sink: sink.flush(),
    "close": lambda sink: sink.close(),
    "with": leave,
}


@pytest.mark.parametrize("is_replaying", [False, True], ids=["recording", "replaying"])
def test_a_child_does_not_use_its_parents_sink(backend: str, is_replaying: bool, tmp_path: Path) -> None:
    """One clear error for each use, whatever the parent does meanwhile, and the parent's run is whole."""
    path = tmp_path / "run"
    sink = begin(path, backend)
    if is_replaying:
        sink.close()
        sink = ts.resume(path, from_step=10)
    first = sink.next_step
    for name, use in USES.items():
        said = in_a_child(lambda use=use: use(sink))
        assert said.startswith(f"ForkedSinkError: {path}: this sink belongs to process {os.getpid()}"), (name, said)
    for step in range(first, STEPS):
        sink.append(step, x=row(step))
        if step % 7 == 0:
            assert "ForkedSinkError" in in_a_child(lambda step=step: sink.append(step + 1, x=row(999)))
    sink.close()
    assert in_a_child(sink.close) == "done"
    with ts.open(path) as run:
        assert run["x"][:, 0].tolist() == list(range(STEPS))
    assert not list(ts.check(path))


def test_a_childs_end_changes_nothing(backend: str, tmp_path: Path) -> None:
    """Collected, left behind by `sys.exit` in a `with` block, or at the child's end: the parent goes on."""
    sink = begin(tmp_path / "run", backend)

    def collected() -> None:
        nonlocal sink
        sink = None
        gc.collect()

    def exits() -> None:
        with sink:
            sys.exit(3)

    assert in_a_child(collected) == "done"
    assert in_a_child(exits) == "SystemExit: 3"
    with pytest.raises(ts.errors.RunLockedError):
        ts.resume(tmp_path / "run")
    for step in range(20, STEPS):
        sink.append(step, x=row(step))
    sink.close()
    assert not list(ts.check(tmp_path / "run"))


def test_a_child_of_a_dead_parent_does_not_keep_the_lock(backend: str, tmp_path: Path) -> None:
    """A data loader's worker that outlives the training: the run can be resumed at once."""
    script = """
import os, sys, time, numpy as np, trajectory_store as ts
sink = ts.create(sys.argv[1], {"x": ts.Series((4,), "float32")}, steps=40, block_steps=8, backend=sys.argv[2])
for step in range(20):
    sink.append(step, x=np.full(4, step, np.float32))
if os.fork() == 0:
    print("forked", flush=True)
    time.sleep(60)
    os._exit(0)
time.sleep(0.2)
os.kill(os.getpid(), 9)
"""
    with subprocess.Popen([sys.executable, "-c", script, tmp_path / "run", backend], stdout=subprocess.PIPE) as dead:
        assert dead.stdout is not None
        assert dead.stdout.readline() == b"forked\n"
        os.waitpid(dead.pid, 0)
        with ts.resume(tmp_path / "run") as sink:
            assert sink.next_step == 20
        dead.returncode = -9


def test_what_owns_files_is_not_copied(backend: str, tmp_path: Path) -> None:
    """Pickled, copied or deep-copied it is refused: its file numbers are other files elsewhere."""
    sink = begin(tmp_path / "run", backend)
    owners: list[Any] = [sink, WriterLock(tmp_path)]
    if backend == "zarr":
        owners += [sink._journal, sink._sealer, sink._journal.spare]
    sink.close()
    replaying = ts.resume(tmp_path / "run", from_step=3)
    owners.append(replaying)
    for owner in owners:
        for copied in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(UsageError, match="cannot be pickled or copied, because it owns open files"):
                copied(owner)
    replaying.close()
    owners[1].release()
    run = ts.open(tmp_path / "run")
    for again in (pickle.loads(pickle.dumps(run)), copy.copy(run), copy.deepcopy(run)):
        assert again["x"][3].tolist() == row(3).tolist()
        again.close()
    run.close()
    memory = pickle.loads(pickle.dumps(ts.MemorySink(SERIES, STEPS)))
    memory.append(0, x=row(0))


@pytest.mark.leaks  # what was sent stays open for the next that is sent
def test_a_child_reads_while_threads_of_its_parent_read(backend: str, tmp_path: Path) -> None:
    """No lock of ours is held for ever in a child: neither of a run, nor of the memory, nor of what is sent to it."""
    path = tmp_path / "run"
    series = {"W": ts.Series((200, 16), "float32")}
    with ts.create(path, series, steps=100, block_steps=32, backend=backend) as sink:
        for step in range(100):
            sink.append(step, W=np.full((200, 16), step, np.float32))
    run = ts.open(path)
    sent = pickle.dumps(run["W"])
    stop = threading.Event()

    def read() -> None:
        chance = np.random.default_rng()
        while not stop.is_set():
            run["W"][chance.integers(0, 100, 5)]
            pickle.loads(sent)[chance.integers(0, 100)]

    def in_child() -> None:
        assert (run["W"][...][:, 0, 0] == np.arange(100)).all()
        assert pickle.loads(sent)[7][0, 0] == 7

    interval_s = sys.getswitchinterval()
    threads = [threading.Thread(target=read) for _ in range(3)]
    try:
        sys.setswitchinterval(1e-5)
        for thread in threads:
            thread.start()
        for _ in range(15):
            run = ts.open(path)  # its tiles are cold
            assert in_a_child(in_child) == "done"
    finally:
        sys.setswitchinterval(interval_s)
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", ["deleted", "raised", "in a circle", "while a seal runs"])
def test_a_dropped_sink_lets_go_of_its_run(
    backend: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a process that dies: nothing is ended, every frame is there, and this process can open the run again."""
    path = tmp_path / "run"
    sink: Any = begin(path, backend, stop=15)
    if how == "raised":

        def train(sink: Any) -> None:
            raise RuntimeError(f"loss is NaN at step {sink.next_step}")

        with contextlib.suppress(RuntimeError):
            train(sink)
    if how == "in a circle":
        circle: list[Any] = [sink]
        circle.append(circle)
        del circle
    if how == "while a seal runs":
        store = ts.backends.manifest.Manifest.store

        def slowly(*arguments: Any, **options: Any) -> None:
            time.sleep(0.3)
            store(*arguments, **options)

        monkeypatch.setattr(ts.backends.manifest.Manifest, "store", slowly)
        sink.append(15, x=row(15))
    n_steps = sink.next_step
    gc.disable()
    try:
        del sink
        with ts.resume(path) as resumed:
            assert resumed.next_step == n_steps
            for step in range(n_steps, STEPS):
                resumed.append(step, x=row(step))
    finally:
        gc.enable()
    with ts.open(path) as run:
        assert run["x"][:, 0].tolist() == list(range(STEPS))
    assert not list(ts.check(path))


def test_a_resume_that_fails_lets_go(backend: str, tmp_path: Path) -> None:
    """Also while its error, and with it every frame of the failed call, is still there."""
    begin(tmp_path / "run", backend, stop=5).close()
    with pytest.raises(ts.errors.StepNotRecordedError) as caught:
        ts.resume(tmp_path / "run", from_step=30)
    ts.resume(tmp_path / "run").close()
    assert caught.value.__traceback__ is not None


def test_block_files_are_not_copied() -> None:
    """Nor is what reads one: its file would be closed twice."""
    file = BlockFile.__new__(BlockFile)
    file._descriptor = -1
    for owner in (file, JournalWriter.__new__(JournalWriter)):
        with pytest.raises(UsageError):
            copy.copy(owner)
