"""Displacement norms against the formula, token by token."""

import numpy as np

from tests.harness import reference
from trajectory_store import analysis


def test_displacement_norms(recorded, bits):
    """L1, L2 and L∞ of ΔW′, summed in float64 and rounded once."""
    found = analysis.displacement(recorded)
    l1, l2, linf = reference.norms(bits)

    assert found.steps.dtype == np.int64
    assert found.steps.tolist() == list(range(1, len(bits)))
    assert found.l1.dtype == found.l2.dtype == found.linf.dtype == np.float32
    assert found.l1.shape == (len(bits) - 1, bits.shape[1])
    assert np.array_equal(found.l1, l1, equal_nan=True)
    assert np.array_equal(found.l2, l2, equal_nan=True)
    assert np.array_equal(found.linf, linf, equal_nan=True)
