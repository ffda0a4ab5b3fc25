"""An interrupt may come anywhere: after it the same sink goes on, or a resume does, and every step has its own row.

The interrupt is raised by a trace function, at one line of this package after another, and by a timer's signal.
"""

import contextlib
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import trajectory_store as ts
from tests.harness import contracts
from trajectory_store import files
from trajectory_store.backends.writer_lock import WriterLock
from trajectory_store.backends.zarr.sealing import MAX_WAITING_BLOCKS
from trajectory_store.codec import kernels, temporal
from trajectory_store.errors import UsageError

PACKAGE = str(Path(ts.__file__).parent)
BLOCK_STEPS = 4
STEPS = 12


def _loses_files(test: Any) -> Any:
    """A file that was just being opened when the interrupt came is closed when it is collected, or never."""
    for mark in ("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"):
        test = pytest.mark.filterwarnings(mark)(test)
    return pytest.mark.leaks(test)


class Interrupter:
    """Raises KeyboardInterrupt at the n-th event in the package's files; `has_fired` says whether there was one.

    An event is a line that is reached for the first time or, with `opcodes`, any bytecode.
    """

    def __init__(self, n: int, *, opcodes: bool) -> None:
        self._left = n
        self._opcodes = opcodes
        self._seen: set[tuple[str, int]] = set()
        self.has_fired = False

    def trace(self, frame: FrameType, event: str, _argument: Any) -> Any:
        """What sys.settrace takes."""
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = self._opcodes
        place = frame.f_code.co_filename, frame.f_lineno
        is_event = event == "opcode" if self._opcodes else event == "line" and place not in self._seen
        if is_event and not self.has_fired:
            self._seen.add(place)
            self._left -= 1
            if self._left < 0:
                self.has_fired = True
                raise KeyboardInterrupt
        return self.trace

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Interrupts what is done in the block."""
        before = sys.gettrace()
        sys.settrace(self.trace)
        try:
            yield
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)


class Forgetful(files.Disk):
    """Syncs nothing: an interrupt is no loss of power."""

    def sync(self, descriptor: int) -> None:
        pass

    def sync_folder(self, folder: Path) -> None:
        pass


@pytest.fixture(autouse=True)
def disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that costs no time."""
    monkeypatch.setattr(files, "disk", Forgetful())


def row(step: int) -> np.ndarray:
    return np.full((5, 2), step, np.float32)


def sink_at(path: Path, backend: str, step: int, durability: str = "process") -> Any:
    """A sink that expects `step`, its seals in this thread."""
    series = {"x": ts.Series((5, 2), "float32"), "loss": ts.Series((), "float32")}
    ts.create(path, series, steps=STEPS, block_steps=BLOCK_STEPS, backend=backend, overwrite=True).close()
    sink = contracts.resume(path, backend, durability)
    go_on(sink, step)
    return sink


def go_on(sink: Any, stop: int = STEPS) -> None:
    """Append what is missing, as a cell does that is run again."""
    while sink.next_step is not None and sink.next_step < stop:
        sink.append(sink.next_step, x=row(sink.next_step), loss=float(sink.next_step))


def assert_whole(path: Path, n_steps: int = STEPS) -> None:
    with ts.open(path) as run:
        assert run["loss"][:].tolist() == list(range(n_steps))
        assert run["x"][:, 4, 1].tolist() == list(range(n_steps))
    assert [str(finding) for finding in ts.check(path)] == []


CALLS: dict[str, tuple[int, Callable[[Any], None]]] = {
    "append": (2, lambda sink: sink.append(2, x=row(2), loss=2.0)),
    "append the first frame of a block": (4, lambda sink: sink.append(4, x=row(4), loss=4.0)),
    "append the last frame of a block": (7, lambda sink: sink.append(7, x=row(7), loss=7.0)),
    "append the last frame of the run": (11, lambda sink: sink.append(11, x=row(11), loss=11.0)),
    "flush": (6, lambda sink: sink.flush()),
    "close": (6, lambda sink: sink.close()),
}


SEALING = {"append the last frame of a block", "append the last frame of the run", "close"}


def attack(path: Path, backend: str, call: str, durability: str, *, opcodes: bool, stride: int = 1) -> int:
    """Interrupt a call at every event, one run each; returns how many there were."""
    step, action = CALLS[call]
    n = 0
    while True:
        sink = sink_at(path, backend, step, durability)
        interrupter = Interrupter(n, opcodes=opcodes)
        with interrupter.armed():
            action(sink)
        if n % 2 and interrupter.has_fired:  # a kernel that dies after the interrupt
            contracts.abandon(sink)
            sink = contracts.resume(path, backend)
            assert sink.next_step is None or sink.next_step >= step
        elif call == "close" and sink._is_closed:
            with pytest.raises(UsageError):
                sink.append(6, x=row(6), loss=6.0)
            sink.close()
            sink = contracts.resume(path, backend)
        go_on(sink)
        sink.close()
        assert_whole(path)
        if not interrupter.has_fired:
            return n
        n += stride


@_loses_files
@pytest.mark.parametrize("call", CALLS)
def test_an_interrupt_at_every_line(tmp_path: Path, backend: str, call: str) -> None:
    """Interrupted at any line of this package, the call leaves a sink that goes on and a run that is resumed."""
    stride = 5 if backend == "zarr" and call in SEALING else 1
    assert attack(tmp_path / "run", backend, call, "process", opcodes=False, stride=stride) > 20


@pytest.mark.long
@_loses_files
@pytest.mark.parametrize("call", sorted(SEALING))
def test_an_interrupt_at_every_line_of_a_seal(tmp_path: Path, call: str) -> None:
    """The same at all lines of what seals, of which the plain suite takes every fifth."""
    assert attack(tmp_path / "run", "zarr", call, "process", opcodes=False) > 100


@_loses_files
@pytest.mark.parametrize("call", ["append", "flush"])
def test_an_interrupt_at_every_line_that_syncs_each_frame(tmp_path: Path, backend: str, call: str) -> None:
    """The same where every frame is synced."""
    assert attack(tmp_path / "run", backend, call, "power", opcodes=False) > 10


@pytest.mark.long
@_loses_files
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("durability", ["process", "power"])
def test_an_interrupt_at_every_bytecode(tmp_path: Path, backend: str, call: str, durability: str) -> None:
    """The same at every bytecode."""
    assert attack(tmp_path / "run", backend, call, durability, opcodes=True) > 50


@contextlib.contextmanager
def timer(rng: random.Random, most_s: float) -> Iterator[None]:
    """A signal's handler raises KeyboardInterrupt once, after a random while."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, most_s))
        yield
    except KeyboardInterrupt:
        pass
    finally:
        while True:  # an interrupt that is late comes here
            with contextlib.suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)
                break


def interrupted_recording(path: Path, backend: str, seed: int, steps: int) -> int:
    """Record with seals in a thread of their own, interrupted again and again; returns how often."""
    rng = random.Random(seed)
    series = {"x": ts.Series((5, 2), "float32"), "loss": ts.Series((), "float32")}
    sink = ts.create(path, series, steps=steps, block_steps=BLOCK_STEPS, backend=backend)
    interrupts = 0
    while sink.next_step is not None:
        acknowledged = sink.next_step
        with timer(rng, 0.01):
            interrupts += 1
            while sink.next_step is not None:
                acknowledged = sink.next_step
                sink.append(acknowledged, x=row(acknowledged), loss=float(acknowledged))
                if rng.random() < 0.05:
                    sink.flush()
        assert sink.next_step is None or sink.next_step >= acknowledged
        if rng.random() < 0.2:
            with timer(rng, 0.01):
                sink.close()
            sink.close()
            sink = ts.resume(path)
    sink.close()
    assert_whole(path, steps)
    return interrupts


@_loses_files
def test_interrupts_by_the_clock(tmp_path: Path, backend: str) -> None:
    """A recording that is interrupted every few milliseconds, its seals in their own thread, holds every step."""
    assert interrupted_recording(tmp_path / "run", backend, 1, 400) > 1


@pytest.mark.long
@_loses_files
@pytest.mark.parametrize("seed", range(20))
def test_many_interrupts_by_the_clock(tmp_path: Path, backend: str, seed: int) -> None:
    """The same, longer, with many seeds."""
    assert interrupted_recording(tmp_path / "run", backend, seed, 4000) > 10


def test_an_interrupt_while_waiting_for_a_seal(tmp_path: Path) -> None:
    """The sealing thread is waited for in append, flush and close: each may be interrupted there and called again."""
    path = tmp_path / "run"
    sink = ts.create(path, {"loss": ts.Series((), "float32")}, block_steps=2)
    seal = sink._sealer.seal

    def sealed_late(entries: Any) -> None:
        time.sleep(0.2)
        seal(entries)

    sink._sealer.seal = sealed_late
    n_steps = 2 * (MAX_WAITING_BLOCKS + 1) + 1
    for call in (lambda: [sink.append(step, loss=float(step)) for step in range(n_steps)], sink.flush, sink.close):
        with timer(random.Random(0), 0.1):
            call()
        assert sink.next_step is not None
        assert sink.next_step <= n_steps
        while sink.next_step < n_steps:
            sink.append(sink.next_step, loss=float(sink.next_step))
    sink.close()
    with ts.open(path) as run:
        assert run["loss"][:].tolist() == list(range(n_steps))


@_loses_files
def test_whoever_is_interrupted_in_taking_the_lock_does_not_keep_it(tmp_path: Path) -> None:
    """At any of its lines."""
    n = 0
    while True:
        interrupter = Interrupter(n, opcodes=False)
        with interrupter.armed():
            WriterLock(tmp_path).release()
        WriterLock(tmp_path).release()
        if not interrupter.has_fired:
            break
        n += 1
    assert n > 20


@_loses_files
def test_a_close_that_was_interrupted_at_its_end_lets_go(tmp_path: Path, backend: str, monkeypatch: Any) -> None:
    """The run is whole by then, so the sink takes no frame, and what it says to do works: resume the run."""
    sink = sink_at(tmp_path / "run", backend, 6)
    release = WriterLock.release

    def interrupted(_lock: WriterLock) -> None:
        monkeypatch.setattr(WriterLock, "release", release)
        raise KeyboardInterrupt

    monkeypatch.setattr(WriterLock, "release", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sink.close()
    with pytest.raises(UsageError, match="resume opens the run again"):
        sink.append(6, x=row(6), loss=6.0)
    with ts.resume(tmp_path / "run") as again:
        go_on(again)
    assert_whole(tmp_path / "run")


@_loses_files
def test_an_interrupted_replay_goes_on(tmp_path: Path, backend: str) -> None:
    """A resume that compares what it replays stands where its run does, whichever line was interrupted."""
    path = tmp_path / "run"
    n = 0
    while True:
        sink = sink_at(path, backend, 6)
        sink.close()
        interrupter = Interrupter(n, opcodes=False)
        with ts.resume(path, from_step=3) as replay:
            with interrupter.armed():
                go_on(replay, 8)
            assert replay.next_step is not None
            assert 4 <= replay.next_step <= 8
            go_on(replay)
        assert_whole(path)
        if not interrupter.has_fired:
            return
        n += 7


def test_a_memory_sink_takes_an_interrupted_step_again() -> None:
    """Two series of one length, whichever line was interrupted."""
    n = 0
    while True:
        sink = ts.MemorySink({"x": ts.Series((5, 2), "float32"), "loss": ts.Series((), "float32")}, steps=STEPS)
        go_on(sink, 3)
        interrupter = Interrupter(n, opcodes=True)
        with interrupter.armed():
            sink.append(3, x=row(3), loss=3.0)
        go_on(sink)
        assert sink["loss"].tolist() == list(range(STEPS))
        assert sink["x"][:, 0, 0].tolist() == list(range(STEPS))
        if not interrupter.has_fired:
            return
        n += 1


@_loses_files
@pytest.mark.parametrize("stored", ["sealed", "tail"])
def test_an_interrupted_read_is_read_again(tmp_path: Path, backend: str, stored: str) -> None:
    """What a read has begun to decode, or a refresh to find, is never taken for whole."""
    path = tmp_path / "run"
    sink = sink_at(path, backend, 6)
    if stored == "sealed":
        go_on(sink)
        sink.close()
    n = 0
    while True:
        interrupter = Interrupter(n, opcodes=False)
        with ts.open(path) as run:
            n_steps = len(run["x"])
            if stored == "tail" and n < 200:
                go_on(sink, min(STEPS, n_steps + 1))
            with interrupter.armed():
                run.refresh()
                assert run["x"][2:5, 1:3, 0].tolist() == [[2, 2], [3, 3], [4, 4]]
                assert run["x"][0, 0].tolist() == [0, 0]
            run.refresh()
            assert run["x"][:, 3, 1].tolist() == list(range(len(run["x"])))
            assert run["loss"][:].tolist() == list(range(len(run["loss"])))
        if not interrupter.has_fired:
            break
        n += 1
    sink.close()


def test_rows_that_were_not_decoded_to_the_end_are_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt in the loops that decode, be they compiled or not."""
    rows = np.arange(64, dtype=np.uint16).reshape(16, 4)
    for warm_up_bytes in (0, 1 << 60):  # by the compiled loops if there are any, and by numpy
        monkeypatch.setattr(kernels, "WARM_UP_BYTES", warm_up_bytes)
        decoder = temporal.Decoder(temporal.encode(rows), rows.shape, rows.dtype, with_motion=False)
        with Interrupter(3, opcodes=False).armed():
            decoder.rows(8)
        assert np.array_equal(decoder.rows(16), rows)


def test_a_file_that_is_dropped_is_closed_without_a_warning(tmp_path: Path) -> None:
    """As those of a sink that was never closed."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    file = files.open_for_update(path)
    descriptor = file.fileno()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
