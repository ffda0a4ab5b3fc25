"""Frames come out of every capture in order, each once, with the bits of their own step, however late they come."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import trajectory_store as ts
from tests.harness.outcome import assert_same_run
from trainer import run_folder
from trainer.batches import Batches
from trainer.capture import Capture, Immediate, Together, capture_on
from trainer.config import Config, with_settings
from trainer.data import TrainingData, load_data
from trainer.loop import train
from trainer.output import Options
from trainer.ring import SLOTS, Ring
from trainer.rows import Frame, Rows, captured_tokens
from trainer.run_folder import RunFolder
from trainer.state import TrainingState, fresh

SERIES = ("W", "m", "v", "g")
DEVICES = [
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")),
    pytest.param("mps", marks=pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs MPS")),
]


@pytest.fixture(scope="module")
def config() -> Config:
    """The tiny training, of all series."""
    return with_settings(
        Config(),
        {
            "total_steps": 21,
            "vocab_size": 300,
            "seq_len": 16,
            "batch_size": 4,
            "hidden_dim": 8,
            "learning_rate": 1e-2,
            "checkpoint_steps": (0, 7, 21),
            "series": SERIES,
        },
    )


@pytest.fixture
def training(config: Config, data: Path) -> TrainingData:
    """Its data."""
    return load_data(data, config)


class LateCopy:
    """A copy that happens when it is completed and not before, as one on another stream may."""

    def __init__(self, pairs: list[tuple[Tensor, Tensor]], log: list[str]) -> None:
        self._pairs = pairs
        self._log = log
        self.is_done = False

    def complete(self) -> None:
        for on_device, on_host in self._pairs:
            on_host.copy_(on_device)
        self.is_done = True

    def query(self) -> bool:
        return self.is_done

    def synchronize(self) -> None:
        if not self.is_done:
            self._log.append("waited")
            self.complete()


class LateTransfer:
    """The other stream and its events, on the CPU: copies are unfinished until completed or waited for."""

    def __init__(self) -> None:
        self.copies: list[LateCopy] = []
        self.log: list[str] = []
        self.landings: list[Tensor] = []
        self.error: Exception | None = None

    def landing(self, like: Tensor) -> Tensor:
        self.landings.append(torch.full_like(like, torch.nan))
        return self.landings[-1]

    def start(self, pairs: list[tuple[Tensor, Tensor]]) -> LateCopy:
        if self.error is not None:
            raise self.error
        self.copies.append(LateCopy(pairs, self.log))
        return self.copies[-1]


@pytest.fixture
def transfer() -> LateTransfer:
    """A transfer whose copies are as late as a test wants."""
    return LateTransfer()


@pytest.fixture
def ring(config: Config, training: TrainingData, transfer: LateTransfer) -> Ring:
    """A ring of that transfer."""
    return Ring(Rows(SERIES, captured_tokens(config, training.masks), "cpu"), lambda: transfer)


@pytest.fixture
def state(config: Config) -> TrainingState:
    """A state to be stepped by hand."""
    return fresh(config, "cpu")


def step_to(state: TrainingState, step: int) -> None:
    """As if `step` updates had been made: every weight and the loss are the step's number."""
    with torch.no_grad():
        state.model.embedding.weight.fill_(step)
    state.step, state.loss = step, torch.tensor(float(step))


def numbers(frames: list[Frame]) -> list[tuple[int, float, float]]:
    """Each frame's step, loss and weight."""
    return [(frame.step, frame.values["loss"], frame.values["W"].unique().item()) for frame in frames]


def bits_of(frames: list[Frame]) -> list[tuple[int, float, list[bytes]]]:
    """Frames as what can be compared."""
    return [
        (frame.step, frame.values["loss"], [frame.values[n].view(torch.int16).numpy().tobytes() for n in SERIES])
        for frame in frames
    ]


def frames_of(capture: Capture, config: Config, training: TrainingData, device: str) -> list[Frame]:
    """Everything a training gives to a capture."""
    state = fresh(config, device)
    frames = capture.take(state)

    def on_step(state: TrainingState) -> bool:
        frames.extend(capture.take(state))
        return True

    train(state, Batches(training.tokens, seq_len=config.seq_len, batch_size=config.batch_size), config, on_step)
    return frames + capture.drain()


@pytest.mark.parametrize("late", [Together, lambda rows: Ring(rows, LateTransfer)], ids=["together", "ring"])
def test_late_frames_have_the_bits_of_immediate_ones(
    late: Callable[[Rows], Capture], config: Config, training: TrainingData
) -> None:
    """Every series and loss of a whole training, on the CPU."""
    rows = Rows(SERIES, captured_tokens(config, training.masks), "cpu")

    expected = bits_of(frames_of(Immediate(rows), config, training, "cpu"))
    assert list(range(22)) == [step for step, *_ in expected]
    assert expected == bits_of(frames_of(late(rows), config, training, "cpu"))


@pytest.mark.parametrize("device", DEVICES)
def test_a_devices_frames_have_the_bits_of_immediate_ones(device: str, config: Config, training: TrainingData) -> None:
    """The device's own capture beside one that waits at every step, in one training: no two need to be repeatable."""
    tokens = captured_tokens(config, training.masks)
    immediate, late = Immediate(Rows(SERIES, tokens, device)), capture_on(device, SERIES, tokens)
    expected: list[Frame] = []

    class Both:
        def take(self, state: TrainingState) -> list[Frame]:
            frames = late.take(state)
            expected.extend(immediate.take(state))
            return frames

        def drain(self) -> list[Frame]:
            return late.drain()

    assert bits_of(frames_of(Both(), config, training, device)) == bits_of(expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_a_step_on_cuda_waits_for_nothing(config: Config, training: TrainingData) -> None:
    """Once every slot was made, no operation of the loop synchronises; the ring's own wait is for an event."""
    short = with_settings(config, {"total_steps": 5, "checkpoint_steps": ()})
    capture = capture_on("cuda", SERIES, captured_tokens(config, training.masks))

    def on_step(state: TrainingState) -> bool:
        capture.take(state)
        torch.cuda.set_sync_debug_mode("error" if state.step < short.total_steps else "default")
        return True

    try:
        batches = Batches(training.tokens, seq_len=config.seq_len, batch_size=config.batch_size)
        train(fresh(short, "cuda"), batches, short, on_step)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_cpu_hands_out_each_step_at_once(config: Config, training: TrainingData, state: TrainingState) -> None:
    """Nothing is left to drain."""
    capture = capture_on("cpu", SERIES, captured_tokens(config, training.masks))

    for step in range(3):
        step_to(state, step)
        assert numbers(capture.take(state)) == [(step, step, step)]
        assert capture.drain() == []


def test_without_a_series_the_loss_alone_is_taken(state: TrainingState) -> None:
    """A run that records nothing still shows its loss."""
    rows = Rows((), torch.arange(3), "cpu")
    for capture in (Immediate(rows), Together(rows), Ring(rows, LateTransfer)):
        step_to(state, 4)
        assert [frame.values for frame in capture.take(state) + capture.drain()] == [{"loss": 4.0}]


def test_ring_hands_out_what_is_done_and_waits_for_nothing_else(
    ring: Ring, transfer: LateTransfer, state: TrainingState
) -> None:
    """A finished copy comes out at the next step; a later one that is done before it keeps its turn."""
    for step in (0, 1):
        step_to(state, step)
        assert ring.take(state) == []
    transfer.copies[1].complete()
    step_to(state, 2)
    assert ring.take(state) == []

    transfer.copies[0].complete()
    transfer.copies[2].complete()
    step_to(state, 3)
    assert numbers(ring.take(state)) == [(step, step, step) for step in (0, 1, 2)]
    assert transfer.log == []


def test_full_ring_waits_for_its_oldest_alone(ring: Ring, transfer: LateTransfer, state: TrainingState) -> None:
    """With copies that never end by themselves, each step waits once, and no slot in flight is written."""
    frames = []
    for step in range(3 * SLOTS):
        step_to(state, step)
        frames += ring.take(state)
        assert len(transfer.log) == max(0, step - SLOTS + 2)
    assert numbers(frames) == [(step, step, step) for step in range(2 * SLOTS + 1)]
    assert len(transfer.landings) == 2 * SLOTS
    assert numbers(ring.drain()) == [(step, step, step) for step in range(2 * SLOTS + 1, 3 * SLOTS)]
    assert ring.drain() == []


def test_parameters_may_change_while_a_copy_is_under_way(
    ring: Ring, transfer: LateTransfer, state: TrainingState
) -> None:
    """The copy is of what was gathered, not of the parameter."""
    step_to(state, 1)
    ring.take(state)
    step_to(state, 2)

    transfer.copies[0].complete()

    assert numbers(ring.drain()) == [(1, 1, 1)]


@pytest.mark.parametrize("late", [Together, lambda rows: Ring(rows, LateTransfer)], ids=["together", "ring"])
def test_frames_handed_out_stay_as_they_are(
    late: Callable[[Rows], Capture], config: Config, training: TrainingData, state: TrainingState
) -> None:
    """Whoever keeps a frame keeps its step's values, though the slots are filled again and again."""
    capture = late(Rows(SERIES, captured_tokens(config, training.masks), "cpu"))
    kept = []
    for step in range(30):
        step_to(state, step)
        kept += capture.take(state)
    kept += capture.drain()

    assert numbers(kept) == [(step, step, step) for step in range(30)]


def test_an_error_on_the_way_loses_no_earlier_step(ring: Ring, transfer: LateTransfer, state: TrainingState) -> None:
    """The step that could not be sent is not there, those before it are, and the ring goes on."""
    for step in (0, 1):
        step_to(state, step)
        ring.take(state)
    transfer.error = RuntimeError("the device is gone")
    step_to(state, 2)
    with pytest.raises(RuntimeError):
        ring.take(state)

    assert numbers(ring.drain()) == [(0, 0, 0), (1, 1, 1)]
    transfer.error = None
    for step in range(3, 10):
        step_to(state, step)
        ring.take(state)
    assert [frame.step for frame in ring.drain()] == [7, 8, 9]


@pytest.fixture(params=["together", "ring"])
def late_runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs on the CPU that record as those on a GPU do."""

    def late(device: str, series: tuple[str, ...], tokens: Tensor) -> Capture:
        rows = Rows(series, tokens, device)
        return Ring(rows, LateTransfer) if request.param == "ring" else Together(rows)

    monkeypatch.setattr(run_folder, "capture_on", late)


def run_in(out: Path, config: Config, training: TrainingData, **options: Any) -> RunFolder:
    """A run that is about to be begun or gone on with."""
    return RunFolder(config, training, "cpu", Options(out=out, **options), lambda _line: None)


@pytest.mark.usefixtures("late_runs")
@pytest.mark.parametrize("stop_at", [1, 3, 9])
def test_a_late_run_stopped_and_resumed_is_the_immediate_one(
    tmp_path: Path, config: Config, training: TrainingData, stop_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint is never ahead of the recording, and the end leaves nothing behind."""
    first = run_in(tmp_path / "late", config, training)
    assert not first.record(lambda: first.state.step == stop_at)
    with ts.open(tmp_path / "late" / "trajectory") as run:
        assert run.steps.tolist() == list(range(stop_at + 1))
    assert run_in(tmp_path / "late", config, training, resume=True).record(lambda: False)

    monkeypatch.undo()
    assert run_in(tmp_path / "immediate", config, training).record(lambda: False)
    assert_same_run(tmp_path / "immediate", tmp_path / "late")


@pytest.mark.usefixtures("late_runs")
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_of_the_training_keeps_the_steps_before_it(
    tmp_path: Path, config: Config, training: TrainingData, error: type[BaseException]
) -> None:
    """What was taken is recorded, then the error goes its way."""
    folder = run_in(tmp_path / "out", config, training)

    def interrupted() -> bool:
        if folder.state.step == 5:
            raise error("in the middle")
        return False

    with pytest.raises(error, match="in the middle"):
        folder.record(interrupted)

    with ts.open(tmp_path / "out" / "trajectory") as run:
        assert run.steps.tolist() == list(range(6))


@pytest.mark.usefixtures("late_runs")
def test_a_sink_that_failed_is_given_nothing_more(
    tmp_path: Path, config: Config, training: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own error is the one that is told, and no step after it is recorded."""
    given: list[int] = []

    class Failing:
        def append(self, step: int, /, **_values: Any) -> None:
            given.append(step)
            if step == 4:
                raise OSError("no room for step 4")

        def flush(self) -> None:
            pass

        def close(self) -> None:
            given.append(-1)

    folder = run_in(tmp_path / "out", config, training)
    monkeypatch.setattr(folder, "_begin", Failing)

    with pytest.raises(OSError, match="no room for step 4"):
        folder.record(lambda: False)

    assert given == [0, 1, 2, 3, 4, -1]
