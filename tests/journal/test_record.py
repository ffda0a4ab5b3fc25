"""A journal record is one frame bit for bit, or nothing."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trajectory_store as ts
from tests.harness import contracts
from tests.harness.contracts import SERIES, STEPS, values
from trajectory_store.checksum import crc32c
from trajectory_store.journal import record

SPEC = ts.RunSpec(SERIES, STEPS)


def frame_bytes(step: int, synced_step: int = -1) -> bytes:
    frame = SPEC.frame(step, values(step))
    return b"".join(bytes(memoryview(part).cast("B")) for part in record.frame_record(step, synced_step, frame)[1])


@pytest.mark.parametrize("step", range(STEPS))
def test_a_frame_comes_back(step: int) -> None:
    """Its header says where each row is, and its checksum."""
    data = frame_bytes(step, step - 1)
    head = record.parse_head(SPEC, data)

    assert head is not None
    assert (head.kind, head.step, head.synced_step, head.n_bytes) == (record.FRAME, step, step - 1, len(data))
    for name, (offset, crc) in head.rows.items():
        row = data[offset : offset + SERIES[name].row_bytes]
        assert row == contracts.bits(values(step)[name])
        assert crc == crc32c(row)


def test_a_sync_comes_back() -> None:
    (data,) = record.sync_buffers(7)
    head = record.parse_head(SPEC, data)
    assert head is not None
    assert (head.kind, head.step, head.synced_step, head.n_bytes) == (record.SYNC, 7, 7, len(data))


def test_an_end_comes_back_and_is_never_searched_for() -> None:
    """It means nothing but right behind the last frame."""
    (data,) = record.end_buffers(7, 3)
    head = record.parse_head(SPEC, data)
    assert head is not None
    assert (head.kind, head.step, head.synced_step, head.n_bytes) == (record.END, 7, 3, len(data))
    (wrong,) = record.end_buffers(3, 7)
    assert record.parse_head(SPEC, wrong) is None
    assert record.find_head(SPEC, lambda offset, size: data[offset : offset + size], 0, lambda *_: True) is None


@pytest.mark.parametrize("step", range(STEPS))
def test_the_size_of_a_frame_is_known_before_it(step: int) -> None:
    assert record.frame_bytes(SPEC, step) == len(frame_bytes(step))


def test_the_layout_of_the_format() -> None:
    """docs/format.md, "Journal", byte for byte."""
    spec = ts.RunSpec({"loss": ts.Series((), "float32")})
    data = b"".join(map(bytes, record.frame_record(5, 3, spec.frame(5, {"loss": 1.0}))[1]))
    row = np.float32(1).tobytes()
    head = b"TJr1" + b"\1\0" + b"\1\0" + (5).to_bytes(8, "little") + (3).to_bytes(8, "little")
    head += crc32c(row).to_bytes(4, "little")
    assert data == head + crc32c(head).to_bytes(4, "little") + row


def test_every_flipped_bit_and_every_cut_of_a_header_is_refused() -> None:
    data = frame_bytes(6)
    head = record.parse_head(SPEC, data)
    assert head is not None
    for n in range(head.head_bytes):
        assert record.parse_head(SPEC, data[:n]) is None
    for bit in range(8 * head.head_bytes):
        wrong = bytearray(data)
        wrong[bit // 8] ^= 1 << bit % 8
        assert record.parse_head(SPEC, bytes(wrong)) is None


@given(st.binary(max_size=200))
def test_bytes_of_anything_are_no_record(data: bytes) -> None:
    """And cost no exception."""
    assert record.parse_head(SPEC, data) is None
    assert record.parse_head(SPEC, record.MAGIC + data) is None


@given(st.integers(0, 300), st.integers(0, 2**32))
def test_a_header_is_found_behind_garbage(n_garbage: int, seed: int) -> None:
    """The first sound one, wherever it begins, false magic among the garbage or not."""
    garbage = random.Random(seed).randbytes(n_garbage)
    garbage = garbage[: n_garbage // 2] + record.MAGIC + garbage[n_garbage // 2 :]
    data = garbage + frame_bytes(6)

    found = record.find_head(SPEC, lambda offset, size: data[offset : offset + size], 0, lambda *_: True)

    assert found is not None
    assert found[0] == len(garbage)
    assert found[1].step == 6
