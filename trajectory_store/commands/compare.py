"""`trajectory-store compare`."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import terminal

if TYPE_CHECKING:
    from ..comparison import Comparison


@click.command("compare", short_help="Compare two runs or files bit for bit.")
@click.argument("a", type=terminal.PATH)
@click.argument("b", type=terminal.PATH)
@click.option(
    "--series", metavar="NAMES", multiple=True, help="Compare only these series and static arrays; comma-separated."
)
@click.option("--prefix", is_flag=True, help="Exit 0 also if one is a prefix of the other.")
@terminal.JSON
def command(a: Path, b: Path, series: tuple[str, ...], prefix: bool, as_json: bool) -> None:
    """Compare two runs or safetensors files bit for bit.

    Exits 0 if both hold the same series and static arrays, at the same steps, with the same bits, and 1 otherwise. One
    that has more steps differs, unless --prefix is given. One that has more series differs, unless --series leaves them
    out.
    """
    from ..comparison import A_IS_PREFIX, B_IS_PREFIX, compare

    with terminal.progress("Comparing") as report:
        found = compare(a, b, series=terminal.names(",".join(series)) if series else None, progress=report)
    is_prefix = found.relation in (A_IS_PREFIX, B_IS_PREFIX) and not found.only_in_a and not found.only_in_b
    if as_json:
        terminal.echo_json({"identical": found.identical, "first_step": found.first_step} | dataclasses.asdict(found))
    else:
        terminal.echo(f"a  {a}", f"b  {b}", *_lines(found))
    if not (found.identical or (prefix and is_prefix)):
        click.get_current_context().exit(terminal.EXIT_DIFFERENT)


def _lines(found: "Comparison") -> Iterator[str]:
    if found.series:
        yield (
            f"{', '.join(found.series)} at {found.n_steps:,} steps:"
            f" {found.differing:,} of {found.total:,} elements differ"
        )
    for name, count in found.differing_per_series.items():
        if count:
            yield f"  {name}: {count:,} elements"
    if found.first is not None:
        first, index = found.first, ", ".join(map(str, found.first.index))
        yield (
            f"First difference: step {first.step}, {first.series}[{index}], {first.bits_a:#x} in a,"
            f" {first.bits_b:#x} in b; {len(found.differing_per_step):,} steps differ"
        )
    for name, delta in found.deltas.items():
        if delta.largest:
            yield f"Largest difference of {name}: {delta.largest:g} at step {delta.step}"
    for name, why in found.incompatible.items():
        yield f"{name}: {why}"
    if found.static_differing:
        yield f"Static arrays that differ: {', '.join(found.static_differing)}"
    for side, only in (("a", found.only_in_a), ("b", found.only_in_b)):
        if only:
            yield f"Only in {side}: {', '.join(only)}"
    yield f"Verdict: {'identical' if found.identical else found.relation}"
