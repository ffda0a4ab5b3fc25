"""`trajectory-store export`."""

from pathlib import Path
from typing import get_args

import click

from ..words import DeclaredAs
from . import terminal


@click.command("export", short_help="Write a run to one safetensors file.")
@click.argument("run", type=terminal.PATH)
@click.argument("out", type=terminal.PATH)
@click.option(
    "--dtype",
    type=click.Choice(get_args(DeclaredAs)),
    default="uint16",
    show_default=True,
    help="What bfloat16 is declared as; the bits are the same.",
)
@click.option("--steps", metavar="A:B:C", help="Only these step numbers, as a Python slice, such as 1000:2000.")
@click.option("--widen", metavar="NAMES", help="Write these bfloat16 series as float32, exactly; comma-separated.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
def command(run: Path, out: Path, dtype: DeclaredAs, steps: str | None, widen: str | None, overwrite: bool) -> None:
    """Write RUN to the safetensors file OUT, byte for byte as `save_file` would, in little memory."""
    from ..export import export_safetensors
    from ..sizes import format_bytes

    with terminal.progress("Exporting") as report:
        export_safetensors(
            run,
            out,
            dtype=dtype,
            steps=step_slice(steps),
            widen=terminal.names(widen),
            overwrite=overwrite,
            progress=report,
        )
    terminal.echo(f"Wrote {out}, {format_bytes(out.stat().st_size)}")


def step_slice(text: str | None) -> slice | None:
    """The slice that a text such as "100:200:10" or ":-5" means. Raises UsageError on anything else."""
    from ..errors import UsageError

    if text is None:
        return None
    try:
        parts = [int(part) if part.strip() else None for part in text.split(":")]
        if not 2 <= len(parts) <= 3:
            raise ValueError
    except ValueError as error:
        raise UsageError(f"--steps {text!r}: give a slice of step numbers, such as 1000:2000 or ::10") from error
    return slice(*parts)
