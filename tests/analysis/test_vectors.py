"""A vector a step: how it turns, and where on the sky of a cloud it points."""

import itertools
import math

import numpy as np
import pytest

import trajectory_store as ts
from tests.harness import recordings
from trajectory_store import analysis
from trajectory_store.errors import UsageError


def cosine(a, b):
    """One pair at a time."""
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths and math.isfinite(lengths) else math.nan


@pytest.fixture(params=["float32", "bfloat16"])
def h_mean(request, tmp_path):
    """A run with a vector a step; one of them is zero, one is not finite."""
    values = np.random.default_rng(2).normal(1, 1, (12, 5)).astype(np.float32)
    values[4], values[7, 2] = 0, np.nan
    series = {"h_mean": ts.Series((5,), request.param)}
    with ts.create(tmp_path / "run", series, steps=12) as sink:
        for step, row in enumerate(values):
            sink.append(step, h_mean=row.astype(ts.bf16.BFLOAT16) if request.param == "bfloat16" else row)
    with ts.open(tmp_path / "run") as run:
        yield run


def test_autocorrelation(h_mean):
    """cos(h[t−1], h[t]) of each pair, and means over stretches."""
    found = analysis.autocorrelation(h_mean)
    rows = h_mean["h_mean"][...].astype(float).tolist()
    expected = [cosine(a, b) for a, b in itertools.pairwise(rows)]

    assert found.steps.tolist() == list(range(1, 12))
    np.testing.assert_allclose(found.cosine, expected, rtol=1e-12)
    assert np.isnan(found.cosine[[3, 4, 6, 7]]).all()
    steps, means = found.binned(3)
    assert steps.tolist() == [1, 4, 7, 10]
    np.testing.assert_allclose(means[[0, 3]], [np.mean(expected[:3]), np.mean(expected[9:])])
    assert np.isnan(means[[1, 2]]).all()


def test_autocorrelation_needs_one_vector_a_step(tmp_path):
    """Not rows of tokens, and not a number."""
    with recordings.record(tmp_path / "run", recordings.walk(3), others={"loss": np.zeros(3, np.float32)}) as run:
        for name in ("W", "loss"):
            with pytest.raises(UsageError, match=rf"'{name}': autocorrelation needs numbers \(step, dim\)"):
                analysis.autocorrelation(run, name)


def test_sky():
    """Places by the definition of each angle, on axes that another way of finding them gives."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 6)) * [1, 7, 1, 3, 5, 1] + 2
    vectors = rng.normal(size=(30, 6))
    vectors[9] = 0
    found = analysis.sky(vectors, rows)
    axes = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)[2][:3]
    axes = np.array([axis if axis[np.abs(axis).argmax()] > 0 else -axis for axis in axes])

    np.testing.assert_allclose(found.axes, axes, atol=1e-9)
    np.testing.assert_allclose(found.variances, [np.var((rows - rows.mean(axis=0)) @ axis) for axis in axes])
    for row, h in enumerate(vectors):
        x, z, y = (float(h @ axis) for axis in axes)  # longitude 0, the pole, the third
        r = math.sqrt(x * x + y * y + z * z)
        if not r:
            assert np.isnan([found.latitude[row], found.longitude[row]]).all()
            continue
        assert found.latitude[row] == pytest.approx(90 - math.degrees(math.acos(z / r)))
        assert found.longitude[row] == pytest.approx(math.degrees(math.atan2(y, x)))
    turns = [math.degrees(math.acos(cosine(a, b))) for a, b in itertools.pairwise(vectors[:9])]
    np.testing.assert_allclose(found.turns[:8], turns)
    assert found.net == pytest.approx(math.degrees(math.acos(cosine(vectors[0], vectors[-1]))))
    assert np.isnan(found.turns[8:10]).all()
    assert analysis.sky(vectors[:9], rows).path == pytest.approx(sum(turns))


def test_sky_needs_the_same_dims():
    """One sentence."""
    with pytest.raises(UsageError, match=r"of three dims at least, found \(2, 4\) and \(9, 5\)"):
        analysis.sky(np.ones((2, 4)), np.ones((9, 5)))
    with pytest.raises(UsageError, match="of three dims at least"):
        analysis.sky(np.ones((2, 2)), np.ones((9, 2)))
