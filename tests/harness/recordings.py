"""Small recordings for the analyses: like real ones, and adversarial; and runs made of them."""

import numpy as np

import trajectory_store as ts


def walk(n_steps=23, n_tokens=150, dim=64, seed=1):
    """Like a real recording: everything moves, then fewer and fewer tokens, with still steps and late movers."""
    rng = np.random.default_rng(seed)
    bits = np.empty((n_steps, n_tokens, dim), dtype=np.uint16)
    weights = rng.normal(0, 0.02, (n_tokens, dim))
    for step in range(n_steps):
        bits[step] = np.asarray(weights, dtype=ts.bf16.BFLOAT16).view(np.uint16)
        moves = rng.random(n_tokens) < np.exp(-step / 6)
        if step % 5 == 4:
            moves[:] = False
        size = 10.0 ** rng.uniform(-5, -1, (n_tokens, 1))
        weights = weights + moves[:, None] * size * rng.normal(0, 1, (n_tokens, dim)) * (
            rng.random((n_tokens, dim)) < 0.5
        )
    return bits


def adversarial(n_steps=23, n_tokens=150, dim=64, seed=2):
    """Zeros of both signs, sign changes, binade edges, subnormals, infinities and NaNs, each moving now and then."""
    rng = np.random.default_rng(seed)
    special = np.array(
        [0, 0x8000, 1, 0x8001, 0x7F, 0x80, 0x3F7F, 0x3F80, 0x3F81, 0xBF80, 0x7F7F, 0xFF7F, 0x4000, 0x3FFF, 0x3D00],
        dtype=np.uint16,
    )
    broken = np.array([0x7F80, 0xFF80, 0x7FC0, 0x7FFF, 0xFFC1], dtype=np.uint16)
    bits = np.empty((n_steps, n_tokens, dim), dtype=np.uint16)
    bits[0] = rng.choice(special, (n_tokens, dim))
    bits[0, 7, 3] = 0x7FC0  # not finite from the start, and never moving
    for step in range(1, n_steps):
        bits[step] = bits[step - 1]
        for token in rng.integers(0, n_tokens, 12):
            columns = rng.integers(0, dim, 3)
            bits[step, token, columns] = rng.choice(special, 3)
        if step % 6 == 0:
            bits[step, 100 + step % 40, rng.integers(0, dim)] = rng.choice(broken)
        if step % 8 == 7:
            bits[step] = bits[step - 1]
    bits[:, 7, 3] = 0x7FC0
    return bits


def random_patterns(n_steps=9, n_tokens=70, dim=3, seed=3):
    """Every entry a random pattern at every step, of an odd width."""
    return np.random.default_rng(seed).integers(0, 1 << 16, (n_steps, n_tokens, dim)).astype(np.uint16)


def still(n_steps=12, n_tokens=65, dim=4):
    """Nothing ever moves."""
    return np.full((n_steps, n_tokens, dim), 0x3C00, dtype=np.uint16)


RECORDINGS = {
    "walk": walk,
    "adversarial": adversarial,
    "random": random_patterns,
    "still": still,
    "one step": lambda: walk(n_steps=1),
}


def record(path, bits, *, backend="zarr", block_steps=7, others=None, static=None, attrs=None):
    """A run that holds `bits` as the bfloat16 series W, beside `others` (name → float array)."""
    others = others or {}
    series = {"W": ts.Series(bits.shape[1:], "bfloat16", dims=("token", "dim"))}
    series |= {name: ts.Series(array.shape[1:], array.dtype.name) for name, array in others.items()}
    with ts.create(
        path, series, steps=len(bits), backend=backend, block_steps=block_steps, static=static, attrs=attrs
    ) as sink:
        for step, row in enumerate(bits):
            sink.append(step, W=row, **{name: array[step] for name, array in others.items()})
    return ts.open(path)
