"""Phases, reheating and lifecycles against loops over every step and token."""

import numpy as np
import pytest

from tests.harness import recordings, reference
from trajectory_store import analysis, bf16
from trajectory_store.analysis import lattice


def five_states(bits, thresholds=(0.1, 1, 10, 100)):
    _, l2, _ = reference.norms(bits)
    return [[sum(not norm < threshold for threshold in thresholds) for norm in row] for row in l2]


def regimes(bits):
    def phase(l1, l2):
        if l1 == 0:
            return 0
        if l1 <= 1:
            return 1
        if l2 <= np.sqrt(bits.shape[2]):
            return 2
        return 3 if l2 <= 1000 else 4

    l1, l2, _ = reference.norms(bits)
    return [[phase(*pair) for pair in zip(*rows, strict=True)] for rows in zip(l1, l2, strict=True)]


def lattice_or_thermal(bits, cells=8):
    def phase(before, after):
        if (before == after).all() and bf16.is_finite(before).all():
            return 0
        length = np.sqrt(((bf16.to_float64(after) - bf16.to_float64(before)) ** 2).sum())
        if length == 0:
            return 0
        return 1 if length <= cells * lattice.ulp(before).astype(np.float64).mean() else 2

    return [
        [phase(before, after) for before, after in zip(bits[step - 1], bits[step], strict=True)]
        for step in range(1, len(bits))
    ]


SCHEMES = [
    (analysis.FiveStates(), five_states),
    (analysis.FiveStates((0.5, 2, 30, 1000)), lambda bits: five_states(bits, (0.5, 2, 30, 1000))),
    (analysis.Regimes(), regimes),
    (analysis.LatticeOrThermal(), lattice_or_thermal),
    (analysis.LatticeOrThermal(2.0), lambda bits: lattice_or_thermal(bits, 2.0)),
]


@pytest.mark.parametrize(("scheme", "expected"), SCHEMES)
def test_phases(recorded, bits, scheme, expected):
    """Each token's phase at each step, their counts, reheating and last steps."""
    found = analysis.phases(recorded, scheme=scheme)
    wanted = np.array(expected(bits), dtype=np.int8).reshape(len(bits) - 1, bits.shape[1])

    assert np.array_equal(found.phase, wanted)
    assert found.steps.tolist() == list(range(1, len(bits)))
    for index in range(len(scheme.names)):
        assert found.counts[:, index].tolist() == [(row == index).sum() for row in wanted]
    assert np.allclose(found.fractions.sum(axis=1), 1)
    check_reheating(found.reheating(), wanted)
    check_lifecycles(found.lifecycles(), wanted, len(scheme.names))


def check_reheating(found, phase):
    for row in range(1, len(phase)):
        before, now = phase[row - 1].tolist(), phase[row].tolist()
        pairs = list(zip(before, now, strict=True))
        assert found.steps[row - 1] == row + 1
        assert found.hotter[row - 1] == sum(b < n for b, n in pairs)
        assert found.colder[row - 1] == sum(b > n for b, n in pairs)
        assert found.same[row - 1] == sum(b == n for b, n in pairs)
        assert found.from_frozen[row - 1] == sum(b == 0 < n for b, n in pairs)


def check_lifecycles(found, phase, n_phases):
    for index in range(1, n_phases):
        assert np.array_equal(found.last_steps[:, index - 1], reference.last_true(phase >= index))
    assert found.areas.sum() == pytest.approx(1)
    assert len(found.areas) == n_phases


def test_when_a_share_is_reached():
    """The first steps at which a share of the tokens is, or is no longer, in a phase."""
    found = analysis.Phases(
        np.arange(1, 5), ("frozen", "hot"), np.array([[1, 1], [1, 0], [0, 0], [0, 0]], dtype=np.int8)
    )

    assert found.first_at_least("frozen", 0.5) == 2
    assert found.first_at_most("hot", 0) == 3
    assert found.first_at_least("hot", 1.0) == 1
    assert found.first_at_most("frozen", -1) is None


def test_shorthands_give_the_same():
    """`reheating` and `lifecycles` are the phases' own."""
    bits = recordings.walk()
    phases = analysis.phases(bits)

    assert np.array_equal(analysis.reheating(bits).hotter, phases.reheating().hotter)
    assert np.array_equal(analysis.lifecycles(bits).last_steps, phases.lifecycles().last_steps)
