"""`trajectory-store report`."""

from pathlib import Path
from typing import get_args

import click

from ..words import FigureForm
from . import terminal


@click.command("report", short_help="Show what a run did, as one HTML page.")
@click.argument("run", type=terminal.PATH)
@click.option("-o", "--output", type=terminal.PATH, default=Path("report.html"), show_default=True, help="The page.")
@click.option("--series", default="W", show_default=True, metavar="NAME", help="The bfloat16 series to look at.")
@click.option("--tokenizer", type=terminal.PATH, metavar="FILE", help="The run's tokenizer.json, for tokens' strings.")
@click.option("--figures", type=terminal.PATH, metavar="FOLDER", help="Write every figure as a file there too.")
@click.option(
    "--figure-format",
    type=click.Choice(get_args(FigureForm)),
    default="svg",
    show_default=True,
    help="What files; png has 300 dpi and needs the extra `plots`.",
)
@click.option("--overwrite", is_flag=True, help="Replace the page, and the figures, that are there.")
def command(
    run: Path,
    output: Path,
    series: str,
    tokenizer: Path | None,
    figures: Path | None,
    figure_format: FigureForm,
    overwrite: bool,
) -> None:
    """Show what RUN did, as one HTML page that needs nothing else: no network, no other file.

    Losses, freezing, heat, phases, drift, worldlines and the first and last movers.
    """
    from .. import report
    from ..run import open_run
    from ..sizes import format_bytes

    report.refuse_existing(output, figures, form=figure_format, overwrite=overwrite)
    if figures is not None:
        report.renderer(figure_format)  # before the work and not after it
    with open_run(run) as opened, terminal.progress("Analyzing") as bar:
        found = report.findings(opened, series=series, tokenizer=tokenizer, progress=bar)
        n_bytes = report.write_page(found, output)
        names = [] if figures is None else report.write_figures(found, figures, form=figure_format)
    terminal.echo(f"Wrote {output}, {format_bytes(n_bytes)}")
    if figures is not None:
        terminal.echo(f"Wrote {len(names)} figures into {figures}")
