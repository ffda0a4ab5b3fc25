"""What the codec's choices cost and gain on a recording, block by block: python -m benchmarks.codec RUN [BLOCK …]

Raw : stored of some tiles of each block, by other numbers of tokens a tile and by every way of coding them. Then what
no entropy coder of one value after the other gets above behind the same prediction: each residual takes as many bits
as it is surprising, by itself (order 0), and knowing how close its prediction was to being rounded to the next value
and how long the shared move is in units of the value's last place. zstd does get above it where tokens repeat each
other's residuals.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import trajectory_store as ts
from trajectory_store import bf16
from trajectory_store.codec import kernels, motion, temporal, zstd

Patterns = npt.NDArray[np.uint16]
N_TILES = 4
WAYS = {
    "moves, split": temporal.Way(estimates_moves=True, splits_bytes=True),
    "moves, whole": temporal.Way(estimates_moves=True, splits_bytes=False),
    "no moves, split": temporal.Way(estimates_moves=False, splits_bytes=True),
    "no moves, whole": temporal.Way(estimates_moves=False, splits_bytes=False),
}
TILE_TOKENS = (16, 32, 64, 128, 256)
CLASSES = 16


def tiles(rows: Patterns, n_tokens: int) -> Iterator[Patterns]:
    """Whole tiles of a block (steps, tokens, dim), spread over its tokens."""
    n = rows.shape[1] // n_tokens
    for tile in np.unique(np.linspace(0, max(0, n - 1), N_TILES).astype(int)):
        yield np.ascontiguousarray(rows[:, tile * n_tokens : (tile + 1) * n_tokens])


def stored_bytes(tile: Patterns, way: temporal.Way | None = None) -> int:
    """What a tile takes by one way of coding it, or by the one the writer chooses."""
    if way is None:
        return len(zstd.compress(temporal.encode(tile, with_motion=True), zstd.CHUNK_LEVEL))
    coded = temporal._encode(tile, temporal.geometry_of(tile.shape, 2, True), way)
    return len(zstd.compress(coded, zstd.CHUNK_LEVEL))


def residual_bits(tile: Patterns) -> tuple[float, float]:
    """Bits a value that no coder of the residuals gets below: alone, and in its context."""
    moves = motion.estimate(tile[:-1], tile[1:])
    predicted = np.stack([motion.predict(row, move) for row, move in zip(tile[:-1], moves, strict=True)])
    residuals = (tile[1:] - predicted).reshape(-1)
    before, shared = bf16.to_float32(tile[:-1]), bf16.to_float32(moves)[:, None]
    with np.errstate(all="ignore"):
        last_place = bf16.ulp(tile[:-1])
        remainder = (before + shared - bf16.to_float32(predicted)) / last_place
        length = np.log2(np.abs(shared) / last_place)
    near = np.clip(np.nan_to_num((remainder + 0.5) * CLASSES), 0, CLASSES - 1).astype(np.int64)
    far = np.clip(np.nan_to_num(length, neginf=-CLASSES) + CLASSES / 2, 0, CLASSES - 1).astype(np.int64)
    return entropy(residuals), entropy(residuals, (near * CLASSES + far).reshape(-1))


def entropy(symbols: npt.NDArray[Any], contexts: npt.NDArray[np.int64] | None = None) -> float:
    """Bits a symbol, where every coder knows the frequencies in each context beforehand."""
    contexts = np.zeros(len(symbols), np.int64) if contexts is None else contexts
    _, pair_counts = np.unique(contexts << 16 | symbols, return_counts=True)
    _, context_counts = np.unique(contexts, return_counts=True)

    def bits(counts: npt.NDArray[np.int64]) -> float:
        return float(-(counts * np.log2(counts)).sum())

    return (bits(pair_counts) - bits(context_counts)) / len(symbols)


def line(rows: Patterns) -> list[float]:
    """One block's figures, in the order of the columns."""

    def ratio(n_tokens: int, way: temporal.Way | None = None) -> float:
        some = list(tiles(rows, n_tokens))
        return sum(t.nbytes for t in some) / sum(stored_bytes(t, way) for t in some)

    usual = min(64, rows.shape[1])
    figures = [ratio(min(n, rows.shape[1])) for n in TILE_TOKENS] + [ratio(usual, way) for way in WAYS.values()]
    bits = np.mean([residual_bits(tile) for tile in tiles(rows, usual)], axis=0)
    return [*figures, *(16 / max(b, 1e-9) for b in bits)]


def main() -> None:
    """Print a row a block, as Markdown."""
    kernels.WARM_UP_BYTES = 0
    with ts.open(Path(sys.argv[1])) as run:
        series = run["W"]
        n_steps = series.block_rows
        n_blocks = -(-(len(series) - 1) // n_steps)  # a block of one row has no moves
        blocks = [int(block) for block in sys.argv[2:]] or range(n_blocks)
        columns = [f"{n} tokens" for n in TILE_TOKENS] + list(WAYS) + ["bound, order 0", "bound, in context"]
        print("| block | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 1) + "|")
        for block in blocks:
            rows = series.bits[block * n_steps : (block + 1) * n_steps]
            print(f"| {block} | " + " | ".join(f"{figure:.3g}" for figure in line(rows)) + " |", flush=True)


if __name__ == "__main__":
    main()
