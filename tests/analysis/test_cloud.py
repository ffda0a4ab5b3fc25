"""Centre, radius and separation against the mean and the norms of whole steps."""

import numpy as np
import pytest

from tests.harness import recordings
from trajectory_store import analysis, bf16
from trajectory_store.errors import UsageError


def check_cloud(found, values):
    """The same within what float64 sums can differ by, NaN where the values are."""
    scale = np.nanmax(np.abs(values), axis=(1, 2))  # what is left after cancelling is rounding
    for step, points in enumerate(values):
        centroid = points.mean(axis=0)
        radii = np.sqrt(((points - centroid) ** 2).sum(axis=1))
        close = {"rtol": 1e-9, "atol": 1e-12 * scale[step], "equal_nan": True}
        assert np.allclose(found.centroid[step], centroid, **close)
        if np.isfinite(centroid).all():
            assert np.allclose(found.radius[step], radii.mean(), **close)
            assert np.allclose(found.largest_radius[step], radii.max(), **close)
        else:
            assert np.isnan(found.radius[step])
            assert np.isnan(found.largest_radius[step])


def test_cloud(recorded, bits):
    """c = mean W, radius = mean ‖W − c‖, at every step."""
    found = analysis.cloud(recorded)

    assert found.steps.tolist() == list(range(len(bits)))
    assert found.centroid.dtype == found.radius.dtype == np.float64
    assert found.centroid.shape == (len(bits), bits.shape[2])
    check_cloud(found, bf16.to_float64(bits))


def test_cloud_of_some_tokens(recorded, bits):
    """A mask leaves the other tokens out, NaNs among them included."""
    mask = np.arange(bits.shape[1]) % 3 == 0
    mask[: bits.shape[1] - 65] = False

    check_cloud(analysis.cloud(recorded, tokens=mask), bf16.to_float64(bits[:, mask]))


def test_the_way_of_the_centre():
    """Drift, path, net, efficiency, turning and lift-off from the centroids."""
    bits = recordings.walk()
    found = analysis.cloud(bits)
    moves = [b - a for a, b in zip(found.centroid[:-1], found.centroid[1:], strict=True)]
    lengths = [float(np.linalg.norm(move)) for move in moves]
    net = float(np.linalg.norm(found.centroid[-1] - found.centroid[0]))

    assert found.drift.tolist() == pytest.approx(lengths)
    assert found.path == pytest.approx(sum(lengths))
    assert found.net == pytest.approx(net)
    assert found.efficiency == pytest.approx(net / sum(lengths))
    for a, b, cosine in zip(moves[:-1], moves[1:], found.turning, strict=True):
        product = np.linalg.norm(a) * np.linalg.norm(b)
        assert cosine == pytest.approx(a @ b / product) if product else np.isnan(cosine)
    outside = [step for step in range(len(bits)) if np.linalg.norm(found.centroid[step]) > found.largest_radius[step]]
    assert found.lift_off == (outside[0] if outside else None)


def test_a_cloud_lifts_off():
    """The first step at which no token is as far from the centre as the origin is."""
    values = np.zeros((4, 2, 2), dtype=np.float32)
    values[:, 0, 0], values[:, 1, 0] = [1, 1, 2, 3], [-1, 0, 1, 2]
    found = analysis.cloud(values.astype(bf16.BFLOAT16))

    assert found.distance.tolist() == [0, 0.5, 1.5, 2.5]
    assert found.largest_radius.tolist() == [1, 0.5, 0.5, 0.5]
    assert found.lift_off == 2


def test_a_sparse_series_has_a_cloud(tmp_path):
    """Nothing about a cloud asks for every step."""
    import trajectory_store as ts

    bits = recordings.walk(n_steps=5)
    with ts.create(tmp_path / "run", {"W": ts.Series(bits.shape[1:], "bfloat16", steps=100)}) as sink:
        for row, step in enumerate(range(0, 500, 100)):
            sink.append(step, W=bits[row])
    found = analysis.cloud(ts.open(tmp_path / "run"))

    assert found.steps.tolist() == [0, 100, 200, 300, 400]
    assert found.centroid.tobytes() == analysis.cloud(bits).centroid.tobytes()


def test_separation(tmp_path):
    """Two clouds in one pass, by the run's own mask; the distance of their centres."""
    bits = recordings.walk()
    dead = np.random.default_rng(1).random(bits.shape[1]) < 0.4
    run = recordings.record(tmp_path / "run", bits, static={"dead_mask": dead})
    found = analysis.separation(run)
    live, of_dead = analysis.cloud(run, tokens=~dead), analysis.cloud(run, tokens=dead)

    assert found.live.centroid.tobytes() == live.centroid.tobytes()
    assert found.dead.radius.tobytes() == of_dead.radius.tobytes()
    assert np.allclose(found.distance, np.linalg.norm(live.centroid - of_dead.centroid, axis=1))
    assert found.steps.tolist() == list(range(len(bits)))


def test_separation_needs_the_live_tokens(tmp_path):
    """A run of dead tokens only, one without a mask, or an array without one: one sentence each."""
    bits = recordings.walk(n_steps=3)
    run = recordings.record(tmp_path / "dead", bits, static={"dead_mask": np.ones(400, dtype=bool)})

    with pytest.raises(UsageError, match=r"needs the live tokens recorded beside the dead ones: .* 150 tokens"):
        analysis.separation(run)
    with pytest.raises(UsageError, match=r"needs dead=, a mask of the dead tokens: .*no static array 'dead_mask'"):
        analysis.separation(recordings.record(tmp_path / "bare", bits))
    with pytest.raises(UsageError, match="needs dead="):
        analysis.separation(bits)
    with pytest.raises(UsageError, match="mask needs 150 entries"):
        analysis.cloud(bits, tokens=np.zeros(150, dtype=bool))
