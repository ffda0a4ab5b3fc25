"""`trajectory-store slice`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import terminal

if TYPE_CHECKING:
    from .part import Part

_PRINTED_WHOLE_BYTES = 64 << 20
_EDGE_ROWS = 3


# An index may begin with a minus.
@click.command("slice", short_help="Take a part out of a series.", context_settings={"ignore_unknown_options": True})
@click.argument("run", type=terminal.PATH)
@click.argument("series")
@click.argument("index", nargs=-1)
@click.option("-o", "--out", type=terminal.PATH, help="Write a .npy, .csv, .json or .safetensors file.")
@click.option("--bits", is_flag=True, help="Bit patterns instead of values: uint16 for bfloat16.")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
@terminal.JSON
def command(
    run: Path, series: str, index: tuple[str, ...], out: Path | None, bits: bool, overwrite: bool, as_json: bool
) -> None:
    """Take a part out of a SERIES, or static array, of RUN: an INDEX as for numpy.

    "5000" is a row, "-1" the last one, ":, 17" one token's history, "100:200:10, [1, 5, 9]" three tokens' at ten
    rows, "..., 3" one dimension. Row r is step r of a series that is recorded at every step. Values of bfloat16 are
    written exactly: as float32 to .npy, and as BF16 to .safetensors.
    """
    from ..export import check_target
    from ..place import to_write
    from ..run import open_run
    from . import part_files
    from .index_text import parse_index
    from .part import part_of

    if unknown := next((text for text in index if text.startswith("--")), None):
        raise click.NoSuchOption(unknown)
    key = parse_index(" ".join(index))
    with open_run(run) as source:
        if out is not None:
            part_files.checked_suffix(out)
            check_target(out, source.path, overwrite=overwrite)
        part = part_of(source, series, key, bits=bits)
        if out is not None:
            part_files.write(part, to_write(out))
            terminal.echo(f"Wrote {out}: {_title(part)}")
        elif as_json:
            terminal.echo_json_pieces(part_files.json_chunks(part))
        else:
            terminal.echo(_title(part), *_lines(part, bits=bits))


def _title(part: "Part") -> str:
    from ..dtypes import dtype_name

    title = f"{part.name} {part.shape} {dtype_name(part.dtype)}"
    if part.series is None or not part.n_rows:
        return title
    first, last = int(part.steps(0, 1)[0]), int(part.steps(part.n_rows - 1, part.n_rows)[0])
    return f"{title}, step {first}" + (f" to {last}" if part.n_rows > 1 else "")


def _lines(part: "Part", *, bits: bool) -> Iterator[str]:
    import numpy as np

    from .part import plain

    def shown(start: int, stop: int) -> list[str]:
        rows = plain(part.read(start, stop))
        text = np.array2string(
            rows if part.has_rows else rows[0],
            max_line_width=terminal.width(),
            formatter={"int": lambda value: f"{value:#0{2 + 2 * part.dtype.itemsize}x}"} if bits else None,
        )
        return text.splitlines()

    if part.nbytes <= _PRINTED_WHOLE_BYTES or part.n_rows <= 2 * _EDGE_ROWS:
        yield from shown(0, part.n_rows)
        return
    yield from shown(0, _EDGE_ROWS)
    yield f"... {part.n_rows - 2 * _EDGE_ROWS:,} rows; write all of them with -o ..."
    yield from shown(part.n_rows - _EDGE_ROWS, part.n_rows)
