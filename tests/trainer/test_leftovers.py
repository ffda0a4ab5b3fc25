"""What a run removes from its folder is what a run writes there, and nothing of a neighbour's."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result

import trajectory_store as ts
from trainer.output import Options, leftovers

Run = Callable[..., Result]

OURS = (
    ".trajectory.0123abcd.partial/manifest.json",
    ".trajectory.0123abcd.replaced/manifest.json",
    ".metadata.json.0123abcd.partial",
    ".thimble_9_trajectory.safetensors.0123abcd.partial",
    ".thimble_8_trajectory.safetensors.0123abcd.partial",
    "checkpoints/.checkpoint_step_00003.pt.0123abcd.partial",
    "checkpoints/.rolling_step_00003.pt.0123abcd.partial",
)
"""A file of each kind that a killed run leaves."""

NEIGHBOURS = (
    ".notes.partial",
    ".work.partial/thesis.txt",
    ".x.1234abcd.partial",
    ".x.1234abcd.partial.txt",
    ".metadata.json.partial",
    ".metadata.json.1234ABCD.partial",
    ".metadata.json.1234abcd.replaced",
    ".trajectory.1234abcd.partial.d/thesis.txt",
    ".checkpoint_step_00001.pt.1234abcd.partial",
    "checkpoints/.metadata.json.1234abcd.partial",
    "checkpoints/.checkpoint_step_best.pt.1234abcd.partial",
    "checkpoints/.trajectory.1234abcd.partial/thesis.txt",
    "checkpoints/thesis/.checkpoint_step_00001.pt.1234abcd.partial",
    "thesis/.metadata.json.1234abcd.partial",
    "thesis/.trajectory.1234abcd.replaced/thesis.txt",
)
"""Names that look like them, and are of files that no run writes in that place."""


def put(folder: Path, names: tuple[str, ...]) -> None:
    """A file of each name, one line in each."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("unique")


def links(folder: Path, elsewhere: Path) -> list[Path]:
    """Our own names as what a run never makes of them: links and, in place of a folder, a file."""
    elsewhere.mkdir()
    (elsewhere / "thesis.txt").write_text("unique")
    to_file, to_folder = folder / ".metadata.json.1234abcd.partial", folder / ".trajectory.1234abcd.partial"
    aside, file, in_checkpoints = (
        folder / ".trajectory.1234abcd.replaced",
        folder / ".trajectory.abcd1234.partial",
        folder / "checkpoints" / ".rolling_step_00002.pt.1234abcd.partial",
    )
    to_file.symlink_to(elsewhere / "thesis.txt")
    to_folder.symlink_to(elsewhere)
    aside.symlink_to(elsewhere)
    in_checkpoints.symlink_to(elsewhere / "thesis.txt")
    file.write_text("unique")
    return [to_file, to_folder, aside, file, in_checkpoints]


@pytest.mark.parametrize("options", [["--resume"], ["--overwrite"], ["--resume", "--no-capture"]])
def test_a_neighbours_files_stay_and_ours_go(tmp_path: Path, run_tiny: Run, options: list[str]) -> None:
    """A run that goes on, or replaces another, clears away what killed runs left and no other file."""
    out = tmp_path / "out"
    run_tiny(out, *options[1:], checkpoint_steps="0,9")
    ours = [name for name in OURS if "--no-capture" not in options or ".replaced" not in name]
    put(out, (*ours, *NEIGHBOURS))
    kept = [out / name for name in NEIGHBOURS] + links(out, tmp_path / "elsewhere")

    result = run_tiny(out, *options, checkpoint_steps="0,9")

    assert result.exit_code == 0, result.output
    assert [path for path in kept if not path.is_symlink() and path.read_text() != "unique"] == []
    assert [name for name in ours if (out / name).exists()] == []
    assert (tmp_path / "elsewhere" / "thesis.txt").read_text() == "unique"


@pytest.mark.parametrize("name", NEIGHBOURS[:6])
@pytest.mark.parametrize("options", [[], ["--overwrite"], ["--resume"]])
def test_a_folder_of_a_neighbours_files_is_not_begun_in(
    tmp_path: Path, run_tiny: Run, name: str, options: list[str]
) -> None:
    """Not even where their names end like those of our unfinished writes; nothing is touched."""
    put(tmp_path / "out", (name,))

    result = run_tiny(tmp_path / "out", *options)

    assert result.exit_code == 2
    assert "there already" in result.stderr or "no run in this folder" in result.stderr
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["unique"]


def test_a_folder_of_our_leftovers_alone_is_begun_in(tmp_path: Path, run_tiny: Run) -> None:
    """A run that was killed before it began needs no other command than the first one."""
    out = tmp_path / "out"
    put(out, OURS[:1] + OURS[2:5])

    assert run_tiny(out).exit_code == 0

    assert leftovers(Options(out=out)) == []
    assert sorted(path.name for path in out.iterdir()) == ["checkpoints", "metadata.json", "trajectory"]


@pytest.mark.parametrize("options", [[], ["--resume"]])
def test_what_the_finder_leaves_is_nobodys_file(tmp_path: Path, run_tiny: Run, options: list[str]) -> None:
    """On macOS a folder that was looked at has one more file: a run is begun beside it, and it stays."""
    put(tmp_path / "out", (".DS_Store", "checkpoints/.DS_Store") if options else (".DS_Store",))

    assert run_tiny(tmp_path / "out", *options).exit_code == 0

    assert (tmp_path / "out" / ".DS_Store").read_text() == "unique"


@pytest.fixture
def notebook_folder(tmp_path: Path) -> Path:
    """What the notebook leaves: checkpoints of four keys, metadata and a file of weights, called as ours are."""
    out = tmp_path / "notebook"
    (out / "checkpoints").mkdir(parents=True)
    for step in (0, 15):
        content = {"step": step, "model_state_dict": {}, "optimizer_state_dict": {}, "rng_state": torch.zeros(1)}
        torch.save(content, out / "checkpoints" / f"checkpoint_step_{step:05d}.pt")
    (out / "metadata.json").write_text(json.dumps({"experiment": "Thimble 9"}))
    (out / "thimble_9_trajectory.safetensors").write_bytes(b"unique")
    return out


@pytest.mark.parametrize(
    "options", [[], ["--overwrite"], ["--overwrite", "--no-capture"], ["--resume"], ["--resume", "--no-capture"]]
)
def test_the_notebooks_own_output_is_never_replaced(notebook_folder: Path, run_tiny: Run, options: list[str]) -> None:
    """Its checkpoints cannot be resumed from, so no option takes them for a run of ours; each byte stays."""
    before = {path: path.read_bytes() for path in notebook_folder.rglob("*") if path.is_file()}

    result = run_tiny(notebook_folder, *options)

    assert result.exit_code == 2
    assert "wrote no sound run into it" in result.stderr or "no run in this folder" in result.stderr
    assert before == {path: path.read_bytes() for path in notebook_folder.rglob("*") if path.is_file()}


def test_checkpoints_alone_of_the_notebook_are_not_begun_over(notebook_folder: Path, run_tiny: Run) -> None:
    """Nor where they are all there is, which a resume would take for a run without steps."""
    (notebook_folder / "metadata.json").unlink()
    (notebook_folder / "thimble_9_trajectory.safetensors").unlink()

    result = run_tiny(notebook_folder, "--resume")

    assert result.exit_code == 2
    assert "no run in this folder" in result.stderr
    assert len(list((notebook_folder / "checkpoints").iterdir())) == 2


def test_somebody_elses_recording_is_not_replaced(tmp_path: Path, run_tiny: Run) -> None:
    """A run of another program, in a folder of the same name, keeps its metadata too."""
    out = tmp_path / "out"
    with ts.create(out / "trajectory", {"W": ts.Series((2,), "float32")}) as sink:
        sink.append(0, W=np.zeros(2, np.float32))
    (out / "metadata.json").write_text("unique")

    result = run_tiny(out, "--overwrite")

    assert result.exit_code == 2
    assert "wrote no sound run into it" in result.stderr
    assert (out / "metadata.json").read_text() == "unique"
    assert ts.open(out / "trajectory").steps.tolist() == [0]


def test_a_folder_called_as_a_checkpoint_is_none(tmp_path: Path, run_tiny: Run) -> None:
    """It is neither read nor removed."""
    out = tmp_path / "out"
    run_tiny(out, checkpoint_steps="0,9")
    put(out, ("checkpoints/rolling_step_00003.pt/thesis.txt",))

    assert run_tiny(out, "--overwrite", checkpoint_steps="0,9").exit_code == 0

    assert (out / "checkpoints" / "rolling_step_00003.pt" / "thesis.txt").read_text() == "unique"
