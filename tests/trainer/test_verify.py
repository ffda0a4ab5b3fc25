"""`trainer verify` trains again and says whether the bits are the reference's."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file, save_file

import trajectory_store as ts
from tests.harness.notebook_reference import save_notebook_file
from trainer import verify as verification

Run = Callable[..., Result]
TINY = (
    *("--preset", "thimble-9", "--set", "vocab_size=300", "--set", "seq_len=16", "--set", "batch_size=4"),
    *("--set", "hidden_dim=8", "--set", "learning_rate=1e-2"),
)


@pytest.fixture
def reference(tmp_path: Path, notebook: SimpleNamespace) -> Path:
    """The file that the notebook writes."""
    path = tmp_path / "reference.safetensors"
    save_notebook_file(notebook, path)
    return path


def change(reference: Path, name: str, index: tuple[int, ...], value: float) -> None:
    """Change one element of a file's tensor."""
    tensors = load_file(reference)
    tensors[name][index] = value
    save_file(tensors, reference)


def test_the_notebooks_file_is_identical(trainer: Run, reference: Path, data: Path) -> None:
    """Every element matches, and the default is every step that the reference has."""
    result = trainer("verify", "--reference", reference, "--data", data, *TINY, "--self-test")

    assert result.exit_code == 0
    assert "✓ BITWISE IDENTICAL" in result.output
    assert "16 steps" in result.output


def test_a_run_is_verified_with_its_own_configuration(
    trainer: Run, run_tiny: Run, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run says how it was trained, threads included, so only the data is asked for."""
    threads: list[int] = []
    monkeypatch.setattr("trainer.state.use_threads", threads.append)
    run_tiny(tmp_path / "out")
    threads.clear()

    for path in (tmp_path / "out", tmp_path / "out" / "trajectory"):
        result = trainer("verify", "--reference", path, "--data", data, "--steps", 7, "--json")

        assert result.exit_code == 0
        assert json.loads(result.output)["steps"] == 7
    assert [torch.get_num_threads()] * 2 == threads


def test_a_difference_is_reported_as_the_notebook_does(trainer: Run, reference: Path, data: Path) -> None:
    """How many differ, where first, step 0, and the first element with both bit patterns."""
    tensors = load_file(reference)
    tensors["W"].view(torch.int16)[4, 2, 5] ^= 1
    tensors["W"].view(torch.int16)[9, 0, 0] ^= 1
    token = int(tensors["dead_indices"][2])
    save_file(tensors, reference)

    result = trainer("verify", "--reference", reference, "--data", data, *TINY)

    total = tensors["W"].numel()
    assert result.exit_code == 1
    assert f"✗ MISMATCH: 2 / {total:,} elements differ ({2 / total:.4%})" in result.output
    assert "First difference at step: 4" in result.output
    assert f"First element: token {token}, dim 5" in result.output
    assert "Step 0 (initialization) matches: True" in result.output
    assert "Loss values match (within tolerance): True" in result.output


def test_a_loss_out_of_tolerance_is_a_difference(trainer: Run, reference: Path, data: Path) -> None:
    """The largest loss difference is named with its step."""
    loss = load_file(reference)["loss"]
    change(reference, "loss", (6,), float(loss[6]) + 0.25)

    result = trainer("verify", "--reference", reference, "--data", data, *TINY)

    assert result.exit_code == 1
    assert "Loss values match (within tolerance): False" in result.output
    assert "Max loss difference at step 6: 0.25" in result.output


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_matches_nothing(trainer: Run, reference: Path, data: Path, value: float) -> None:
    """NaN compares as different, as it does in the notebook's allclose."""
    change(reference, "loss", (3,), value)

    result = trainer("verify", "--reference", reference, "--data", data, *TINY)

    assert result.exit_code == 1
    assert "Max loss difference at step 3" in result.output


def test_another_seed_differs_at_step_0(trainer: Run, reference: Path, data: Path) -> None:
    """Another initialisation is a mismatch from the first step on."""
    result = trainer(
        "verify", "--reference", reference, "--data", data, *TINY, "--set", "random_seed=7", "--steps", 3, "--json"
    )

    report = json.loads(result.output)
    assert result.exit_code == 1
    assert (report["identical"], report["first_step"], report["step0_matches"]) == (False, 0, False)


def test_a_machine_that_does_not_repeat_itself_is_refused(
    trainer: Run, reference: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--self-test` ends with an error where two replays differ."""
    monkeypatch.setattr(verification, "_recorded_bytes", lambda *_arguments: [np.random.bytes(3)])

    result = trainer("verify", "--reference", reference, "--data", data, *TINY, "--self-test")

    assert result.exit_code == 2
    assert "two trainings differ on this cpu" in result.output


def _float32_weights(path: Path) -> None:
    tensors = load_file(path)
    save_file(tensors | {"W": tensors["W"].view(torch.bfloat16).float()}, path)


def _without(name: str) -> Callable[[Path], None]:
    def remove(path: Path) -> None:
        tensors = load_file(path)
        del tensors[name]
        save_file(tensors, path)

    return remove


def _other_tokens(path: Path) -> None:
    tensors = load_file(path)
    save_file(tensors | {"dead_indices": tensors["dead_indices"] + 1}, path)


def _fewer_tokens(path: Path) -> None:
    tensors = load_file(path)
    save_file(tensors | {"W": tensors["W"][:, 1:].contiguous()}, path)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_float32_weights, "expected bfloat16 or its bits"),
        (_without("W"), "no series 'W'"),
        (_without("loss"), "no series 'loss'"),
        (_other_tokens, "other dead tokens"),
        (_fewer_tokens, "a step of the reference is"),
        (lambda path: path.write_bytes(b"no safetensors file at all"), "reference.safetensors"),
        (Path.unlink, "reference.safetensors"),
    ],
)
def test_a_reference_that_cannot_be_compared_is_an_error(
    trainer: Run, reference: Path, data: Path, spoil: Callable[[Path], object], sentence: str
) -> None:
    """Another shape, dtype or kind of file is exit 2 with one sentence, not a mismatch."""
    spoil(reference)

    result = trainer("verify", "--reference", reference, "--data", data, *TINY)

    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_more_steps_than_the_reference_has_are_refused(trainer: Run, reference: Path, data: Path) -> None:
    """The reference's end is named."""
    result = trainer("verify", "--reference", reference, "--data", data, *TINY, "--steps", 16)

    assert result.exit_code == 2
    assert "ends at step 15, before 16" in result.stderr


@pytest.mark.parametrize(
    ("attrs", "sentence"),
    [
        ({"config": "a path"}, None),
        ({"config": ["lr", 3]}, None),
        ({"fingerprint": "a word"}, None),
        ({"fingerprint": {"bits": [1]}}, None),
        ({"config": {"lr": 3}}, "unknown configuration key 'lr'"),
        ({"config": {"learning_rate": [3]}}, "learning_rate = [3]: expected a number"),
        ({"config": {"seq_len": 16}, "fingerprint": {"bits": {"threads": "all"}}}, "num_threads = 'all'"),
    ],
)
def test_a_run_of_another_program_may_say_anything(
    trainer: Run, tmp_path: Path, notebook: SimpleNamespace, data: Path, attrs: dict[str, object], sentence: str | None
) -> None:
    """What its attributes hold is no configuration of ours: a preset is taken, or one sentence says what is wrong."""
    dead = notebook.dead_indices
    series = {"W": ts.Series((len(dead), 8), "bfloat16"), "loss": ts.Series((), "float32")}
    ts.create(tmp_path / "run", series, attrs=attrs).close()

    result = trainer("verify", "--reference", tmp_path / "run", "--data", data, "--steps", 1)

    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert (sentence or "the tokenizer has 300 entries and vocab_size is 10,000") in result.stderr


@pytest.mark.parametrize("attrs", [{"config": "a path"}, {"config": {"lr": 3}}, {"fingerprint": 7}])
def test_a_run_of_another_program_is_not_gone_on_with(run_tiny: Run, tmp_path: Path, attrs: dict[str, object]) -> None:
    """In a folder of the same name: its configuration is another one."""
    ts.create(tmp_path / "out" / "trajectory", {"W": ts.Series((2,), "float32")}, attrs=attrs).close()

    result = run_tiny(tmp_path / "out", "--resume")

    assert result.exit_code == 2
    assert "this run was begun with another configuration" in result.stderr
