"""How rows are cut into blocks and tiles: small enough to hold, large enough to compress."""

from pathlib import Path

import numpy as np
import pytest

import trajectory_store as ts
from trajectory_store.backends.zarr import source as zarr_source
from trajectory_store.backends.zarr.source import ZarrSource
from trajectory_store.blocks.block_file import BlockFile
from trajectory_store.blocks.layout import BLOCK_BYTES, LARGEST_BLOCK_BYTES, Layout, block_steps_for
from trajectory_store.codec import kernels

pytestmark = pytest.mark.usefixtures("no_sync")


def layout(shape: tuple[int, ...], dtype: str = "bfloat16", block_steps: int | None = None) -> Layout:
    series = ts.Series(shape, dtype)
    return Layout("W", series, block_steps or block_steps_for([series]), "temporal")


@pytest.mark.parametrize(
    ("shape", "block_rows", "tile_tokens"),
    [
        ((3_699, 64), 256, 64),
        ((10_000, 64), 64, 64),
        ((2_212, 2_560), 32, 16),  # not 8 steps of one token: each block keeps a row, tokens share moves
        ((50_000, 4_096), 1, 16),
        ((4, 100_000), 128, 1),
        ((100_000,), 256, 4_096),
        ((), 256, 1),
    ],
)
def test_a_block_is_small_but_not_short(shape: tuple[int, ...], block_rows: int, tile_tokens: int) -> None:
    """128 MB where that is 32 steps or more, 512 MB where it is not; 16 tokens a tile where they are not too wide."""
    cut = layout(shape)
    assert (cut.block_rows, cut.tile_tokens) == (block_rows, tile_tokens)
    block_bytes = cut.block_rows * cut.series.row_bytes
    assert block_bytes <= (BLOCK_BYTES if cut.block_rows > 32 else LARGEST_BLOCK_BYTES)


def test_every_series_of_a_step_counts() -> None:
    """Four series share the memory of one; what is not recorded at every step is cut by itself."""
    row = ts.Series((3_699, 64), "bfloat16")
    assert block_steps_for([row] * 4) == 64
    assert block_steps_for([row, ts.Series((10_000, 64), "float32", steps=100)]) == 256


def test_wide_rows_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 16 wide tokens, the last one padded, with moves: by step, by token and as a whole."""
    monkeypatch.setattr(kernels, "WARM_UP_BYTES", 0)
    rng = np.random.default_rng(0)
    shared = (rng.random((40, 1, 1_500)) < 0.3).cumsum(axis=0)
    history = (rng.integers(0x3C00, 0x3D00, (37, 1_500)) + shared).astype(np.uint16)
    series = ts.Series((37, 1_500), "bfloat16", dims=("token", "dim"))
    assert Layout("W", series, 16, "temporal").tile_tokens == 16
    with ts.create(tmp_path / "run", {"W": series}, steps=40, block_steps=16) as sink:
        for step, row in enumerate(history):
            sink.append(step, W=row)
    with ts.open(tmp_path / "run") as run:
        for token in (0, 15, 16, 36):
            assert np.array_equal(run["W"].bits[:, token], history[:, token])
        for step in (0, 17, 39):
            assert np.array_equal(run["W"].bits[step], history[step])
        assert np.array_equal(run["W"].bits[:], history)


@pytest.mark.parametrize("fewest_bytes", [1, 1 << 40])
def test_tiles_are_read_alike_by_one_thread_and_by_many(
    fewest_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small recordings are read by one thread, unless they are told that another pays."""
    monkeypatch.setattr(zarr_source, "_FEWEST_BYTES_A_THREAD", fewest_bytes)
    history = np.random.default_rng(0).integers(0, 1 << 16, (40, 300, 64), dtype=np.uint16)
    with ts.create(tmp_path / "run", {"W": ts.Series((300, 64), "bfloat16")}, steps=40, block_steps=8) as sink:
        for step, row in enumerate(history):
            sink.append(step, W=row)
    with ts.open(tmp_path / "run") as run:
        for key in (np.s_[:], np.s_[:, 7], np.s_[17], np.s_[3:30:5, [1, 70, 299]], np.s_[:, 60:70]):
            assert np.array_equal(run["W"].bits[key], history[key])


def test_a_block_read_step_by_step_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that takes more than the cache has otherwise."""
    monkeypatch.setattr(zarr_source, "CACHE_BYTES", 1)
    n_decoded = 0
    tile = BlockFile.tile

    def counted(block: BlockFile, index: int) -> object:
        nonlocal n_decoded
        n_decoded += 1
        return tile(block, index)

    monkeypatch.setattr(BlockFile, "tile", counted)
    start = np.random.default_rng(0).integers(0, 1 << 16, (300, 64), dtype=np.uint16)
    history = np.repeat(start[None], 64, axis=0)
    history[32:] += np.uint16(1)
    with ts.create(tmp_path / "run", {"W": ts.Series((300, 64), "bfloat16")}, steps=64, block_steps=64) as sink:
        for step, row in enumerate(history):
            sink.append(step, W=row)
    with ts.open(tmp_path / "run") as run:
        assert isinstance(run.source, ZarrSource)
        for step in range(64):
            assert np.array_equal(run["W"].bits[step], history[step])
    assert n_decoded == -(-300 // 64)
