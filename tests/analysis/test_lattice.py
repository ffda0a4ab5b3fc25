"""The lattice against exact fractions, over every bit pattern there is."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from trajectory_store.analysis import lattice
from trajectory_store.errors import UsageError

ALL = np.arange(1 << 16, dtype=np.uint16)
EXPONENT = (ALL >> 7 & 255).astype(int)
FINITE = EXPONENT != 255
MAX_FLOAT32 = Fraction(float(np.finfo(np.float32).max))


def exact_value(bits):
    """A finite pattern's value, from the definition of the format."""
    sign = -1 if bits >> 15 else 1
    exponent, mantissa = bits >> 7 & 255, bits & 127
    whole = mantissa + (128 if exponent else 0)
    return sign * whole * Fraction(2) ** (max(exponent, 1) - 134)


VALUES = [exact_value(bits) if FINITE[bits] else None for bits in range(1 << 16)]


def exact_displacement(before, after):
    return (VALUES[after] - VALUES[before]) / Fraction(2) ** (max(before >> 7 & 255, 1) - 134)


def rounded(value):
    """A fraction as the nearest float32, ties to even, saturated at its largest finite value."""
    if value == 0:
        return np.float32(0)
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if Fraction(2) ** exponent > magnitude:
        exponent -= 1
    unit = Fraction(2) ** (max(exponent, -126) - 23)
    magnitude = min(round(magnitude / unit) * unit, MAX_FLOAT32)
    return np.float32(float(magnitude if value > 0 else -magnitude))


def check_displacement(before, after):
    found = lattice.displacement(before, after)
    assert found.dtype == np.float32
    for b, a, cells in zip(before.tolist(), after.tolist(), found, strict=True):
        if FINITE[b] and FINITE[a]:
            exact = exact_displacement(b, a)
            assert cells == rounded(exact), (hex(b), hex(a))
            assert np.isfinite(cells)
            gap = abs(max(EXPONENT[b], 1) - max(EXPONENT[a], 1))
            if gap <= 16:
                assert Fraction(float(cells)) == exact, (hex(b), hex(a))
        else:
            assert np.isnan(cells)


def test_ulp_of_every_pattern():
    """ulp is the exact power of two of the definition, NaN for NaN and the infinities."""
    found = lattice.ulp(ALL)

    assert found.dtype == np.float32
    assert np.isnan(found[~FINITE]).all()
    for exponent, value in zip(EXPONENT[FINITE].tolist(), found[FINITE].tolist(), strict=True):
        assert Fraction(value) == Fraction(2) ** (max(exponent, 1) - 134)


def test_ulp_is_the_distance_to_the_next_pattern():
    """Away from zero, the next pattern is one ULP further."""
    for bits in range(0x7F7F):
        assert VALUES[bits + 1] - VALUES[bits] == Fraction(float(lattice.ulp(np.uint16([bits]))[0]))


def test_ordinal_of_every_pattern():
    """Ordinals order all finite values, neighbours one apart, both zeros at 0."""
    found = lattice.ordinal(ALL)
    order = np.argsort(found[FINITE], kind="stable")
    sorted_values = [VALUES[bits] for bits in ALL[FINITE][order].tolist()]

    assert found.dtype == np.int32
    assert found[0] == found[0x8000] == 0
    assert sorted_values == sorted(sorted_values)
    assert set(np.diff(found[FINITE][order]).tolist()) == {0, 1}
    assert (found[0x7F80], found[0xFF80]) == (32_640, -32_640)
    assert found[0x7FFF] == -found[0xFFFF] == 32_767


@pytest.mark.slow
def test_displacement_between_neighbours_of_every_pattern():
    """From every pattern to itself, its neighbours, its negative and zero: the exact quotient, rounded once."""
    for after in (ALL, ALL + np.uint16(1), ALL - np.uint16(1), ALL ^ np.uint16(0x8000), np.zeros_like(ALL)):
        check_displacement(ALL, after)


@pytest.mark.slow
def test_displacement_from_zero_and_ones():
    """From both zeros, 1.0, the largest and the smallest value to every pattern."""
    for before in (0x0000, 0x8000, 0x3F80, 0x7F7F, 0x0001, 0x0080):
        check_displacement(np.full_like(ALL, before), ALL)


def test_displacement_of_random_pairs():
    """Random pairs, and pairs whose exponents are around the limit of exactness."""
    rng = np.random.default_rng(5)
    before = rng.integers(0, 1 << 16, 50_000).astype(np.uint16)
    check_displacement(before, rng.integers(0, 1 << 16, 50_000).astype(np.uint16))
    near = (before.astype(int) + rng.integers(-20, 21, 50_000) * 128 + rng.integers(-127, 128, 50_000)) % (1 << 16)
    check_displacement(before, near.astype(np.uint16))


def test_displacement_within_ranges_of_exponents():
    """Arrays of a narrow range, of tiny, ordinary and huge values, which take the shorter way through float32."""
    rng = np.random.default_rng(7)
    for lowest in (6, 7, 8, 60, 120, 153, 154, 155):
        magnitudes = rng.integers(lowest * 128, (lowest + 100) * 128, (2, 2_000))
        signs = rng.integers(0, 2, (2, 2_000)) << 15
        check_displacement(*(magnitudes | signs).astype(np.uint16))


def test_displacement_is_never_minus_zero():
    """A zero that changes its sign moved by +0."""
    found = lattice.displacement(np.uint16([0, 0x8000]), np.uint16([0x8000, 0]))

    assert not np.signbit(found).any()


def test_bfloat16_arrays_are_taken_as_their_bits():
    """ml_dtypes arrays give what their patterns give."""
    values = ALL.view(ml_dtypes.bfloat16)

    assert np.array_equal(lattice.ulp(values), lattice.ulp(ALL), equal_nan=True)
    assert np.array_equal(lattice.ordinal(values), lattice.ordinal(ALL))
    assert np.array_equal(lattice.displacement(values, values), lattice.displacement(ALL, ALL), equal_nan=True)


def test_other_dtypes_are_refused():
    """float32 values have other neighbours, so nothing is guessed about them."""
    with pytest.raises(UsageError, match="needs bfloat16, or its bits as uint16, found float32"):
        lattice.ulp(np.float32([1.0]))


def test_known_moves():
    """0.498 → 0.502 is two cells by ordinal and three by ULPs of the start."""
    before, after = np.array([0.498], ml_dtypes.bfloat16), np.array([0.502], ml_dtypes.bfloat16)

    assert (lattice.ordinal(after) - lattice.ordinal(before)).tolist() == [2]
    assert lattice.displacement(before, after).tolist() == [3.0]
