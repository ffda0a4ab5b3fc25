"""The `trainer` command: parse, call, print, exit code.

0 is done or identical, 1 a difference, 2 wrong use or an error with one sentence, 130 and 143 an interrupted run that
can be resumed. Whatever needs torch is imported by the command that uses it, so that `--help` answers at once.
"""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trajectory_store import conventions
from trajectory_store.commands import terminal
from trajectory_store.commands.terminal import JSON, PATH

if TYPE_CHECKING:
    import trajectory_store as ts

    from .config import Config
    from .verify import Reference


@click.group(cls=terminal.Commands, context_settings={"help_option_names": ["-h", "--help"]})
@terminal.VERSION
def main() -> None:
    """Train the notebook's tiny language model and record its token embeddings at every step."""


def _configuration_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set one key; repeatable."),
        click.option("--config", "config_file", type=PATH, help="A TOML file of keys; --set goes over it."),
    ):
        command = option(command)
    return command


def _configure(base: "Config", config_file: Path | None, settings: tuple[str, ...]) -> "Config":
    from . import config

    given = config.settings_from_toml(config_file) if config_file else {}
    return config.with_settings(base, given | config.settings_from_pairs(settings))


@main.command(short_help="Make a data folder of a text.")
@click.argument("data", type=PATH)
@click.option("--corpus", type=PATH, help="The text to train on (.txt, .xz, .gz).")
@click.option("--tokenizer-corpus", type=PATH, multiple=True, help="Text the tokenizer is made from; repeatable.")
@click.option("--fineweb", is_flag=True, help="Stream the notebooks' own FineWeb texts (needs `datasets`).")
@click.option("--vocab-size", default=10_000, show_default=True, help="Entries of the tokenizer, exactly.")
@click.option("--overwrite", is_flag=True, help="Replace a data folder.")
def prepare(
    data: Path,
    corpus: Path | None,
    tokenizer_corpus: tuple[Path, ...],
    fineweb: bool,
    vocab_size: int,
    overwrite: bool,
) -> None:
    """Make the folder DATA: text, tokenizer, dead-token masks and where they come from.

    Without a source it uses the English documentation that every Python installation carries; no download.
    """
    from .prepare import prepare as make

    provenance = make(
        data,
        corpus_file=corpus,
        tokenizer_corpus_files=tokenizer_corpus,
        fineweb=fineweb,
        vocab_size=vocab_size,
        overwrite=overwrite,
        report=terminal.echo,
    )
    terminal.echo(f"Tokenizer: {provenance['vocab_size']:,} entries; the corpus is {provenance['tokens']:,} tokens")
    terminal.echo(f"Dead tokens: {provenance['dead_tokens']:,}, live tokens: {provenance['live_tokens']:,}")
    for script, count in provenance["demographics"].items():
        terminal.echo(f"  {script:<12}{count['entries']:>7,} entries {count['dead']:>7,} dead")
    terminal.echo(f"Saved {data}")


@main.command()
@click.option("--preset", default="demo", show_default=True, metavar="NAME", help="See `trainer presets`.")
@click.option("--data", type=PATH, required=True, help="A folder made by `trainer prepare`.")
@click.option("--out", type=PATH, required=True, help="The folder to record into.")
@_configuration_options
@click.option("--resume", is_flag=True, help="Go on with the run in OUT from its newest sound checkpoint.")
@click.option("--overwrite", is_flag=True, help="Replace the run in OUT.")
@click.option("--backend", type=click.Choice(["zarr", "memmap"]), default="zarr", show_default=True)
@click.option(
    "--durability",
    type=click.Choice(["process", "power", "none"]),
    default="process",
    show_default=True,
    help="What a recorded step survives.",
)
@click.option("--export", is_flag=True, help="Write the notebook's safetensors file at the end.")
@click.option("--no-capture", is_flag=True, help="Train without recording, to see what recording costs.")
@click.option("--allow-different-environment", is_flag=True, help="Resume although bits may differ from here on.")
def run(
    preset: str,
    data: Path,
    out: Path,
    settings: tuple[str, ...],
    config_file: Path | None,
    resume: bool,
    overwrite: bool,
    backend: "ts.Backend",
    durability: "ts.Durability",
    export: bool,
    no_capture: bool,
    allow_different_environment: bool,
) -> None:
    """Train and record every step into OUT."""
    from trajectory_store.errors import StorageError

    from . import output, presets
    from .data import load_data
    from .interruption import Interruption
    from .run_folder import RunFolder
    from .state import choose_device, use_threads

    config = _configure(presets.preset(preset), config_file, settings)
    options = output.Options(
        out=out,
        preset=preset,
        resume=resume,
        overwrite=overwrite,
        backend=backend,
        durability=durability,
        export=export,
        capture=not no_capture,
        allow_different_environment=allow_different_environment,
    )
    output.check_out(options)
    device = choose_device(config.device)
    use_threads(config.num_threads)
    training_data = load_data(data, config)
    folder = RunFolder(config, training_data, device, options, _write_above_bar)
    folder.print_plan(training_data)
    if not resume:
        folder.require_room()
    try:
        with Interruption() as interruption:
            is_complete = folder.record(lambda: interruption.is_wanted)
    except StorageError as error:
        if not folder.is_begun:
            raise
        sentence = terminal.OneSentence(str(error))
        sentence.show()
        stopped = f"Stopped at step {folder.state.step}; what was recorded stays. Then go on with:"
        terminal.echo("", stopped, f"  {_resume_command()}", err=True)
        sys.exit(sentence.exit_code)
    if not is_complete and interruption.signal_number is not None:
        stopped = f"Stopped after step {folder.state.step}; every step until then is recorded. Go on with:"
        terminal.echo("", stopped, f"  {_resume_command()}")
        sys.exit(128 + interruption.signal_number)


def _write_above_bar(text: str) -> None:
    """Print lines where they do not cut through a bar, as `terminal.echo` would."""
    from tqdm import tqdm

    from trajectory_store.plain_text import printable

    tqdm.write("\n".join(map(printable, text.split("\n"))))


def _resume_command() -> str:
    program = "trainer" if Path(sys.argv[0]).name == "trainer" else "python -m trainer"
    kept = [argument for argument in sys.argv[1:] if argument not in ("--overwrite", "--resume")]
    return f"{program} {shlex.join([*kept, '--resume'])}"


@main.command(short_help="Train again and compare, bit for bit.")
@click.option("--reference", type=PATH, required=True, help="A run, the folder around it, or a safetensors file.")
@click.option("--data", type=PATH, required=True, help="The data folder the reference was trained on.")
@click.option("--preset", metavar="NAME", help="Default: the reference's own configuration, else thimble-9.")
@click.option("--steps", type=click.IntRange(min=1), help="Default: 1,000, or as many as the reference has.")
@_configuration_options
@click.option("--self-test", is_flag=True, help="First see whether this machine repeats its own bits.")
@JSON
@click.pass_context
def verify(
    ctx: click.Context,
    reference: Path,
    data: Path,
    preset: str | None,
    steps: int | None,
    settings: tuple[str, ...],
    config_file: Path | None,
    self_test: bool,
    as_json: bool,
) -> None:
    """Train again and compare with a reference, bit for bit; exit 0 if identical, 1 if not."""
    from trajectory_store.errors import UsageError

    from . import verify as verification
    from .data import load_data
    from .state import choose_device, use_threads

    recorded = verification.Reference(reference)
    config = _configure(_verified_config(recorded, preset), config_file, settings)
    config = verification.verification_config(config, steps or verification.default_steps(recorded))
    device = choose_device(config.device)
    use_threads(config.num_threads)
    training_data = load_data(data, config)
    if self_test and not verification.is_deterministic(config, training_data, device):
        raise UsageError(f"two trainings differ on this {device}, so no comparison would mean anything")
    if not as_json:
        terminal.echo(f"VERIFICATION: comparing {config.total_steps + 1:,} steps with {reference}")
        for line in verification.environment_differences(recorded, config, training_data, device):
            terminal.echo(f"  the environment differs: {line}")
    found = verification.verify(config, training_data, device, recorded)
    if as_json:
        terminal.echo_json(found.to_json())
    else:
        terminal.echo(*found.lines())
    ctx.exit(0 if found.identical else terminal.EXIT_DIFFERENT)


def _verified_config(reference: "Reference", preset: str | None) -> "Config":
    """What to train: the named preset, or the reference's configuration on as many threads as it had."""
    from . import presets
    from .config import Config, with_settings
    from .fingerprint import said

    recorded = said(reference.about, conventions.CONFIG)
    if preset is not None or not recorded:
        return presets.preset(preset or "thimble-9")
    config = Config.from_json(recorded)
    threads = said(reference.about, conventions.FINGERPRINT, "bits").get("threads", 0)
    return config if config.num_threads else with_settings(config, {"num_threads": threads})


@main.command("presets")
@JSON
def list_presets(as_json: bool) -> None:
    """List the presets and their values."""
    from .presets import PRESETS

    values = {name: config.to_json() for name, config in PRESETS.items()}
    if as_json:
        terminal.echo_json(values)
        return
    for name, config in values.items():
        terminal.echo(name)
        for key, value in config.items():
            terminal.echo(f"  {key} = {','.join(map(str, value)) if isinstance(value, list) else value}")
