"""A sound file in the place of the one that was committed is told apart from it, by `check` and by whoever reads."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import trajectory_store as ts
from trajectory_store.blocks.block_file import SMALL_BLOCK_BYTES
from trajectory_store.errors import DamageError

pytestmark = pytest.mark.usefixtures("no_sync")


def test_sound_files_of_one_size_are_told_apart(tmp_path: Path) -> None:
    """A block and a static array of another run, as large as those committed, are found and not read.

    They end with their own CRC-32C, so that a CRC-32C over the whole file is the same for all such files.
    """
    paths = [tmp_path / name for name in ("one", "other")]
    for value, path in enumerate(paths, 1):
        static = {"ids": np.full(50, value)}
        with ts.create(path, {"x": ts.Series((), "float32")}, steps=8, block_steps=4, static=static) as sink:
            for step in range(8):
                sink.append(step, x=1 + 0.3 * value)
    with ts.open(paths[0]) as one, ts.open(paths[1]) as other:
        ours, theirs = one.source.manifest, other.source.manifest  # type: ignore[attr-defined]
    assert [block.n_bytes for block in ours.blocks["x"]] == [block.n_bytes for block in theirs.blocks["x"]]
    assert set(ours.blocks["x"]).isdisjoint(theirs.blocks["x"])
    for relative in ("x/c/1", "static/ids/c/0"):
        shutil.copyfile(paths[1] / relative, paths[0] / relative)

    found = [(finding.kind, finding.series) for finding in ts.check(paths[0])]
    assert sorted(found) == [("block", "x"), ("static", "ids")]
    with ts.open(paths[0]) as run:
        assert run["x"][3] == np.float32(1.3)
        with pytest.raises(DamageError, match="not the file that the manifest commits"):
            run["x"][4]
        with pytest.raises(DamageError, match="checksum"):
            run.static["ids"]


def test_a_block_of_one_chunk_is_told_apart_however_large(tmp_path: Path) -> None:
    """Its index says no more than its size, and random bits of one shape take the same."""
    for seed, name in enumerate(("one", "other")):
        rows = np.random.default_rng(seed).integers(0, 1 << 16, (256, 64), dtype=np.uint16)
        with ts.create(tmp_path / name, {"x": ts.Series((64,), "uint16")}, steps=257) as sink:
            for step, row in enumerate((*rows, rows[0])):
                sink.append(step, x=row)
    block = "x/c/0/0"
    assert (tmp_path / "one" / block).stat().st_size > SMALL_BLOCK_BYTES
    assert (tmp_path / "one" / block).stat().st_size == (tmp_path / "other" / block).stat().st_size
    shutil.copyfile(tmp_path / "other" / block, tmp_path / "one" / block)
    with ts.open(tmp_path / "one") as run, pytest.raises(DamageError, match="not the file that the manifest commits"):
        run["x"][4]


def test_a_last_block_that_grows_by_no_byte_is_read_again(tmp_path: Path) -> None:
    """A reader that follows a run does not take an older state of its last block for the newer one of the same size."""
    series = {"x": ts.Series((), "float32"), "m": ts.Series((40,), "float32", steps=4)}
    with ts.create(tmp_path / "run", series, steps=64, block_steps=16) as sink, ts.open(tmp_path / "run") as run:
        while (step := sink.next_step) is not None:
            row = {"m": np.full(40, step, np.float32)} if step % 4 == 0 else {}
            sink.append(step, x=step, **row)
            sink.flush()
            run.refresh()
            assert run["m"][:, 0].tolist() == list(range(0, step + 1, 4))
