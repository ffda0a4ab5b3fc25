"""The `trainer` command: parse, call, print, exit code.

0 is done or identical, 1 a difference, 2 wrong use or an error with one sentence, 130 and 143 an interrupted run that
can be resumed. Whatever needs torch is imported by the command that uses it, so that `--help` answers at once.
"""

import json
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from .config import Config
    from .verify import Reference

PATH = click.Path(path_type=Path)


class OneSentence(click.ClickException):
    """An error of ours on its way to the terminal."""

    exit_code = 2


class Commands(click.Group):
    """A group whose commands' errors are printed as one sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; our errors become exit code 2, Ctrl-C 130."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(128 + signal.SIGINT)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            from trajectory_store.errors import TrajectoryError

            if isinstance(error, TrajectoryError):
                raise OneSentence(str(error)) from error
            raise


def _say_version(ctx: click.Context, _option: click.Parameter, is_asked: bool) -> None:
    if is_asked and not ctx.resilient_parsing:
        import trajectory_store

        click.echo(f"{ctx.info_name}, version {trajectory_store.__version__}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_say_version,
    help="Show the version and exit.",
)
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


@main.command()
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
        report=click.echo,
    )
    click.echo(f"Tokenizer: {provenance['vocab_size']:,} entries; the corpus is {provenance['tokens']:,} tokens")
    click.echo(f"Dead tokens: {provenance['dead_tokens']:,}, live tokens: {provenance['live_tokens']:,}")
    for script, count in provenance["demographics"].items():
        click.echo(f"  {script:<12}{count['entries']:>7,} entries {count['dead']:>7,} dead")
    click.echo(f"Saved {data}")


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
    backend: str,
    durability: str,
    export: bool,
    no_capture: bool,
    allow_different_environment: bool,
) -> None:
    """Train and record every step into OUT."""
    from tqdm import tqdm

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
    folder = RunFolder(config, training_data, device, options, tqdm.write)
    folder.print_plan(training_data)
    if not resume:
        folder.require_room()
    try:
        with Interruption() as interruption:
            is_complete = folder.record(lambda: interruption.is_wanted)
    except StorageError as error:
        if not folder.is_begun:
            raise
        stopped = f"Stopped at step {folder.state.step}; what was recorded stays. Then go on with:"
        raise OneSentence(f"{error}\n\n{stopped}\n  {_resume_command()}") from error
    if not is_complete and interruption.signal_number is not None:
        click.echo(f"\nStopped after step {folder.state.step}; every step until then is recorded. Go on with:")
        click.echo(f"  {_resume_command()}")
        sys.exit(128 + interruption.signal_number)


def _resume_command() -> str:
    program = "trainer" if Path(sys.argv[0]).name == "trainer" else "python -m trainer"
    kept = [argument for argument in sys.argv[1:] if argument not in ("--overwrite", "--resume")]
    return f"{program} {shlex.join([*kept, '--resume'])}"


@main.command()
@click.option("--reference", type=PATH, required=True, help="A run, the folder around it, or a safetensors file.")
@click.option("--data", type=PATH, required=True, help="The data folder the reference was trained on.")
@click.option("--preset", metavar="NAME", help="Default: the reference's own configuration, else thimble-9.")
@click.option("--steps", type=click.IntRange(min=1), help="Default: 1,000, or as many as the reference has.")
@_configuration_options
@click.option("--self-test", is_flag=True, help="First see whether this machine repeats its own bits.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
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
        click.echo(f"VERIFICATION: comparing {config.total_steps + 1:,} steps with {reference}")
        for line in verification.environment_differences(recorded, config, training_data, device):
            click.echo(f"  the environment differs: {line}")
    found = verification.verify(config, training_data, device, recorded)
    click.echo(json.dumps(found.to_json(), indent=2) if as_json else "\n".join(found.lines()))
    ctx.exit(0 if found.identical else 1)


def _verified_config(reference: "Reference", preset: str | None) -> "Config":
    """What to train: the named preset, or the reference's configuration on as many threads as it had."""
    from . import presets
    from .config import Config, with_settings

    recorded = reference.about.get("config")
    if preset is not None or not recorded:
        return presets.preset(preset or "thimble-9")
    config = Config.from_json(recorded)
    threads = reference.about.get("fingerprint", {}).get("bits", {}).get("threads", 0)
    return config if config.num_threads else with_settings(config, {"num_threads": threads})


@main.command("presets")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def list_presets(as_json: bool) -> None:
    """List the presets and their values."""
    from .presets import PRESETS

    values = {name: config.to_json() for name, config in PRESETS.items()}
    if as_json:
        click.echo(json.dumps(values, indent=2))
        return
    for name, config in values.items():
        click.echo(name)
        for key, value in config.items():
            click.echo(f"  {key} = {','.join(map(str, value)) if isinstance(value, list) else value}")
