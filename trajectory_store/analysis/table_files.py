"""Tables written as CSV, JSON, NumPy or Parquet files."""

import csv
import importlib
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .. import atomic, place
from ..errors import UsageError
from .catalogue import Table


def write_tables(path: Path, tables: Sequence[Table]) -> None:
    """Write tables to a file of the kind that its name ends with; it appears whole or not at all.

    .csv and .parquet hold one table; .json and .npz both. Where a column has nothing, CSV has an empty field, JSON and
    Parquet null, NumPy NaN. Raises UsageError on another ending, on two tables for one, and on Parquet without pyarrow.
    """
    write = _WRITERS.get(path.suffix)
    if write is None:
        raise UsageError(f"{path}: a table is written as {', '.join(_WRITERS)}, not as {path.suffix or 'nothing'}")
    if path.suffix in _ONE_TABLE and len(tables) != 1:
        kinds = " and ".join(f"by {table.index}" for table in tables)
        raise UsageError(f"{path}: {path.suffix} holds one table, these are {kinds}; ask for one kind, or write .json")
    content = write(tables)
    with atomic.write_atomically(place.to_write(path)) as file:
        file.write(content)


def csv_text(table: Table) -> str:
    """A table as CSV with a head line. Floats have as many digits as it takes to read them back."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(zip(*(_cells(column, "") for column in table.columns.values()), strict=True))
    return out.getvalue()


def json_columns(tables: Sequence[Table]) -> dict[str, dict[str, list[Any]]]:
    """{"by_step": {column: values}, "by_token": …} for JSON: null for nothing and for what is not finite."""
    return {
        f"by_{table.index}": {
            name: [
                None if isinstance(value, float) and not math.isfinite(value) else value
                for value in _cells(column, None)
            ]
            for name, column in table.columns.items()
        }
        for table in tables
    }


def _cells(column: npt.NDArray[Any], nothing: Any) -> list[Any]:
    values: list[Any] = np.asarray(np.ma.getdata(column)).tolist()
    for at in np.flatnonzero(np.ma.getmaskarray(column)).tolist():
        values[at] = nothing
    return values


def _csv(tables: Sequence[Table]) -> bytes:
    return csv_text(tables[0]).encode()


def _json(tables: Sequence[Table]) -> bytes:
    return json.dumps(json_columns(tables), allow_nan=False).encode()


def _npz(tables: Sequence[Table]) -> bytes:
    out: IO[bytes] = io.BytesIO()
    arrays = {name: _filled(column) for table in tables for name, column in table.columns.items()}
    np.savez(out, allow_pickle=False, **arrays)
    out.seek(0)
    return out.read()


def _filled(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if not np.ma.getmaskarray(column).any():
        return np.asarray(np.ma.getdata(column))
    values = np.ma.getdata(column).astype(np.float64)
    values[np.ma.getmaskarray(column)] = np.nan
    return values


def _parquet(tables: Sequence[Table]) -> bytes:
    try:
        pyarrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise UsageError("Parquet needs pyarrow; install it, or write .csv") from error
    columns = {
        name: pyarrow.array(np.ma.getdata(column), mask=np.ma.getmaskarray(column))
        for name, column in tables[0].columns.items()
    }
    out = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table(columns), out)
    content: bytes = out.getvalue().to_pybytes()
    return content


_WRITERS: dict[str, Callable[[Sequence[Table]], bytes]] = {
    ".csv": _csv,
    ".json": _json,
    ".npz": _npz,
    ".parquet": _parquet,
}
_ONE_TABLE = (".csv", ".parquet")
