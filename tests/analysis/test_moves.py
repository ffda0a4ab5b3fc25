"""Activity, bulk correlation, velocity, radial motion and divergence against loops over the formulas."""

import itertools

import numpy as np
import pytest

from tests.harness import recordings
from trajectory_store import analysis, bf16
from trajectory_store.errors import UsageError

CLOSE = {"rtol": 1e-9, "atol": 0, "equal_nan": True}


def moves_of(bits):
    """ΔW (steps − 1, tokens, dim), NaN where an end is not finite."""
    values = bf16.to_float64(bits)
    return values[1:] - values[:-1]


def test_activity(recorded, bits):
    """Movers, Σ‖v‖₁, Σ‖v‖₂, ½Σv² and the participation ratio."""
    found = analysis.activity(recorded)

    assert found.steps.tolist() == list(range(1, len(bits)))
    for row, moves in enumerate(moves_of(bits)):
        energy = [0.5 * (move**2).sum() for move in moves]
        movers = (bits[row + 1] != bits[row]).any(axis=1).sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.float64(sum(energy)) ** 2 / (movers * sum(e**2 for e in energy))
        assert found.movers[row] == movers
        assert np.isclose(found.l1[row], sum(np.abs(move).sum() for move in moves), **CLOSE)
        assert np.isclose(found.l2[row], sum(np.sqrt((move**2).sum()) for move in moves), **CLOSE)
        assert np.isclose(found.energy[row], sum(energy), **CLOSE)
        assert np.isclose(found.participation[row], share, **CLOSE)


def check_alignment(found, first_step, per_step):
    assert found.steps.tolist() == list(range(first_step, first_step + len(per_step)))
    for row, values in enumerate(per_step):
        assert found.tokens[row] == len(values)
        if values:
            assert found.mean[row] == pytest.approx(np.mean(values), rel=1e-6, abs=1e-9)
            assert found.median[row] == pytest.approx(np.median(values), rel=1e-6, abs=1e-9)
        else:
            assert np.isnan(found.mean[row])
            assert np.isnan(found.median[row])


def cosine_of(a, b):
    lengths = np.sqrt((a**2).sum()) * np.sqrt((b**2).sum())
    return (a * b).sum() / lengths if lengths > 0 else None


def test_bulk_correlation(recorded, bits):
    """cos(ΔW_i, ΔC) over the tokens that moved."""
    per_step = []
    for moves in moves_of(bits):
        centre = moves.sum(axis=0) / len(moves)
        cosines = [cosine_of(move, centre) for move in moves]
        per_step.append([cosine for cosine in cosines if cosine is not None])

    check_alignment(analysis.bulk(recorded), 1, per_step)


def test_velocity(recorded, bits):
    """cos(ΔW[t−1], ΔW[t]) over the tokens that moved at both steps."""
    moves = moves_of(bits)
    per_step = []
    for before, now in itertools.pairwise(moves):
        cosines = [cosine_of(a, b) for a, b in zip(before, now, strict=True)]
        per_step.append([cosine for cosine in cosines if cosine is not None])

    check_alignment(analysis.velocity(recorded), 2, per_step)


def test_radial_motion(recorded, bits):
    """The sign of the change of ‖W‖, and the radial share of the move."""
    found = analysis.radial(recorded)
    values = bf16.to_float64(bits)
    for row in range(len(bits) - 1):
        growth = [np.linalg.norm(b) - np.linalg.norm(a) for a, b in zip(values[row], values[row + 1], strict=True)]
        shares = [cosine_of(b - a, a) for a, b in zip(values[row], values[row + 1], strict=True)]
        shares = [share for share in shares if share is not None]

        assert found.steps[row] == row + 1
        assert found.outward[row] == sum(change > 0 for change in growth)
        assert found.inward[row] == sum(change < 0 for change in growth)
        assert found.outward[row] + found.inward[row] + found.still[row] == bits.shape[1]
        assert found.share[row] == pytest.approx(np.mean(shares), rel=1e-6) if shares else np.isnan(found.share[row])


def test_divergence(recorded, bits):
    """‖A − B‖ and the entries that differ, a longer run's extra steps left out."""
    other = np.concatenate([bits, bits[-1:]])
    other[len(bits) // 2 :, 3, 1] ^= 0x0041
    other[-2, 5, 0] ^= 0x8000
    found = analysis.divergence(recorded, other)
    a, b = bf16.to_float64(bits), bf16.to_float64(other[: len(bits)])
    gap = np.where(bits == other[: len(bits)], 0, a - b)

    assert found.steps.tolist() == list(range(len(bits)))
    assert np.allclose(found.distance, np.sqrt((gap**2).sum(axis=(1, 2))), **CLOSE)
    assert found.differing.tolist() == (bits != other[: len(bits)]).sum(axis=(1, 2)).tolist()
    assert found.first_step == min(len(bits) // 2, len(bits) - 1)
    assert not found.identical


def test_a_run_does_not_diverge_from_itself(recorded):
    """Identical, NaNs included."""
    found = analysis.divergence(recorded, recorded)

    assert found.identical
    assert found.first_step is None
    assert not found.distance.any()


def test_divergence_needs_the_same_tokens():
    """Two runs of other shapes cannot be subtracted."""
    with pytest.raises(UsageError, match=r"needs the same tokens and dims, found \(65, 4\) and \(66, 4\)"):
        analysis.divergence(recordings.still(), recordings.still(n_tokens=66))
