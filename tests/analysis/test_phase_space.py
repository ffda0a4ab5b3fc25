"""Adam's phase space against its formula, entry by entry."""

import math
import statistics

import ml_dtypes
import numpy as np
import pytest

from tests.harness import recordings
from trajectory_store import analysis
from trajectory_store.analysis import lattice
from trajectory_store.errors import UsageError

HYPER = {"learning_rate": 1e-3, "epsilon": 1e-8}


def states(shape, dtype, seed=4):
    """Moments over many magnitudes, zeros among them."""
    rng = np.random.default_rng(seed)
    m = rng.normal(0, 1, shape) * 10.0 ** rng.uniform(-9, -2, shape) * (rng.random(shape) < 0.9)
    return m.astype(dtype), (m**2 * rng.uniform(0, 2, shape)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", ["walk", "random"])
def test_ratio_of_every_entry(tmp_path, name, dtype):
    """|m| η / (ULP(W[t−1]) (√v + ε)): its median, how many exceed 1, and how many bits differ."""
    bits = recordings.RECORDINGS[name]()[:5, :70]
    m, v = states(bits.shape, dtype)
    m[3, 66, 1], v[4, 1, 2] = np.nan, np.inf
    run = recordings.record(tmp_path / "run", bits, others={"m": m, "v": v}, attrs={"config": HYPER}, block_steps=2)
    found = analysis.phase_space(run)

    assert found.steps.tolist() == [1, 2, 3, 4]
    assert found.n_entries == bits[0].size
    for row in range(1, 5):
        ulps = lattice.ulp(bits[row - 1]).astype(np.float64).ravel()
        entries = zip(m[row].astype(float).ravel(), v[row].astype(float).ravel(), ulps.ravel(), strict=True)
        ratios = [abs(a) * 1e-3 / (ulp * (math.sqrt(b) + 1e-8)) for a, b, ulp in entries]
        expected = statistics.median(ratios) if all(map(math.isfinite, ratios)) else math.nan
        assert np.isclose(found.median[row - 1], expected, rtol=1e-6, atol=0, equal_nan=True)
        assert found.beyond[row - 1] == sum(1 for ratio in ratios if ratio > 1)
        assert found.hopped[row - 1] == (bits[row] != bits[row - 1]).sum()


def test_what_it_needs(tmp_path):
    """States and hyperparameters; those given go over the run's."""
    bits = recordings.walk(n_steps=3)
    bare = recordings.record(tmp_path / "bare", bits)
    m, v = states(bits.shape, np.float32)
    run = recordings.record(tmp_path / "run", bits, others={"m": m, "v": v}, attrs={"epsilon": 1e-8})

    with pytest.raises(UsageError, match="phase space needs a series 'm' beside 'W'"):
        analysis.phase_space(bare, **HYPER)
    with pytest.raises(UsageError, match="phase space needs learning_rate: the run's attributes do not say"):
        analysis.phase_space(run)
    once, twice = (analysis.phase_space(run, learning_rate=rate).median for rate in (1.0, 2.0))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)
