"""Freeze onset, stillness, stumbles and cohorts against loops over every step and token."""

import numpy as np
import pytest

from tests.harness import recordings, reference
from trajectory_store import analysis


def moved(bits):
    return reference.moved(bits).reshape(len(bits) - 1, bits.shape[1])


def test_freeze_onset(recorded, bits):
    """The last step at which any bit of the token's row differs from the step before."""
    onset = analysis.freeze_onset(recorded)

    assert onset.dtype == np.int64
    assert np.array_equal(onset, reference.last_true(moved(bits)))


def test_stillness(recorded, bits):
    """Movers of each step, and the runs of steps without any."""
    found = analysis.stillness(recorded)
    movers = moved(bits).sum(axis=1)
    runs = []
    for step, n in zip(range(1, len(bits)), movers, strict=True):
        if n == 0:
            if runs and sum(runs[-1]) == step:
                runs[-1][1] += 1
            else:
                runs.append([step, 1])

    assert found.steps.tolist() == list(range(1, len(bits)))
    assert found.movers.tolist() == movers.tolist()
    assert list(zip(found.first_steps, found.lengths, strict=True)) == [tuple(run) for run in runs]
    assert found.n_still == (movers == 0).sum()
    assert found.winter == (runs[-1][1] if runs and sum(runs[-1]) == len(bits) else 0)


@pytest.mark.parametrize("big", [1.0, 50.0])
def test_stumbles(recorded, bits, big):
    """From the last move above a size, NaN among them, to the last move of any size."""
    found = analysis.stumbles(recorded, big=big)
    l1 = reference.norms(bits)[0]

    assert np.array_equal(found.last_any, reference.last_true(moved(bits)))
    assert np.array_equal(found.last_big, reference.last_true(~(l1 <= big)))
    assert np.array_equal(found.duration, found.last_any - found.last_big)


def test_cohort_onset(recorded, bits):
    """The first step at which a token's L1 is at most one cell."""
    first = np.zeros(bits.shape[1], dtype=np.int64)
    for row, l1 in enumerate(reference.norms(bits)[0]):
        first[(l1 <= 1) & (first == 0)] = row + 1

    assert np.array_equal(analysis.cohort_onset(recorded), first)


def test_a_token_that_moves_at_the_last_step_only(tmp_path):
    """The onset is that step; a neighbour that never moves has 0."""
    bits = recordings.still()
    bits[-1, 3, 0] += 1
    onset = analysis.freeze_onset(recordings.record(tmp_path / "run", bits))

    assert onset[3] == len(bits) - 1
    assert not np.delete(onset, 3).any()
