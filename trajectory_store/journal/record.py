"""One journal record ↔ bytes. Knows bytes, not files. docs/format.md, "Journal", has the layout.

A record is a header, one CRC-32C for each row, the CRC-32C of both, then the rows. A frame record holds the rows of one
step in declared order; a sync record and an end record hold none. Every header says up to which step the journal had
been synced when it was written. That tells what a bad record is: damage up to that step, a torn tail after it.
"""

import itertools
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..checksum import crc32c, crc32c_of_rows
from ..spec import Frame, RunSpec

MAGIC = b"TJr1"
FRAME = 1
SYNC = 2
END = 3

_HEADER = struct.Struct("<4sHHqq")  # magic, kind, number of rows, step, last synced step (−1: none)
_CRC = struct.Struct("<I")
SMALLEST_BYTES = _HEADER.size + _CRC.size
_SEARCH_BYTES = 1 << 20
_MOST_CANDIDATES = 10_000
"""A search gives up after so many places that look like a header and are none; real damage has none or one."""

Reader = Callable[[int, int], bytes]
"""(offset, size) → the bytes there, fewer at the end of the file."""


class Record(NamedTuple):
    """A verified header. `rows` has each series' offset from the record's start, and its CRC-32C."""

    kind: int
    step: int
    synced_step: int
    rows: dict[str, tuple[int, int]]
    head_bytes: int
    n_bytes: int


class FrameEntry(NamedTuple):
    """A frame in a segment.

    `after` is the end of the sound record before it. It is less than `offset` if a flaw lies between.
    """

    step: int
    offset: int
    after: int
    head: Record
    is_sound: bool


@dataclass(frozen=True)
class Gap:
    """Bytes [start, stop) between sound records that are no record themselves.

    step: that of the frame behind the gap, −1 if a sync record is behind it. If a sync covers that step, it covers the
    gap, which then is damage. Otherwise a crash may have left it.
    """

    start: int
    stop: int
    step: int

    @staticmethod
    def before(head: Record, start: int, stop: int) -> "Gap":
        """The gap in front of a record."""
        return Gap(start, stop, head.step if head.kind == FRAME else -1)

    def __str__(self) -> str:
        return f"bytes {self.start:,} to {self.stop - 1:,} are no sound record"


def frame_record(step: int, synced_step: int, frame: Frame) -> tuple[Record, list[Any]]:
    """A frame's record, and the buffers that make its bytes, in order. The rows are not copied."""
    head, crcs = _frame_head(step, synced_step, frame)
    rows: dict[str, tuple[int, int]] = {}
    offset = len(head)
    for (name, row), crc in zip(frame.items(), crcs, strict=True):
        rows[name] = (offset, crc)
        offset += row.nbytes
    return Record(FRAME, step, synced_step, rows, len(head), offset), [head, *frame.values()]


def commit_buffers(step: int, synced_step: int, frame: Frame) -> list[Any]:
    """The frame's header alone, because its rows are kept elsewhere."""
    return [_frame_head(step, synced_step, frame)[0]]


def sync_buffers(step: int) -> list[Any]:
    """The record that says that every frame up to `step` was synced before it was written."""
    return [_head(SYNC, step, step, [])]


def end_buffers(step: int, synced_step: int) -> list[Any]:
    """The record that says that the frame of `step` is the last one, and that the segment ends here."""
    return [_head(END, step, synced_step, [])]


def frame_bytes(spec: RunSpec, step: int) -> int:
    """How many bytes the record of a step's frame takes."""
    return SMALLEST_BYTES + sum(_CRC.size + series.row_bytes for series in spec.due(step).values())


def _frame_head(step: int, synced_step: int, frame: Frame) -> tuple[bytes, list[int]]:
    """The header, and the checksums of the rows in it."""
    crcs = [crc32c(row) for row in frame.values()]
    return _head(FRAME, step, synced_step, crcs), crcs


def _head(kind: int, step: int, synced_step: int, row_crcs: Sequence[int]) -> bytes:
    head = _HEADER.pack(MAGIC, kind, len(row_crcs), step, synced_step)
    head += struct.pack(f"<{len(row_crcs)}I", *row_crcs)
    return head + _CRC.pack(crc32c(head))


def parse_head(spec: RunSpec, data: bytes | memoryview) -> Record | None:
    """The record that `data` starts with; None if no sound header of this run's spec is there.

    The header's own checksum is verified. The rows' are only returned: `Segment` verifies them.
    """
    if len(data) < SMALLEST_BYTES:
        return None
    magic, kind, n_rows, step, synced_step = _HEADER.unpack_from(data)
    head_bytes = _HEADER.size + n_rows * _CRC.size
    if magic != MAGIC or kind not in (FRAME, SYNC, END) or len(data) < head_bytes + _CRC.size:
        return None
    (expected,) = _CRC.unpack_from(data, head_bytes)
    if crc32c(bytes(data[:head_bytes])) != expected:
        return None
    if kind == SYNC:
        is_sound = n_rows == 0 and step == synced_step >= 0
        return Record(SYNC, step, synced_step, {}, SMALLEST_BYTES, SMALLEST_BYTES) if is_sound else None
    if kind == END:
        is_sound = n_rows == 0 and -1 <= synced_step <= step and step >= 0
        return Record(END, step, synced_step, {}, SMALLEST_BYTES, SMALLEST_BYTES) if is_sound else None
    due = spec.due(step) if -1 <= synced_step < step else {}
    if len(due) != n_rows or n_rows == 0:
        return None
    crcs = struct.unpack_from(f"<{n_rows}I", data, _HEADER.size)
    rows: dict[str, tuple[int, int]] = {}
    offset = head_bytes + _CRC.size
    whole_head_bytes = offset
    for (name, series), crc in zip(due.items(), crcs, strict=True):
        rows[name] = (offset, crc)
        offset += series.row_bytes
    return Record(FRAME, step, synced_step, rows, whole_head_bytes, offset)


def consecutive_heads(spec: RunSpec, data: bytes, first_step: int) -> npt.NDArray[Any]:
    """The sound headers that `data` starts with, of the frames from `first_step` on, one for each step, without rows.

    A structured array with `synced_step` and `crcs` (n, series). It is empty unless every series is due at every step.
    `parse_head` finds the same one by one, and takes ten times as long.
    """
    n_rows = len(spec.series)
    layout = np.dtype(
        {
            "names": ["magic", "kind", "n_rows", "step", "synced_step", "crcs", "crc"],
            "formats": ["S4", "<u2", "<u2", "<i8", "<i8", ("<u4", (n_rows,)), "<u4"],
        }
    )
    is_uniform = all(series.steps is None for series in spec.series.values())
    heads = np.frombuffer(data, dtype=layout, count=len(data) // layout.itemsize if is_uniform else 0)
    steps = first_step + np.arange(len(heads))
    is_next = (heads["magic"] == MAGIC) & (heads["kind"] == FRAME) & (heads["n_rows"] == n_rows)
    is_next &= (heads["step"] == steps) & (heads["synced_step"] >= -1) & (heads["synced_step"] < steps)
    heads = heads[: _first_false(is_next)]
    plain = heads.view(np.uint8).reshape(len(heads), layout.itemsize)[:, : -_CRC.size]
    return heads[: _first_false(crc32c_of_rows(plain) == heads["crc"])]


def _first_false(flags: npt.NDArray[np.bool_]) -> int:
    return len(flags) if flags.all() else int(flags.argmin())


def largest_head_bytes(spec: RunSpec) -> int:
    """How many bytes a header of this spec can take."""
    return SMALLEST_BYTES + _CRC.size * len(spec.series)


def find_head(
    spec: RunSpec, read: Reader, offset: int, can_follow: Callable[[Record, int], bool]
) -> tuple[int, Record] | None:
    """The sound header at `offset`, or else the first one behind it, of those that `can_follow` takes.

    Never that of an end record, because it means nothing unless it is right behind the last frame.
    """
    largest = largest_head_bytes(spec)
    candidates = itertools.islice(_offsets_of_magic(read, offset + 1), _MOST_CANDIDATES)
    for candidate in itertools.chain([offset], candidates):
        head = parse_head(spec, read(candidate, largest))
        if head is not None and head.kind != END and can_follow(head, candidate):
            return candidate, head
    return None


def _offsets_of_magic(read: Reader, start: int) -> Iterator[int]:
    overlap = len(MAGIC) - 1
    while len(data := read(start, _SEARCH_BYTES + overlap)) > overlap:
        at = data.find(MAGIC)
        while 0 <= at < _SEARCH_BYTES:
            yield start + at
            at = data.find(MAGIC, at + 1)
        start += _SEARCH_BYTES
