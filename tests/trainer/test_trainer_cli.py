"""The command line: what it refuses, what it says, and how it ends."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file, save_file

import trajectory_store as ts
from tests.trainer.conftest import set_options
from trainer import budget
from trainer.config import Config
from trainer.presets import PRESETS
from trajectory_store.backends.manifest import load

Run = Callable[..., Result]


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(result: Result, sentence: str) -> None:
    """Exit 2 and one line that says why."""
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_the_version_is_the_packages(trainer: Run) -> None:
    """Both come from one distribution."""
    assert trainer("--version").output.endswith(f", version {ts.__version__}\n")


@pytest.mark.parametrize("command", [[], ["prepare"], ["run"], ["verify"], ["presets"]])
def test_every_command_has_help(trainer: Run, command: list[str]) -> None:
    """`--help` says what the command and each option is for."""
    result = trainer(*command, "--help")

    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_help_imports_neither_torch_nor_zarr() -> None:
    """So it answers soon: with what the store's own help needs."""
    script = (
        "import sys\nfrom trainer.cli import main\n"
        "try:\n    main(['run', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'zarr', 'tokenizers', 'tqdm'} & sys.modules.keys()\nsys.exit(str(heavy) if heavy else 0)"
    )

    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert (found.returncode, found.stderr) == (0, "")


def test_presets_are_listed(trainer: Run) -> None:
    """By name with every value, for people and for scripts."""
    listed = json.loads(trainer("presets", "--json").output)

    assert list(listed) == ["demo", "thimble-8", "thimble-9", "crucible"]
    assert listed["thimble-9"]["total_steps"] == 10_000
    assert listed["thimble-8"]["series"] == ["W", "m", "v", "g"]
    assert (listed["crucible"]["learning_rate"], listed["crucible"]["weight_decay"]) == (1e-3, 0.0)
    assert "crucible\n  experiment = Crucible\n" in trainer("presets").output


def test_every_preset_has_the_notebooks_model() -> None:
    """Presets differ in steps, batch and optimizer, never in the model."""
    for key in ("vocab_size", "hidden_dim", "num_layers", "num_heads", "seq_len", "random_seed"):
        assert len({getattr(config, key) for config in PRESETS.values()}) == 1


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("momentum=0.9", "unknown configuration key 'momentum'"),
        ("total_steps", "a setting is written key=value"),
        ("total_steps=", "total_steps = '': expected a whole number"),
        ("total_steps=0", "total_steps = 0: expected a whole number from 1"),
        ("total_steps=1.5", "expected a whole number"),
        ("batch_size=-4", "batch_size = -4"),
        ("seq_len=1", "seq_len = 1"),
        ("learning_rate=fast", "learning_rate = 'fast': expected a number"),
        ("learning_rate=nan", "learning_rate = nan"),
        ("weight_decay=-1", "weight_decay = -1.0"),
        ("beta1=1", "beta1 = 1.0"),
        ("epsilon=inf", "epsilon = inf"),
        ("num_heads=3", "hidden_dim = 8 is not divisible by num_heads = 3"),
        ("num_layers=0", "num_layers = 0"),
        ("random_seed=-1", "random_seed = -1"),
        ("checkpoint_steps=0,99", "step 99 is past the last step, total_steps = 15"),
        ("checkpoint_steps=5,3", "expected increasing steps"),
        ("checkpoint_steps=a", "expected whole numbers with commas"),
        ("checkpoint_every=10h", "checkpoint_every = '10h'"),
        ("checkpoint_every=0", "checkpoint_every = '0'"),
        ("series=W,x", "series = 'x': expected one of W, m, v, g"),
        ("series=W,W", "a name is given twice"),
        ("capture_rows=some", "capture_rows = 'some'"),
        ("device=tpu", "device = 'tpu'"),
        ("device=mps", "finds no such device"),
        ("experiment=", "experiment is empty"),
        ("vocab_size=301", "the tokenizer has 300 entries and vocab_size is 301"),
        ("batch_size=28", "fewer than one batch of 28"),
        ("seq_len=5000", "fewer than one batch"),
    ],
)
def test_bad_settings_are_refused(tmp_path: Path, run_tiny: Run, setting: str, sentence: str) -> None:
    """Each with one sentence, before anything is written."""
    key, _, value = setting.partition("=")
    options = {"changes": {key: value}} if "=" in setting else {"changes": {}}

    result = run_tiny(tmp_path / "out", *([] if "=" in setting else ["--set", setting]), **options["changes"])

    assert_refused(result, sentence)
    assert not list(tmp_path.iterdir())


def test_a_setting_twice_is_refused(tmp_path: Path, run_tiny: Run) -> None:
    """Which one was meant is not guessed."""
    assert_refused(run_tiny(tmp_path / "out", "--set", "total_steps=4"), "total_steps is set twice")


def test_configuration_file(tmp_path: Path, trainer: Run, data: Path) -> None:
    """TOML sets keys of every type; --set goes over it."""
    toml = tmp_path / "tiny.toml"
    toml.write_text(
        'experiment = "From a file"\ntotal_steps = 50\nvocab_size = 300\nseq_len = 16\nbatch_size = 4\nhidden_dim = 8\n'
        'learning_rate = 1\nweight_decay = 0.0\ncheckpoint_steps = [0, 3]\nseries = ["W"]\n'
    )

    result = trainer("run", "--data", data, "--out", tmp_path / "out", "--config", toml, "--set", "total_steps=3")

    assert result.exit_code == 0
    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert (metadata["experiment"], metadata["total_steps"]) == ("From a file", 3)
    assert (metadata["checkpoint_steps"], metadata["learning_rate"]) == ([0, 3], 1.0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("total_steps =", "not a TOML file"),
        ("steps = 4", "unknown configuration key 'steps'"),
        ("num_layers = true", "num_layers = True: expected a whole number"),
        ("num_layers = 4.0", "num_layers = 4.0: expected a whole number"),
        ("[training]\ntotal_steps = 4", "unknown configuration key 'training'"),
        (None, "cannot read the configuration"),
    ],
)
def test_bad_configuration_file(tmp_path: Path, run_tiny: Run, text: str | None, sentence: str) -> None:
    """A broken, unknown or missing one is one sentence."""
    toml = tmp_path / "bad.toml"
    if text is not None:
        toml.write_text(text)

    assert_refused(run_tiny(tmp_path / "out", "--config", toml), sentence)


def test_checkpoints_follow_a_changed_length(tmp_path: Path, run_tiny: Run) -> None:
    """A shorter run keeps the preset's checkpoints that it reaches and adds one at its end."""
    run_tiny(tmp_path / "out", total_steps=5)

    names = sorted(path.name for path in (tmp_path / "out" / "checkpoints").iterdir())
    assert names == ["checkpoint_step_00000.pt", "checkpoint_step_00005.pt"]


def _masks(**changes: Callable[[torch.Tensor], torch.Tensor] | None) -> Callable[[Path], None]:
    def spoil(data: Path) -> None:
        path = data / "live_dead_tokens.safetensors"
        tensors = load_file(path)
        for name, change in changes.items():
            if change is None:
                del tensors[name]
            else:
                tensors[name] = change(tensors[name]).contiguous()
        save_file(tensors, path)

    return spoil


def _write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda data: (data / name).write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (shutil.rmtree, "no such data folder; make one with `trainer prepare"),
        (lambda data: (data / "corpus.txt").unlink(), "corpus.txt: cannot read the text"),
        (lambda data: (data / "tokenizer.json").unlink(), "tokenizer.json: cannot read the tokenizer"),
        (lambda data: (data / "live_dead_tokens.safetensors").unlink(), "cannot read the masks"),
        (_write("tokenizer.json", b'{"model": 3}'), "tokenizer.json: not a tokenizer"),
        (_write("tokenizer.json", b"\xff\xfe"), "tokenizer.json: cannot read the tokenizer"),
        (_write("live_dead_tokens.safetensors", b"nonsense"), "not a safetensors file"),
        (_write("live_dead_tokens.safetensors", b""), "not a safetensors file"),
        (_write("corpus.txt", b"\xff" * 50), "not UTF-8 text"),
        (_write("corpus.txt", b"too short"), "fewer than one batch of 4"),
        (_masks(dead_mask=lambda mask: mask[:-1]), "dead_mask has 299 entries and the vocabulary 300"),
        (_masks(dead_mask=lambda mask: mask.reshape(2, 150)), "dead_mask is not a list of flags"),
        (_masks(dead_mask=torch.zeros_like), "no token is dead"),
        (_masks(dead_mask=None), "holds no tensor 'dead_mask'"),
        (_masks(dead_indices=None), "holds no tensor 'dead_indices'"),
        (_masks(dead_indices=lambda ids: ids[1:]), "not the increasing positions that dead_mask marks"),
        (_masks(dead_indices=lambda ids: ids.flip(0)), "not the increasing positions that dead_mask marks"),
        (_masks(dead_indices=lambda ids: ids.float()), "dead_indices is not a list of ids"),
    ],
)
def test_bad_data_is_refused(
    tmp_path: Path, trainer: Run, data: Path, spoil: Callable[[Path], object], sentence: str
) -> None:
    """Missing, unreadable or disagreeing files are one sentence, and no run begins."""
    shutil.copytree(data, tmp_path / "data")
    spoil(tmp_path / "data")

    result = trainer(
        "run", "--preset", "thimble-9", "--data", tmp_path / "data", "--out", tmp_path / "out", *set_options()
    )

    assert_refused(result, sentence)
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_masks_of_other_integers_are_taken_as_the_notebook_does(
    tmp_path: Path, trainer: Run, data: Path, notebook: SimpleNamespace
) -> None:
    """`.bool()` and `.long()` of whatever whole numbers the file holds."""
    shutil.copytree(data, tmp_path / "data")
    _masks(dead_mask=lambda mask: mask.to(torch.uint8), dead_indices=lambda ids: ids.to(torch.int32))(tmp_path / "data")

    result = trainer(
        "run", "--preset", "thimble-9", "--data", tmp_path / "data", "--out", tmp_path / "out", *set_options()
    )

    assert result.exit_code == 0
    assert f"Dead tokens: {len(notebook.dead_indices)}" in result.output


def test_an_existing_run_is_not_touched(tmp_path: Path, run_tiny: Run) -> None:
    """Refused without --resume or --overwrite, and every byte stays."""
    run_tiny(tmp_path / "out")
    before = contents(tmp_path)

    result = run_tiny(tmp_path / "out")

    assert_refused(result, "go on with it (--resume) or replace it (--overwrite)")
    assert before == contents(tmp_path)


def test_overwrite_leaves_nothing_of_the_old_run(tmp_path: Path, run_tiny: Run) -> None:
    """Checkpoints, export and metadata of the replaced run go with its recording."""
    run_tiny(tmp_path / "out", "--export", checkpoint_steps="0,2,4")

    result = run_tiny(tmp_path / "out", "--overwrite", checkpoint_steps="0,15", random_seed=3)

    assert result.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["checkpoints", "metadata.json", "trajectory"]
    assert len(list((tmp_path / "out" / "checkpoints").iterdir())) == 2
    assert json.loads((tmp_path / "out" / "metadata.json").read_text())["random_seed"] == 3


@pytest.mark.parametrize("options", [[], ["--overwrite"], ["--resume"], ["--resume", "--no-capture"]])
def test_a_foreign_folder_is_never_replaced(tmp_path: Path, run_tiny: Run, options: list[str]) -> None:
    """--overwrite replaces runs, not whatever else is at the path."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("unique")
    (tmp_path / "file").write_text("unique")

    for name, sentence in (("thesis", "there already; choose another"), ("file", "is not a folder")):
        result = run_tiny(tmp_path / name, *options)
        assert_refused(result, "there is no run" if "--resume" in options else sentence)
    assert set(contents(tmp_path).values()) == {b"unique"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--resume"], "there is no run to resume"),
        (["--resume", "--overwrite"], "give one of them"),
        (["--no-capture", "--export"], "--export needs a recording"),
        (["--preset", "thimble-10"], "no preset 'thimble-10'; the presets are demo, thimble-8"),
        (["--backend", "hdf5"], "'hdf5' is not one of"),
    ],
)
def test_options_that_contradict_are_refused(tmp_path: Path, run_tiny: Run, options: list[str], sentence: str) -> None:
    """Each with one sentence, before anything is written."""
    assert_refused(run_tiny(tmp_path / "out", *options), sentence)
    assert not list(tmp_path.iterdir())


def test_resume_needs_the_same_kind_of_run(tmp_path: Path, run_tiny: Run) -> None:
    """A recorded run cannot go on unrecorded, nor the other way round."""
    run_tiny(tmp_path / "a")
    run_tiny(tmp_path / "b", "--no-capture")

    assert_refused(run_tiny(tmp_path / "a", "--resume", "--no-capture"), "resume it without --no-capture")
    assert_refused(run_tiny(tmp_path / "b", "--resume"), "resume it with --no-capture")
    assert_refused(run_tiny(tmp_path / "a", "--overwrite", "--no-capture"), "does not replace one that is")


def test_the_plan_is_printed_before_step_0(tmp_path: Path, run_tiny: Run) -> None:
    """The notebook's lines, then what the run needs and what there is."""
    output = run_tiny(tmp_path / "out").output

    for line in (
        "Using device: cpu",
        "Random seed set to 42",
        "Loaded tokenizer with vocab size 300",
        "Dataset: 27 sequences of length 16",
        "Total tokens: 432",
        "Optimizer: AdamW for-loop",
        "  a step ",
        "  all, raw ",
        "  on disk ",
        "  checkpoints 2 × ",
        "  free disk ",
        "  memory ",
        "Saved checkpoint at step 15",
        "Training complete. Final loss: ",
        "Completed 3 epochs",
    ):
        assert line in output
    assert output.index("free disk") < output.index("Starting training")


@pytest.mark.parametrize(
    ("what", "sentence"), [("_free_disk", "on disk and 1.00 kB are free"), ("_free_memory", "of memory")]
)
def test_a_run_that_cannot_fit_is_refused(
    tmp_path: Path, run_tiny: Run, monkeypatch: pytest.MonkeyPatch, what: str, sentence: str
) -> None:
    """Too little disk or memory ends it before the folder is made."""
    monkeypatch.setattr(budget, what, lambda *_folder: 1_000)

    result = run_tiny(tmp_path / "out")

    assert_refused(result, sentence)
    assert not list(tmp_path.iterdir())


def test_module_is_the_command(tmp_path: Path) -> None:
    """`python -m trainer` runs it, and an error is one line on standard error."""
    found = subprocess.run(
        [sys.executable, "-m", "trainer", "run", "--data", str(tmp_path / "no"), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert found.returncode == 2
    assert found.stderr.startswith("Error: ")
    assert found.stderr.count("\n") == 1


@pytest.mark.parametrize("n_tokens", [10, 3_699, 10_000, 88_000, 400_000])
def test_the_budget_has_room_for_the_stores_blocks(n_tokens: int, tmp_path: Path) -> None:
    """The journal holds two blocks of as many steps as the store gives a run of such rows."""
    series = {"W": ts.Series((n_tokens, 64), "bfloat16"), "loss": ts.Series((), "float32")}
    ts.create(tmp_path / "run", series).close()
    found = budget.estimate(
        Config(total_steps=10_000),
        series,
        tmp_path,
        backend="zarr",
        device="cpu",
        checkpoint_bytes=0,
        with_export=False,
    )

    assert found.journal_bytes == 2 * load(tmp_path / "run").block_steps * (n_tokens * 64 * 2 + 4)


def test_a_run_that_records_nothing_needs_no_journal(tmp_path: Path) -> None:
    """No series, no block, nothing on disk but checkpoints."""
    found = budget.estimate(Config(), {}, tmp_path, backend="zarr", device="cpu", checkpoint_bytes=7, with_export=False)

    assert (found.journal_bytes, found.disk_bytes, found.checkpoint_bytes) == (0, 0, 7)
