"""A part of a run as a file, one format a function, a few rows in memory at a time."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import atomic, safetensors_format
from ..dtypes import dtype_name
from ..errors import UsageError
from ..naming import free_name
from .part import Part, plain
from .terminal import json_text, json_value


def write(part: Part, path: Path) -> None:
    """Write a part to a file, whose ending says its format. The file appears whole or not at all."""
    chunks = _FORMATS[checked_suffix(path)](part)
    with atomic.write_atomically(path) as file:
        for chunk in chunks:
            file.write(chunk)


def checked_suffix(path: Path) -> str:
    """The ending of a path. Raises UsageError on one that no format has."""
    if path.suffix not in _FORMATS:
        raise UsageError(f"{path}: its ending says no format; choose from {', '.join(_FORMATS)}")
    return path.suffix


def json_chunks(part: Part) -> Iterator[str]:
    """One JSON object, in pieces: what the part is, its values as nested lists, and their steps."""
    facts = {"series": part.name, "dtype": dtype_name(part.dtype), "shape": list(part.shape)}
    yield json_text(facts)[:-2] + ',\n  "values": '
    if part.has_rows:
        yield from _list(",\n    ".join(_json(row) for row in rows) for _, rows in part.pieces())
    else:
        yield _json(part.read(0, 1)[0])
    if part.series is not None:  # after the values: where those cannot be read, their steps need not be listed
        yield ',\n  "steps": '
        yield from _list(", ".join(map(str, steps.tolist())) for steps in part.step_pieces())
    yield "\n}"


def _list(pieces: Iterator[str]) -> Iterator[str]:
    """A JSON list of pieces, each of which holds some of its entries."""
    opening = "["
    for piece in pieces:
        yield opening + piece
        opening = ",\n    "
    yield "[]" if opening == "[" else "]"


def _json(row: npt.NDArray[Any]) -> str:
    return json.dumps(json_value(plain(row).tolist()))


def _npy(part: Part) -> Iterator[Any]:
    dtype = plain(np.empty(0, part.dtype)).dtype
    header = io.BytesIO()
    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": part.shape}
    np.lib.format.write_array_header_1_0(header, facts)
    yield header.getvalue()
    for _, rows in part.pieces():
        yield np.ascontiguousarray(plain(rows))


def _safetensors(part: Part) -> Iterator[Any]:
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {part.name: (dtype_name(part.dtype), part.shape)}
    if part.series is not None:
        tensors[free_name("steps", {part.name})] = ("int64", (part.n_rows,))
    header, placed = safetensors_format.layout(tensors)
    for row in (0, part.n_rows - 1) if part.n_rows else ():  # before the steps, which may come first, are written
        part.read(row, row + 1)
    yield header
    for name in placed:
        if name == part.name:
            for _, rows in part.pieces():
                yield np.ascontiguousarray(rows).view(f"<u{rows.dtype.itemsize}")
        else:
            yield from part.step_pieces()


def _csv(part: Part) -> Iterator[bytes]:
    head = io.StringIO()
    number = "row" if part.series is None else "step"
    csv.writer(head, lineterminator="\n").writerow([number, *(free_name(label, {number}) for label in part.labels())])
    yield head.getvalue().encode(errors="backslashreplace")
    for first, rows in part.pieces():
        values = plain(rows).reshape(len(rows), -1)
        stop = first + len(rows)
        numbers = range(first, stop) if part.series is None else part.steps(first, stop)
        for row, line in zip(numbers, values, strict=True):
            # str of a numpy number is the shortest text that reads back to the same bits.
            yield (",".join([str(row), *map(str, line)]) + "\n").encode()


def _json_file(part: Part) -> Iterator[bytes]:
    for text in json_chunks(part):
        yield text.encode()
    yield b"\n"


_FORMATS: dict[str, Callable[[Part], Iterator[Any]]] = {
    ".npy": _npy,
    ".csv": _csv,
    ".safetensors": _safetensors,
    ".json": _json_file,
}
