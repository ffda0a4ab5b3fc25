"""Slow and obvious: each quantity written from its formula, one token and one step after the other."""

import itertools

import numpy as np

from trajectory_store.analysis import lattice

MAX_FLOAT32 = float(np.finfo(np.float32).max)


def moves(bits):
    """(steps, token, ΔW′ of the token) for every step that has one before."""
    for step in range(1, len(bits)):
        for token in range(bits.shape[1]):
            yield step, token, lattice.displacement(bits[step - 1, token], bits[step, token])


def norms(bits):
    """l1, l2, linf, each (steps − 1, tokens) float32."""
    l1, l2, linf = (np.zeros((len(bits) - 1, bits.shape[1]), dtype=np.float32) for _ in range(3))
    for step, token, cells in moves(bits):
        wide = np.abs(cells.astype(np.float64))
        l1[step - 1, token] = np.float32(min(wide.sum(), MAX_FLOAT32)) if not np.isnan(wide.sum()) else np.nan
        norm = np.sqrt((wide**2).sum())
        l2[step - 1, token] = np.float32(min(norm, MAX_FLOAT32)) if not np.isnan(norm) else np.nan
        linf[step - 1, token] = wide.max()
    return l1, l2, linf


def moved(bits):
    """(steps − 1, tokens): whether any bit differs from the step before."""
    return np.array(
        [[(a != b).any() for a, b in zip(now, before, strict=True)] for before, now in itertools.pairwise(bits)]
    )


def last_true(happens, first_step=1):
    """The last step at which something happens to each token, 0 where it never does."""
    last = np.zeros(happens.shape[1], dtype=np.int64)
    for row, flags in enumerate(happens):
        last[flags] = row + first_step
    return last
