"""A run stopped anywhere and resumed equals the uninterrupted one, bit for bit."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result

import trajectory_store as ts
from tests.harness.outcome import assert_same_run, same
from trainer import run_folder
from trainer.checkpoint import read_checkpoint
from trainer.config import Config, with_settings
from trainer.data import load_data
from trainer.output import Options
from trainer.rows import Frame
from trainer.run_folder import RunFolder
from trainer.state import TrainingState

Run = Callable[..., Result]
TOTAL_STEPS = 15
EVERY_STEP = tuple(range(TOTAL_STEPS + 1))


@pytest.fixture(scope="module")
def config() -> Config:
    """The tiny training, with a checkpoint at every step."""
    return with_settings(
        Config(),
        {
            "total_steps": TOTAL_STEPS,
            "vocab_size": 300,
            "seq_len": 16,
            "batch_size": 4,
            "hidden_dim": 8,
            "learning_rate": 1e-2,
            "checkpoint_steps": EVERY_STEP,
            "series": ("W", "m", "v", "g"),
        },
    )


@pytest.fixture(scope="module", params=["zarr", "memmap"])
def backend(request: pytest.FixtureRequest) -> str:
    """What the run is recorded with."""
    return str(request.param)


@pytest.fixture(scope="module")
def uninterrupted(config: Config, data: Path, backend: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from its beginning to its end."""
    out = tmp_path_factory.mktemp("uninterrupted") / "out"
    assert record(config, data, Options(out=out, backend=backend))
    return out


def record(config: Config, data: Path, options: Options, stop_at: int | None = None) -> bool:
    """Begin or resume a run, stopping after step `stop_at` as Ctrl-C would."""
    # Whatever state the process's generators are in must not matter.
    torch.manual_seed(999)
    random.seed(999)
    np.random.seed(999)
    folder = RunFolder(config, load_data(data, config), "cpu", options, lambda _line: None)
    return folder.record(lambda: folder.state.step == stop_at)


@pytest.mark.parametrize("stop_at", EVERY_STEP[1:])
def test_resume_after_a_stop_at_every_step(
    tmp_path: Path, config: Config, data: Path, backend: str, uninterrupted: Path, stop_at: int
) -> None:
    """Two epochs and a half, their boundaries included: stop after any step, resume, and nothing differs."""
    out = tmp_path / "out"
    record(config, data, Options(out=out, backend=backend), stop_at)

    assert record(config, data, Options(out=out, resume=True))

    assert_same_run(uninterrupted, out)


@pytest.mark.parametrize("newest", [-1, *EVERY_STEP])
def test_resume_replays_what_is_recorded(
    tmp_path: Path, config: Config, data: Path, uninterrupted: Path, newest: int
) -> None:
    """With checkpoints only up to one step, or none, the later ones are trained again and compared, not overwritten."""
    out = tmp_path / "out"
    shutil.copytree(uninterrupted, out)
    for path in sorted((out / "checkpoints").iterdir())[newest + 1 :]:
        path.unlink()
    before = {
        path: path.read_bytes() for path in (out / "trajectory").rglob("*") if path.name != "lock" and path.is_file()
    }

    assert record(config, data, Options(out=out, resume=True))

    assert_same_run(uninterrupted, out)
    if (out / "trajectory" / "W").exists():  # the memmap log notes each opening
        assert before == {path: path.read_bytes() for path in before}


def test_damaged_checkpoint_is_passed_over(tmp_path: Path, config: Config, data: Path, uninterrupted: Path) -> None:
    """The newest checkpoint fails its checksum, so the one before it is used and said to be."""
    out = tmp_path / "out"
    shutil.copytree(uninterrupted, out)
    newest = out / "checkpoints" / "checkpoint_step_00015.pt"
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 0x10
    newest.write_bytes(damaged)
    said: list[str] = []

    folder = RunFolder(config, load_data(data, config), "cpu", Options(out=out, resume=True), said.append)
    assert folder.record(lambda: False)

    assert any("Passing over checkpoint_step_00015.pt" in line for line in said)
    assert any(line.startswith("Resuming after step 14") for line in said)
    assert_same_run(uninterrupted, out)


def test_checkpoint_past_the_recording_is_passed_over(
    tmp_path: Path, config: Config, data: Path, uninterrupted: Path
) -> None:
    """A checkpoint that the recording does not reach, as after a lost disk, cannot be gone on from."""
    short, out = tmp_path / "short", tmp_path / "out"
    record(config, data, Options(out=short), stop_at=4)
    shutil.copytree(short, out)
    for step in (5, 11):
        shutil.copy(uninterrupted / "checkpoints" / f"checkpoint_step_{step:05d}.pt", out / "checkpoints")
    said: list[str] = []

    folder = RunFolder(config, load_data(data, config), "cpu", Options(out=out, resume=True), said.append)
    assert folder.record(lambda: False)

    assert [line.split()[2] for line in said if line.startswith("Passing over")] == [
        "checkpoint_step_00011.pt:",
        "checkpoint_step_00005.pt:",
    ]
    assert_same_run(uninterrupted, out)


def test_a_replay_that_differs_is_refused(tmp_path: Path, config: Config, data: Path) -> None:
    """Recorded steps are compared: other bits raise ReplayMismatchError and the recording stays."""
    out = tmp_path / "out"
    record(config, data, Options(out=out))
    (out / "checkpoints" / "checkpoint_step_00015.pt").unlink()
    for path in sorted((out / "checkpoints").iterdir())[10:]:
        path.unlink()
    folder = RunFolder(config, load_data(data, config), "cpu", Options(out=out, resume=True), lambda _line: None)
    original_take = folder._capture.take

    def drifted(state: TrainingState) -> list[Frame]:
        (frame,) = original_take(state)
        if state.step == 12:
            frame.values["W"] *= 2
        return [frame]

    folder._capture.take = drifted  # type: ignore[method-assign]

    with pytest.raises(ts.errors.ReplayMismatchError, match="step 12 of series 'W'"):
        folder.record(lambda: False)


def test_rolling_checkpoint_goes_when_a_newer_one_is_whole(tmp_path: Path, run_tiny: Run) -> None:
    """Of the rolling checkpoints only the newest stays, and none older than a sparse one."""
    assert run_tiny(tmp_path / "a", "--set", "checkpoint_every=4", checkpoint_steps="0,9").exit_code == 0
    assert run_tiny(tmp_path / "b", "--set", "checkpoint_every=4", checkpoint_steps="0,13").exit_code == 0

    def names(out: Path) -> list[str]:
        return sorted(path.name for path in (out / "checkpoints").iterdir())

    assert names(tmp_path / "a") == [
        "checkpoint_step_00000.pt",
        "checkpoint_step_00009.pt",
        "rolling_step_00012.pt",
    ]
    assert names(tmp_path / "b") == ["checkpoint_step_00000.pt", "checkpoint_step_00013.pt"]


def test_rolling_checkpoint_by_minutes(tmp_path: Path, run_tiny: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`checkpoint_every=2m` writes one when two minutes have passed since the last."""
    clock = iter(range(0, 10_000, 25))
    monkeypatch.setattr(run_folder.time, "monotonic", lambda: float(next(clock)))

    assert run_tiny(tmp_path / "out", "--set", "checkpoint_every=2m", checkpoint_steps="").exit_code == 0

    assert list((tmp_path / "out" / "checkpoints").glob("rolling_step_*.pt"))


def test_another_configuration_is_refused(tmp_path: Path, run_tiny: Run) -> None:
    """What decides bits may not change between a run and its resume; the message says what did."""
    run_tiny(tmp_path / "out")

    result = run_tiny(tmp_path / "out", "--resume", learning_rate=3e-4)

    assert result.exit_code == 2
    assert "learning_rate was 0.01 and is 0.0003" in result.output


def test_another_environment_is_refused_unless_told(
    tmp_path: Path, run_tiny: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fingerprint that differs is printed and refused, and taken with the option."""
    run_tiny(tmp_path / "out", checkpoint_steps="0,9")
    original = run_folder.take_fingerprint

    def elsewhere(*arguments: Any) -> dict[str, Any]:
        fingerprint = original(*arguments)
        fingerprint["bits"]["threads"] = 64
        fingerprint["about"]["python"] = "9.9"  # kept, never compared
        return fingerprint

    monkeypatch.setattr(run_folder, "take_fingerprint", elsewhere)

    refused = run_tiny(tmp_path / "out", "--resume", checkpoint_steps="0,9")
    assert refused.exit_code == 2
    assert "→ 64" in refused.output
    assert "--allow-different-environment" in refused.output
    assert "9.9" not in refused.output
    assert (
        run_tiny(tmp_path / "out", "--resume", "--allow-different-environment", checkpoint_steps="0,9").exit_code == 0
    )


def test_resume_of_a_complete_run_makes_what_is_missing(tmp_path: Path, run_tiny: Run) -> None:
    """A kill during the last writing leaves a recorded run without its metadata; resume writes it."""
    run_tiny(tmp_path / "out")
    metadata = (tmp_path / "out" / "metadata.json").read_bytes()
    (tmp_path / "out" / "metadata.json").unlink()
    (tmp_path / "out" / "checkpoints" / ".checkpoint_step_00015.pt.0123abcd.partial").write_bytes(b"torn")

    assert run_tiny(tmp_path / "out", "--resume").exit_code == 0

    assert (tmp_path / "out" / "metadata.json").read_bytes() == metadata
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_resume_without_recording(tmp_path: Path, run_tiny: Run, notebook: SimpleNamespace) -> None:
    """A run that records nothing goes on from its checkpoints alone."""
    run_tiny(tmp_path / "out", "--no-capture", checkpoint_steps="0,8,15")
    (tmp_path / "out" / "checkpoints" / "checkpoint_step_00015.pt").unlink()

    assert run_tiny(tmp_path / "out", "--no-capture", "--resume", checkpoint_steps="0,8,15").exit_code == 0

    last = read_checkpoint(tmp_path / "out" / "checkpoints" / "checkpoint_step_00015.pt")
    assert all(same(weight, last["model_state_dict"][name]) for name, weight in notebook.weights.items())


def test_resume_of_an_empty_folder_begins(tmp_path: Path, run_tiny: Run) -> None:
    """A kill before the recording was made leaves an empty folder, and resume is the same command every time."""
    (tmp_path / "out").mkdir()

    result = run_tiny(tmp_path / "out", "--resume")

    assert result.exit_code == 0
    assert "starting at step 0" in result.output
