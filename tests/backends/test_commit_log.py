"""The log of commits read many headers at once is the log read one by one, whatever is wrong with it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trajectory_store as ts
from trajectory_store.backends.memmap.commit_log import COMMITS, CommitLog
from trajectory_store.checksum import crc32c, crc32c_of_rows
from trajectory_store.journal import record
from trajectory_store.journal.record import Reader, Record

pytestmark = pytest.mark.usefixtures("no_sync")

STEPS = 400
SERIES = {"W": ts.Series((3, 2), "bfloat16"), "loss": ts.Series((), "float32")}
SPEC = ts.RunSpec(SERIES, STEPS)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """300 steps of 400, synced after 5, 6 and 170 and before the end."""
    path = tmp_path_factory.mktemp("log") / "run"
    rng = np.random.default_rng(0)
    sink = ts.create(path, SERIES, steps=STEPS, backend="memmap")
    for step in range(300):
        sink.append(step, W=rng.integers(0, 1 << 16, (3, 2)).astype(np.uint16), loss=rng.standard_normal())
        if step in (5, 6, 170, 298):
            sink.flush()
    content = (path / COMMITS).read_bytes()
    sink.close()
    return content


def states(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """All that is known of a log, read many at once and one by one; `scan` is called twice, as on a live run."""
    path = tmp_path / COMMITS
    for n_at_once in (None, 0):
        with monkeypatch.context() as patch:
            if n_at_once == 0:
                patch.setattr(record, "consecutive_heads", lambda *_: np.empty(0))
            found = CommitLog(path, SPEC, 0)
            for n_bytes in (len(data) // 2, len(data)):
                path.write_bytes(data[:n_bytes])
                found.scan()
        yield {name: value for name, value in vars(found).items() if name != "_spec"}


def test_many_at_once_are_those_one_by_one(log: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, cut at any byte of a header, with a flipped bit anywhere, with a header gone, twice there, or of zeros."""
    head_bytes = record.largest_head_bytes(SPEC)
    wrong = [log, b"", *(log[:n] for n in range(len(log) - 2 * head_bytes, len(log)))]
    wrong += [log[:at] + bytes([log[at] ^ 1 << at % 8]) + log[at + 1 :] for at in range(0, len(log), 61)]
    for at in (0, 3 * head_bytes, 100 * head_bytes):
        head = log[at : at + head_bytes]
        wrong += [log[:at] + log[at + head_bytes :], log[:at] + head + log[at:]]
        wrong.append(log[:at] + bytes(head_bytes) + log[at + head_bytes :])
    for data in wrong:
        many, alone = states(data, tmp_path, monkeypatch)
        assert many == alone
    assert many["crcs"]["W"]


def test_a_log_is_not_parsed_a_header_at_a_time(log: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search a sync, and those next to it; opening 10,001 steps takes 4 ms and not 53."""
    n_searches = 0
    find_head = record.find_head

    def counted(spec: ts.RunSpec, read: Reader, offset: int, can_follow: Any) -> tuple[int, Record] | None:
        nonlocal n_searches
        n_searches += 1
        return find_head(spec, read, offset, can_follow)

    monkeypatch.setattr(record, "find_head", counted)
    (tmp_path / COMMITS).write_bytes(log)
    found = CommitLog(tmp_path / COMMITS, SPEC, 0)
    found.scan()
    assert (found.stop_step, found.synced_step) == (300, 298)
    assert n_searches < 150


def test_series_of_other_steps_are_read_one_by_one() -> None:
    """Their headers differ in size."""
    spec = ts.RunSpec({**SERIES, "every": ts.Series((), "float32", steps=10)}, STEPS)
    assert len(record.consecutive_heads(spec, bytes(1_000), 0)) == 0


def test_checksums_of_rows_are_those_of_each() -> None:
    """Every byte in every place, and rows of no bytes."""
    rng = np.random.default_rng(0)
    for n_bytes in (0, 1, 3, 36):
        rows = rng.integers(0, 256, (300, n_bytes), dtype=np.uint8)
        assert crc32c_of_rows(rows).tolist() == [crc32c(row.tobytes()) for row in rows]
    assert crc32c_of_rows(np.frombuffer(b"123456789", np.uint8)[None]).tolist() == [0xE3069283]
