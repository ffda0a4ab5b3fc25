"""The rows of a foreign file on their way into a sink: some steps of every series at a time, in constant memory."""

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from ..backends.sink import Sink
from ..progress import Meter, Progress
from .foreign import ForeignArray, RenamedFile, UnreadableArrayError
from .plan import PlannedSeries

PIECE_BYTES = 64 << 20
"""What is read at once, of all series together."""


def append_rows(
    sink: Sink, file: RenamedFile, recorded: Mapping[str, PlannedSeries], steps: int, progress: Progress | None
) -> None:
    """Append every step of a run that has rows. The file is asked for an array's rows in order, and for each once."""
    meter = Meter(sum(one.array.n_bytes for one in recorded.values()), progress)
    at_once = _steps_at_once([one.array for one in recorded.values()])
    for start in range(0, steps, at_once):
        _append_some(sink, file, recorded, range(start, min(start + at_once, steps)), meter)


def _append_some(
    sink: Sink, file: RenamedFile, recorded: Mapping[str, PlannedSeries], steps: range, meter: Meter
) -> None:
    pieces: dict[str, tuple[int, npt.NDArray[Any]]] = {}
    broken: dict[str, str] = {}  # raised together, because each error begins the import again
    for name, one in recorded.items():
        first, last = max(steps.start, one.first_step), min(steps.stop, one.stop_step)
        if first < last:
            row = first - one.first_step
            try:
                rows = file.read(name, row, last - one.first_step)
            except UnreadableArrayError as error:
                broken |= error.found
                continue
            pieces[name] = (first, one.conversion.convert(rows, row))
            meter.add(rows.nbytes)
    if broken:
        raise UnreadableArrayError(broken)
    for step in steps if pieces else ():
        frame = {name: rows[step - first] for name, (first, rows) in pieces.items() if 0 <= step - first < len(rows)}
        if frame:
            sink.append(step, **frame)


def _steps_at_once(arrays: list[ForeignArray]) -> int:
    """Steps whose rows fit, in whole chunks of the file if one fits."""
    n_steps = max(1, PIECE_BYTES // sum(array.row_bytes for array in arrays))
    chunk_rows = max(array.chunk_rows for array in arrays)
    return n_steps - n_steps % chunk_rows if chunk_rows <= n_steps else n_steps
