"""The trainer computes the notebook's own bits, whatever it records them with."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import Result

import trajectory_store as ts
from tests.harness.notebook_reference import save_notebook_file
from trainer.checkpoint import read_checkpoint
from trajectory_store import report

BACKENDS = ["zarr", "memmap"]
Run = Callable[..., Result]


def bits(tensor: torch.Tensor) -> np.ndarray:
    """A bf16 tensor's bit patterns."""
    return tensor.view(torch.int16).numpy().view(np.uint16)


@pytest.mark.parametrize("backend", BACKENDS)
def test_recording_and_final_weights_are_the_notebooks(
    tmp_path: Path, run_tiny: Run, notebook: SimpleNamespace, backend: str
) -> None:
    """W, loss, masks, weights and optimizer equal the notebook's, across two epoch boundaries."""
    assert run_tiny(tmp_path / "out", "--backend", backend).exit_code == 0

    with ts.open(tmp_path / "out" / "trajectory") as run:
        np.testing.assert_array_equal(bits(notebook.W), run["W"].bits[...])
        np.testing.assert_array_equal(notebook.loss.numpy().view(np.uint32), run["loss"].bits[...])
        np.testing.assert_array_equal(notebook.dead_mask.numpy(), run.static["dead_mask"])
        np.testing.assert_array_equal(notebook.dead_indices.numpy(), run.static["dead_indices"])
    last = read_checkpoint(tmp_path / "out" / "checkpoints" / "checkpoint_step_00015.pt")
    assert last["model_state_dict"].keys() == notebook.weights.keys()
    for name, weight in notebook.weights.items():
        np.testing.assert_array_equal(bits(weight), bits(last["model_state_dict"][name]), err_msg=name)
    for number, moments in notebook.optimizer["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, last["optimizer_state_dict"]["state"][number][name])
    assert torch.equal(notebook.rng_state, last["rng_state"])
    assert notebook.epoch == last["epoch"] == 3


@pytest.mark.parametrize("backend", BACKENDS)
def test_export_equals_the_notebooks_file(
    tmp_path: Path, run_tiny: Run, notebook: SimpleNamespace, backend: str
) -> None:
    """The exported file has the bytes that the notebook's `save_file` writes."""
    save_notebook_file(notebook, tmp_path / "expected.safetensors")

    assert run_tiny(tmp_path / "out", "--backend", backend, "--export").exit_code == 0

    exported = tmp_path / "out" / "thimble_9_trajectory.safetensors"
    assert (tmp_path / "expected.safetensors").read_bytes() == exported.read_bytes()


def test_the_recording_names_its_tokens(tmp_path: Path, run_tiny: Run, data: Path) -> None:
    """The report knows the strings that the data's tokenizer knows, without being given it."""
    assert run_tiny(tmp_path / "out", total_steps=3, checkpoint_steps="").exit_code == 0

    with ts.open(tmp_path / "out" / "trajectory") as run:
        found = report.findings(run)
        assert found.names == report.findings(run, tokenizer=data / "tokenizer.json").names
    vocabulary = json.loads((data / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert {vocabulary[name] for name in found.names or ()} == set(found.ids.tolist())
    assert "ก" in (found.names or ())


def test_moments_and_gradients_are_native_bits(tmp_path: Path, run_tiny: Run, notebook: SimpleNamespace) -> None:
    """m and v are bf16 from zeros at step 0 on; g begins at step 1."""
    assert run_tiny(tmp_path / "out", series="W,m,v,g").exit_code == 0

    with ts.open(tmp_path / "out" / "trajectory") as run:
        for name in ("W", "m", "v"):
            np.testing.assert_array_equal(bits(getattr(notebook, name)), run[name].bits[...], err_msg=name)
        np.testing.assert_array_equal(bits(notebook.g), run["g"].bits[...])
        assert {series.dtype for name, series in run.series.items() if name != "loss"} == {"bfloat16"}


def test_recording_leaves_the_training_alone(tmp_path: Path, run_tiny: Run, notebook: SimpleNamespace) -> None:
    """A training without recording ends with the same weights."""
    assert run_tiny(tmp_path / "out", "--no-capture").exit_code == 0

    last = read_checkpoint(tmp_path / "out" / "checkpoints" / "checkpoint_step_00015.pt")
    for name, weight in notebook.weights.items():
        np.testing.assert_array_equal(bits(weight), bits(last["model_state_dict"][name]), err_msg=name)
    assert not (tmp_path / "out" / "trajectory").exists()


@pytest.mark.parametrize(("rows", "expected"), [("live", "live_indices"), ("all", None)])
def test_other_rows_can_be_recorded(
    tmp_path: Path, run_tiny: Run, notebook: SimpleNamespace, rows: str, expected: str | None
) -> None:
    """With capture_rows, W holds the live tokens or all of them, and says which."""
    assert run_tiny(tmp_path / "out", capture_rows=rows).exit_code == 0

    tokens = np.arange(300) if expected is None else np.flatnonzero(~notebook.dead_mask.numpy())
    with ts.open(tmp_path / "out" / "trajectory") as run:
        np.testing.assert_array_equal(tokens, run.static["captured_indices"])
        last = bits(notebook.weights["embedding.weight"])[tokens]
        np.testing.assert_array_equal(last, run["W"].bits[-1])


def test_metadata_has_the_notebooks_keys(tmp_path: Path, run_tiny: Run, notebook: SimpleNamespace) -> None:
    """metadata.json begins with every key of the notebook's, in its order, with its values."""
    run_tiny(tmp_path / "out")

    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    expected = {
        "experiment": "Thimble 9",
        "date": metadata["date"],
        "total_steps": 15,
        "batch_size": 4,
        "seq_len": 16,
        "learning_rate": 1e-2,
        "weight_decay": 0.1,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
        "vocab_size": 300,
        "hidden_dim": 8,
        "num_layers": 2,
        "num_heads": 2,
        "random_seed": 42,
        "n_dead_tokens": len(notebook.dead_indices),
        "checkpoint_steps": [0, 15],
        "final_loss": notebook.loss[-1].item(),
        "total_epochs": notebook.epoch,
        "device": "cpu",
        "data_shapes": {"W": list(notebook.W.shape), "loss": list(notebook.loss.shape)},
        "notes": metadata["notes"],
    }
    assert list(expected.items()) == list(metadata.items())[: len(expected)]


def test_checkpoints_have_the_notebooks_keys(tmp_path: Path, run_tiny: Run) -> None:
    """Whoever loads the notebook's checkpoints can load ours, without trusting the file."""
    run_tiny(tmp_path / "out")

    found = torch.load(tmp_path / "out" / "checkpoints" / "checkpoint_step_00000.pt", weights_only=True)
    assert {"step", "model_state_dict", "optimizer_state_dict", "rng_state"} <= found.keys()
    assert found["step"] == 0
