"""Distinct rows and black holes against sets and an all-pairs graph."""

import numpy as np
import pytest

from tests.harness import recordings
from trajectory_store import analysis
from trajectory_store.analysis import lattice
from trajectory_store.errors import StepNotRecordedError, UsageError


def test_unique_rows(recorded, bits):
    """The number of different byte strings among a step's rows."""
    found = analysis.unique_rows(recorded)

    assert found.steps.tolist() == list(range(len(bits)))
    assert found.count.tolist() == [len({row.tobytes() for row in rows}) for rows in bits]


def test_tokens_that_meet_and_part():
    """Rows that become equal are one; −0 and +0 are two."""
    bits = recordings.still(n_steps=4, n_tokens=5)
    bits[:, :, 0] = np.arange(1, 6)
    bits[1, 1] = bits[1, 0]
    bits[2, 2, 0], bits[2, 3, 0] = 0, 0x8000

    assert analysis.unique_rows(bits).count.tolist() == [5, 4, 5, 5]


def groups_of(rows, max_cells):
    """Components by brute force: join until nothing changes."""
    ordinals = lattice.ordinal(rows).astype(int)
    groups = [{token} for token in range(len(rows))]
    joined = True
    while joined:
        joined = False
        for a in range(len(groups)):
            for b in range(a + 1, len(groups)):
                if any(np.abs(ordinals[i] - ordinals[j]).max() <= max_cells for i in groups[a] for j in groups[b]):
                    groups[a] |= groups.pop(b)
                    joined = True
                    break
            if joined:
                break
    return {frozenset(group) for group in groups if len(group) > 1}


@pytest.mark.parametrize("max_cells", [0, 1, 3])
def test_black_holes(max_cells):
    """Chains of close tokens are one hole; holes come by population."""
    rng = np.random.default_rng(4)
    bits = rng.integers(0, 9, (3, 60, 2)).astype(np.uint16) * 2 + 0x3C00
    bits[1] = rng.integers(0, 14, (60, 2)).astype(np.uint16) + (rng.integers(0, 2, (60, 2)) << 15).astype(np.uint16)
    for step, found in enumerate(analysis.black_holes(bits, [0, 1, 2], max_cells=max_cells)):
        holes = [frozenset(np.flatnonzero(found.hole == index).tolist()) for index in range(len(found.population))]

        assert found.step == step
        assert set(holes) == groups_of(bits[step], max_cells)
        assert found.population.tolist() == sorted((len(hole) for hole in holes), reverse=True)
        assert [len(hole) for hole in holes] == found.population.tolist()


def test_black_holes_are_of_recorded_steps():
    """A step that is not there, and a negative distance, are errors."""
    bits = recordings.still(n_steps=3)

    assert analysis.black_holes(bits, [2])[0].population.tolist() == [65]
    with pytest.raises(StepNotRecordedError, match="no step 3"):
        analysis.black_holes(bits, [3])
    with pytest.raises(UsageError, match="max_cells=-1"):
        analysis.black_holes(bits, [0], max_cells=-1)
