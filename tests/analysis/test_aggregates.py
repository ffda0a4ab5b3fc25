"""Aggregates of all tokens' moves, against the norms of each."""

import numpy as np

from tests.harness import reference
from trajectory_store import analysis


def test_aggregates(recorded, bits):
    """Shares of those that rest and of those within one ULP, and means of the norms, token by token."""
    found = analysis.aggregates(recorded)
    l1, l2, linf = reference.norms(bits)
    n_tokens = bits.shape[1]

    assert found.steps.tolist() == list(range(1, len(bits)))
    for row in range(len(bits) - 1):
        frozen = sum(1 for norm in l1[row] if norm == 0)
        within = sum(1 for norm in linf[row] if norm <= 1)
        assert np.isclose(found.frozen[row], frozen / n_tokens, rtol=0, atol=1e-12)
        assert np.isclose(found.within_one[row], within / n_tokens, rtol=0, atol=1e-12)
        for name, norms in (("l1", l1), ("l2", l2), ("linf", linf)):
            mean = sum(float(norm) for norm in norms[row]) / n_tokens
            assert np.isclose(getattr(found, name)[row], mean, rtol=1e-6, atol=0, equal_nan=True)
