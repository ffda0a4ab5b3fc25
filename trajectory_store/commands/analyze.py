"""`trajectory-store analyze`."""

from pathlib import Path

import click

from . import terminal

ANALYSES = (
    *("freeze_onset", "cohort_onset", "stumbles", "lifecycles", "displacement", "aggregates", "stillness", "phases"),
    *("reheating", "activity", "cloud", "separation", "unique_rows", "bulk", "velocity", "radial", "adam_accounting"),
    *("phase_space", "divergence"),
)
"""The names of `analysis.catalogue`, spelled out so that --help needs nothing else."""


@click.command(
    "analyze",
    epilog=f"The analyses: {', '.join(ANALYSES)}. The first four have a row a token, the others a row a step.",
)
@click.argument("run", type=terminal.PATH)
@click.argument("analyses", nargs=-1, required=True)
@click.option("--series", default="W", show_default=True, metavar="NAME", help="The bfloat16 series to look at.")
@click.option(
    "--scheme",
    type=click.Choice(["regimes", "five-states", "lattice"]),
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
    scheme: str,
    other: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Answer ANALYSES about RUN in one pass, as a table.

    Prints CSV, or JSON with --json. Several analyses become columns of one table where they have the same rows.
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
