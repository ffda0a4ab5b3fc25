"""A checkpoint is whole, trusted only when it is sound, and restores bits and dtypes or nothing."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer import checkpoint
from trainer.checkpoint import read_checkpoint, restore, save_checkpoint
from trainer.config import Config
from trainer.state import TrainingState, fresh
from trajectory_store.errors import MalformedFileError

TINY = Config(vocab_size=7, hidden_dim=2, num_layers=1, num_heads=1, seq_len=3, total_steps=9, checkpoint_steps=())


@pytest.fixture
def state() -> TrainingState:
    """A state after one update."""
    state = fresh(TINY, "cpu")
    state.model(torch.tensor([[1, 2, 3]])).float().sum().backward()
    state.optimizer.step()
    state.step = 1
    state.place.epoch_rng = torch.get_rng_state()
    return state


@pytest.fixture
def saved(state: TrainingState, tmp_path: Path) -> Path:
    """Its checkpoint."""
    path = tmp_path / "checkpoint_step_00001.pt"
    save_checkpoint(path, state, {"config": {}})
    return path


def test_restore_gives_every_bit_back(state: TrainingState, saved: Path) -> None:
    """Model, moments, place and generators of a fresh state become the saved ones."""
    expected = torch.rand(3)
    other = fresh(TINY, "cpu")

    restore(other, read_checkpoint(saved), saved)

    for name, weight in state.model.state_dict().items():
        assert torch.equal(weight, other.model.state_dict()[name])
    assert state.optimizer.state_dict()["state"].keys() == other.optimizer.state_dict()["state"].keys()
    assert (other.step, other.place.epoch) == (1, state.place.epoch)
    assert torch.equal(expected, torch.rand(3))


def test_every_flipped_byte_is_found_or_harmless(saved: Path, state: TrainingState) -> None:
    """A file with one byte changed is refused, or loads to the very same content (padding, dates)."""
    sound = saved.read_bytes()
    expected = state.model.state_dict()
    refused = 0
    for position in range(0, len(sound), 101):
        damaged = bytearray(sound)
        damaged[position] ^= 0x41
        saved.write_bytes(damaged)
        try:
            content = read_checkpoint(saved)
        except MalformedFileError:
            refused += 1
            continue
        assert all(torch.equal(weight, content["model_state_dict"][name]) for name, weight in expected.items())
    assert refused > len(sound) // 101 // 2


@pytest.mark.parametrize("size", [0, 1, 100, 5_000])
def test_cut_file_is_refused(saved: Path, size: int) -> None:
    """A torn file is a MalformedFileError."""
    saved.write_bytes(saved.read_bytes()[:size])

    with pytest.raises(MalformedFileError, match="checkpoint_step_00001"):
        read_checkpoint(saved)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    """A checkpoint that would call a function is refused, and the function is not called."""

    class Hostile:
        def __reduce__(self) -> object:
            return os.mkdir, (str(tmp_path / "called"),)

    path = tmp_path / "checkpoint_step_00001.pt"
    torch.save({"step": Hostile()}, path)

    with pytest.raises(MalformedFileError, match="something else than tensors"):
        read_checkpoint(path)
    assert not (tmp_path / "called").exists()


def test_compressed_members_are_refused(saved: Path) -> None:
    """A few bytes cannot ask for gigabytes: torch stores, so anything compressed is not torch's."""
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1_000_000))
    saved.write_bytes(bomb.getvalue())

    with pytest.raises(MalformedFileError, match="compressed"):
        read_checkpoint(saved)


def test_a_notebook_checkpoint_is_not_enough(saved: Path) -> None:
    """The notebook's four keys cannot be resumed from, and the message says what is missing."""
    torch.save({"step": 1, "model_state_dict": {}, "optimizer_state_dict": {}, "rng_state": torch.zeros(1)}, saved)

    with pytest.raises(MalformedFileError, match="consumed_batches"):
        read_checkpoint(saved)


def _as_float32(values: dict[str, torch.Tensor], name: str) -> None:
    values[name] = values[name].float()


UNFITTING = {
    "missing weight": lambda c: c["model_state_dict"].pop("ln_f.bias"),
    "float32 weight": lambda c: _as_float32(c["model_state_dict"], "embedding.weight"),
    "float32 moment": lambda c: _as_float32(c["optimizer_state_dict"]["state"][0], "exp_avg"),
    "missing moments": lambda c: c["optimizer_state_dict"]["state"].pop(0),
    "another learning rate": lambda c: c["optimizer_state_dict"]["param_groups"][0].update(lr=1.0),
    "torch generator": lambda c: c.update(rng_state=torch.zeros(3, dtype=torch.uint8)),
    "epoch's generator": lambda c: c.update(epoch_rng_state=torch.zeros(3, dtype=torch.uint8)),
    "python generator": lambda c: c.update(python_rng_state=[3, [1, 2], None]),
    "numpy generator": lambda c: c.update(numpy_rng_state=["MT19937", [1], 0, 0, 0.0]),
}


@pytest.mark.parametrize("change", UNFITTING.values(), ids=UNFITTING)
def test_content_that_does_not_fit_is_refused(saved: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Other parameters, other dtypes (torch would cast in silence), other flags, no generator's state."""
    content = read_checkpoint(saved)
    change(content)

    with pytest.raises(MalformedFileError, match="does not fit this training"):
        restore(fresh(TINY, "cpu"), content, saved)


def test_write_that_fails_leaves_the_old_one(
    saved: Path, state: TrainingState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error while writing leaves the folder as it was."""
    before = saved.read_bytes()

    def full(*_arguments: object, **_options: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.files.disk, "write", full)

    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(saved, state, {})
    assert before == saved.read_bytes()
    assert [saved] == list(saved.parent.iterdir())


def test_checkpoints_are_listed_by_step(tmp_path: Path) -> None:
    """By number, not by name; what is not a checkpoint is not listed."""
    for name in ("checkpoint_step_100000.pt", "checkpoint_step_00020.pt", "rolling_step_00020.pt", "notes.pt"):
        (tmp_path / name).touch()

    assert [file.path.name for file in checkpoint.checkpoints(tmp_path)] == [
        "rolling_step_00020.pt",
        "checkpoint_step_00020.pt",
        "checkpoint_step_100000.pt",
    ]
