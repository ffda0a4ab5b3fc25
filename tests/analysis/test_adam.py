"""Adam accounting against the formula, and what it asks for."""

import ml_dtypes
import numpy as np
import pytest

from tests.harness import recordings
from trajectory_store import analysis
from trajectory_store.analysis import lattice
from trajectory_store.errors import UsageError

HYPER = {"learning_rate": 1e-2, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.1}


def train(state_dtype, n_steps=12, n_tokens=130, dim=64):
    """bf16 weights under AdamW, the update computed in float64 and rounded once; and its states."""
    rng = np.random.default_rng(3)
    weights = rng.normal(0, 0.1, (n_tokens, dim)).astype(ml_dtypes.bfloat16)
    m = v = np.zeros((n_tokens, dim))
    rows = [(weights, m.astype(state_dtype), v.astype(state_dtype))]
    for step in range(1, n_steps):
        gradient = rng.normal(0, 1, (n_tokens, dim))
        m = (0.9 * m + 0.1 * gradient).astype(state_dtype).astype(np.float64)
        v = (0.999 * v + 0.001 * gradient**2).astype(state_dtype).astype(np.float64)
        thrust = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        weights = (weights.astype(np.float64) * (1 - 1e-2 * 0.1) - 1e-2 * thrust).astype(ml_dtypes.bfloat16)
        rows.append((weights, m.astype(state_dtype), v.astype(state_dtype)))
    w, m, v = (np.stack(each) for each in zip(*rows, strict=True))
    return w.view(np.uint16).copy(), m, v


@pytest.mark.parametrize("state_dtype", [np.float32, ml_dtypes.bfloat16])
def test_weights_that_follow_adam(tmp_path, state_dtype):
    """Every bit is predicted; one that was changed afterwards is not."""
    bits, m, v = train(state_dtype)
    bits[7, 100, 5] += 3
    run = recordings.record(tmp_path / "run", bits, others={"m": m, "v": v}, attrs={"config": HYPER})
    found = analysis.adam_accounting(run)
    values = bits.view(ml_dtypes.bfloat16).astype(np.float64)
    missed = np.zeros(len(bits) - 1, dtype=int)
    for step in range(1, len(bits)):
        thrust = m[step] / (1 - 0.9**step) / (np.sqrt(v[step] / (1 - 0.999**step)) + 1e-8)
        thrust = thrust.astype(np.float64)
        m64, v64 = m[step].astype(np.float64), v[step].astype(np.float64)
        thrust = m64 / (1 - 0.9**step) / (np.sqrt(v64 / (1 - 0.999**step)) + 1e-8)
        predicted = values[step - 1] * (1 - 1e-2 * 0.1) - 1e-2 * thrust
        rounded = predicted.astype(ml_dtypes.bfloat16).view(np.uint16)
        missed[step - 1] = (rounded != bits[step]).sum()
        cells = np.abs(lattice.ordinal(rounded) - lattice.ordinal(bits[step]))
        assert found.within_one[step - 1] == (cells <= 1).sum()
        assert found.largest_error[step - 1] == np.abs(predicted - values[step]).max()
        assert found.thrust[step - 1] == pytest.approx(np.linalg.norm(thrust, axis=1).mean())
        assert found.move[step - 1] == pytest.approx(np.linalg.norm(values[step] - values[step - 1], axis=1).mean())

    assert found.steps.tolist() == list(range(1, len(bits)))
    assert (found.n_entries - found.equal).tolist() == missed.tolist()
    assert missed.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0]
    assert found.fraction_equal[0] == 1


def test_what_it_needs(tmp_path):
    """States and hyperparameters: one sentence names what is missing."""
    bits, m, v = train(np.float32, n_steps=3)
    bare = recordings.record(tmp_path / "bare", bits)
    states = recordings.record(tmp_path / "states", bits, others={"m": m, "v": v}, attrs={"learning_rate": 1e-2})

    with pytest.raises(UsageError, match="adam accounting needs a series 'm' beside 'W'"):
        analysis.adam_accounting(bare, **HYPER)
    with pytest.raises(UsageError, match="adam accounting needs beta1, beta2, epsilon, weight_decay"):
        analysis.adam_accounting(states)
    with pytest.raises(UsageError, match="so give it the whole run"):
        analysis.adam_accounting(bits, **HYPER)
