"""`trajectory-store import`."""

import dataclasses
from pathlib import Path
from typing import get_args

import click

from ..words import Backend, Codec
from . import terminal


@click.command("import", short_help="Make a run of a safetensors, HDF5, .npy, .npz or .pt file.")
@click.argument("file", type=terminal.PATH)
@click.argument("run", type=terminal.PATH)
@click.option("--backend", type=click.Choice(get_args(Backend)), default="zarr", show_default=True)
@click.option("--codec", type=click.Choice(get_args(Codec)), default="temporal", show_default=True)
@click.option("--block-steps", type=click.IntRange(1), help="Steps encoded together; by default 256 or fewer.")
@click.option(
    "--bfloat16",
    metavar="NAMES",
    help='Arrays whose values are bfloat16, comma-separated; by default every uint16 series, with "" none.',
)
@click.option("--first-step", metavar="NAME=STEP", multiple=True, help="The step of a series' first row; repeatable.")
@click.option("--rename", metavar="OLD=NEW", multiple=True, help="Another name for an array of the file; repeatable.")
@click.option("--name", help="What the array of a .npy file, or of a .pt file with one, is called.")
@click.option("--allow-lossy", is_flag=True, help="Round what bfloat16 cannot hold.")
@click.option("--overwrite", is_flag=True, help="Replace RUN, if it is a run.")
@terminal.JSON
def command(
    file: Path,
    run: Path,
    backend: Backend,
    codec: Codec,
    block_steps: int | None,
    bfloat16: str | None,
    first_step: tuple[str, ...],
    rename: tuple[str, ...],
    name: str | None,
    allow_lossy: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Make the run RUN of FILE: safetensors, HDF5, .npy, .npz or torch's .pt, whatever its name, in little memory.

    An array is a series if its first axis is as long as that of `loss`, or of the largest array. --first-step makes a
    series of a shorter array too. All others are static arrays. An array that cannot be imported is left out, and the
    command says why.
    """
    from ..importing.importer import import_file

    with terminal.progress("Importing") as report:
        imported = import_file(
            file,
            run,
            name=name,
            backend=backend,
            codec=codec,
            block_steps=block_steps,
            bfloat16=None if bfloat16 is None else terminal.names(bfloat16),
            first_step=dict(_first_step(text) for text in first_step),
            rename=dict(_rename(text) for text in rename),
            allow_lossy=allow_lossy,
            overwrite=overwrite,
            progress=report,
        )
    if as_json:
        terminal.echo_json(dataclasses.asdict(imported))
        return
    terminal.echo(*imported.findings)
    terminal.echo(f"Imported {', '.join(imported.series)} at {imported.steps:,} steps to {imported.path}")


def _first_step(text: str) -> tuple[str, int]:
    from ..errors import UsageError

    name, _, step = text.rpartition("=")
    try:
        return name, int(step)
    except ValueError as error:
        raise UsageError(f"--first-step {text!r}: write it as NAME=STEP, such as g=1") from error


def _rename(text: str) -> tuple[str, str]:
    from ..errors import UsageError

    old, equals, new = text.rpartition("=")
    if not equals:
        raise UsageError(f"--rename {text!r}: write it as OLD=NEW, such as 'layer 1=layer_1'")
    return old, new
