"""Small runs to report, names that would break a careless page, and a browser to open it in."""

import subprocess

import numpy as np

import trajectory_store as ts

HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'


def walking_bits(n_steps, n_tokens, dim=8, seed=5):
    """Tokens that move at random until each one's own last step, which spreads over the run."""
    rng = np.random.default_rng(seed)
    last = np.linspace(0, n_steps, n_tokens, endpoint=False).astype(int)
    weights = rng.normal(0, 0.02, (n_tokens, dim))
    bits = np.empty((n_steps, n_tokens, dim), dtype=np.uint16)
    for step in range(n_steps):
        moves = (step <= last) & (step > 0)
        weights = weights + moves[:, None] * rng.normal(0, 0.01, (n_tokens, dim))
        bits[step] = np.asarray(weights, dtype=ts.bf16.BFLOAT16).view(np.uint16)
    return bits


def record(path, bits, *, loss=None, static=None, attrs=None, dtype="bfloat16"):
    """A run with a series W, and a loss where it is given."""
    series = {"W": ts.Series(bits.shape[1:], dtype)}
    series |= {} if loss is None else {"loss": ts.Series((), "float32")}
    with ts.create(path, series, steps=len(bits), block_steps=16, static=static, attrs=attrs) as sink:
        for step, row in enumerate(bits):
            sink.append(step, W=row, **({} if loss is None else {"loss": float(loss[step])}))
    return path


class Chromium:
    """A browser without a window, with a profile of its own for every page."""

    def __init__(self, program, folder):
        self._program, self._folder = program, folder
        self._n = 0

    def open(self, path, *arguments):
        """(standard output, the lines that the page wrote on its console)."""
        self._n += 1
        command = [self._program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        command += ["--disable-dev-shm-usage", "--enable-logging=stderr", "--v=0", "--virtual-time-budget=4000"]
        command += [f"--user-data-dir={self._folder / f'profile-{self._n}'}", *arguments, path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
