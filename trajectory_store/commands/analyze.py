"""`trajectory-store analyze`."""

from pathlib import Path
from typing import get_args

import click

from ..words import PhaseScheme
from . import terminal


class Analyze(click.Command):
    """The command, whose help lists the analyses; only for that are they imported."""

    @property
    def epilog(self) -> str | None:
        """Every analysis by name."""
        from trajectory_store.analysis.catalogue import CATALOGUE, NAMES

        by_token = [name for name, entry in CATALOGUE.items() if entry.index == "token"]
        by_step = [name for name in NAMES if name not in by_token]
        return f"A row a token: {', '.join(by_token)}. A row a step: {', '.join(by_step)}."

    @epilog.setter
    def epilog(self, given: str | None) -> None:
        """click sets it to what the decorator was given: nothing."""


@click.command("analyze", cls=Analyze)
@click.argument("run", type=terminal.PATH)
@click.argument("analyses", nargs=-1, required=True)
@click.option("--series", default="W", show_default=True, metavar="NAME", help="The bfloat16 series to look at.")
@click.option(
    "--scheme",
    type=click.Choice(get_args(PhaseScheme)),
    default="regimes",
    show_default=True,
    help="How phases, reheating and lifecycles sort moves.",
)
@click.option("--other", type=terminal.PATH, metavar="RUN", help="The run that divergence compares with.")
@click.option("-o", "--output", type=terminal.PATH, help="Write to this .csv, .json, .npz or .parquet file.")
@terminal.JSON
def command(
    run: Path,
    analyses: tuple[str, ...],
    series: str,
    scheme: PhaseScheme,
    other: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Answer ANALYSES about RUN in one pass, as a table.

    Prints CSV, or JSON with --json. Several analyses become columns of one table if they have the same rows.
    """
    import contextlib

    from ..analysis import catalogue, table_files
    from ..run import open_run

    names = [name.replace("-", "_") for name in analyses]
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_run(run))
        compared = None if other is None else stack.enter_context(open_run(other))
        report = stack.enter_context(terminal.progress("Analyzing"))
        found = catalogue.tables(
            opened, names, series=series, scheme=catalogue.SCHEMES[scheme], other=compared, progress=report
        )
    if output is not None:
        table_files.write_tables(output, found)
        terminal.echo(f"Wrote {output}")
    elif as_json:
        terminal.echo_json(table_files.json_columns(found))
    else:
        for number, table in enumerate(found):
            terminal.echo(*[""] * bool(number), *table_files.csv_text(table).splitlines())
