"""What the figures show are the numbers of the analyses, at the places where the axes say they are."""

import re
import struct
import zlib

import numpy as np
import pytest

import trajectory_store as ts
from tests.harness.report_runs import record, walking_bits
from trajectory_store import analysis, report
from trajectory_store.analysis.paths import project
from trajectory_store.report import bins, charts, frame, heatmap, moves, png, worldlines

SIZE = frame.Size(300, 200, 50, 30)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = record(tmp_path_factory.mktemp("run") / "run", walking_bits(60, 40))
    with ts.open(path) as run:
        yield report.findings(run)


def test_motion_equals_the_analyses(found):
    """Heat by bins, tokens by phase and moves by token are sums over what displacement and phases say."""
    moved = analysis.displacement(walking_bits(60, 40))
    phases = analysis.phases(walking_bits(60, 40))
    clipped = np.minimum(moved.l2, moves.HEAT_LIMIT).astype(np.float64)
    index = found.bins.of(moved.steps)
    heat = np.stack([clipped[index == b].sum(axis=0) for b in range(found.bins.n)])

    np.testing.assert_allclose(found.motion.heat, heat, rtol=1e-6)
    np.testing.assert_array_equal(found.motion.phases, phases.counts)
    np.testing.assert_array_equal(found.motion.moves, (moved.l1 > 0).sum(axis=0))
    np.testing.assert_array_equal(found.onset, analysis.freeze_onset(walking_bits(60, 40)))


def test_frozen_share_counts_tokens_that_never_move_again(found):
    """From the onsets, one by one."""
    for step in (0, 1, 30, 59):
        expected = np.mean([onset <= step for onset in found.onset])
        assert found.frozen_share(np.array([step]))[0] == expected
    assert found.frozen_at(0.5) == np.sort(found.onset)[19]


@pytest.mark.parametrize(("first", "last", "n_tokens"), [(1, 1, 1), (1, 2, 5), (1, 10_000, 3_699), (500, 900, 10**7)])
def test_bins_cover_every_step_once(first, last, n_tokens):
    """Both axes' columns are made of whole bins."""
    made = bins.bins_of(first, last, n_tokens=n_tokens)
    assert (made.edges[0], made.edges[-1]) == (first, last + 1)
    assert (np.diff(made.edges) > 0).all()
    for is_log in (False, True):
        assert set(made.columns(is_log)) <= set(made.edges)
        assert (made.columns(is_log)[[0, -1]] == [first, last + 1]).all()


def test_binned_curve_keeps_mean_extremes_and_gaps():
    """Bins without a value are left out; a bin with a NaN is NaN."""
    curve = bins.binned(np.array([1, 3, 5, 7, 9]), np.array([1, 2, 5, 7, 8]), np.array([1.0, 3.0, 4.0, np.inf, 2.0]))
    np.testing.assert_array_equal(curve.steps, [1.5, 5, 7.5])
    np.testing.assert_array_equal(curve.mean, [2, 4, np.nan])
    np.testing.assert_array_equal(curve.low, [1, 4, np.nan])
    np.testing.assert_array_equal(curve.high, [3, 4, np.nan])


def coordinates(path):
    return [tuple(map(float, pair)) for pair in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path)]


@pytest.mark.parametrize("is_log", [False, True])
def test_line_lies_where_its_axes_say(is_log):
    """Read back from the drawing with the places the script reads, on either axis."""
    steps, values = np.array([1.0, 10.0, 55.0, 100.0]), np.array([0.0, 1.0, np.nan, 4.0])
    svg = charts.line_chart(
        "t", [charts.Curve("", steps, values, "c1")], SIZE, steps=(1, 100), is_log=is_log, y_label="y"
    )
    data = {name: float(value) for name, value in re.findall(r'data-(\w+)="([^"]+)"', svg)}
    drawn = coordinates(re.search(r'class="line c1" d="([^"]+)"', svg)[1])

    assert len(drawn) == 3
    for (x, y), step, value in zip(drawn, steps[[0, 1, 3]], values[[0, 1, 3]], strict=True):
        share = (x - data["x0"]) / (data["x1"] - data["x0"])
        low, high = data["lo"], data["hi"]
        assert (low * (high / low) ** share if is_log else low + (high - low) * share) == pytest.approx(step, rel=0.02)
        down = (y - data["y0"]) / (data["y1"] - data["y0"])
        assert data["top"] + (data["bottom"] - data["top"]) * down == pytest.approx(value, abs=0.03)


def test_names_and_titles_are_escaped():
    """Charts take any text."""
    curve = charts.Curve("a<b", np.array([1.0, 2.0]), np.array([1.0, 2.0]), "c1")
    for size in (frame.WIDE, frame.NARROW):
        svg = charts.line_chart("<i>", [curve], size, steps=(1, 2), is_log=False, y_label="&")
        assert "<i>" not in svg
        assert "a&lt;b</text>" in svg


def test_histogram_counts_every_token_that_moved(found):
    """On either axis the bars hold all of them."""
    figure = next(one for one in report.figures(found) if one.name == "freeze-onset")
    for axis in ("linear", "log"):
        assert sum(figure.hover[axis]["counts"]) == np.count_nonzero(found.onset)


def test_a_notebook_shows_a_figure(found):
    """As the file of the same name, on a linear axis."""
    files = report.svg_files(found)
    for figure in report.figures(found):
        assert figure._repr_svg_() == files[f"{figure.name}.svg"]


@pytest.mark.parametrize(
    ("lo", "hi", "n", "expected"),
    [(0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]), (1, 10_000, 4, [5_000, 10_000]), (5, 5, 4, [5]), (-3, 3, 3, [-2, 0, 2])],
)
def test_linear_ticks_are_round(lo, hi, n, expected):
    """1, 2 or 5 times a power of ten."""
    assert frame.Scale(lo, hi, 0, 1).ticks(n) == expected


def test_log_ticks_are_powers_of_ten():
    """With 2 and 5 between them where there is room."""
    assert frame.Scale(1, 10_000, 0, 1, is_log=True).ticks(5) == [1, 10, 100, 1_000, 10_000]
    assert frame.Scale(1, 20, 0, 1, is_log=True).ticks(8) == [1, 2, 5, 10, 20]


def test_labels_keep_their_distance_and_order():
    """Those that would lie on each other are moved apart."""
    places = frame.spread([50, 51, 10, 99], 15, 0, 100)
    assert places[2] < places[0] < places[1] < places[3]
    assert min(np.diff(sorted(places))) >= 15
    assert 0 <= min(places) <= max(places) <= 100


def test_picture_is_sorted_and_says_frozen_and_broken():
    """The first to freeze on top; 0 is no move at all, 255 not finite, all else in the order of heat."""
    made = bins.bins_of(1, 4)
    heat = np.zeros((made.n, 3), dtype=np.float32)
    onset = np.array([4, 1, 3])
    heat[:, 0], heat[0, 1], heat[2, 2] = [1000, 1000, 1000, 0.001], 1, np.nan
    shown = heatmap.picture(heat, made, onset, is_log=False)

    np.testing.assert_array_equal(shown.order, [1, 2, 0])
    # Four steps, the first and the last of which reach half as far: their axis ends in their middle.
    columns = np.repeat([0, 1, 2, 3], [heatmap.WIDTH // 6, heatmap.WIDTH // 3, heatmap.WIDTH // 3, heatmap.WIDTH // 6])
    np.testing.assert_array_equal(shown.pixels[2], np.array([254, 254, 254, 1])[columns])
    np.testing.assert_array_equal(shown.pixels[1], np.array([0, 0, 255, 0])[columns])
    assert 1 < shown.pixels[0, 0] < 254
    assert len(heatmap.palette()) == 256 == len(set(heatmap.palette()))


def test_picture_takes_means_over_pixels():
    """More tokens than rows: what a pixel holds is its tokens' mean."""
    made = bins.bins_of(1, 1)
    heat = np.tile(np.array([10, 0], dtype=np.float32), heatmap.MAX_ROWS)[None]
    shown = heatmap.picture(heat, made, np.arange(2 * heatmap.MAX_ROWS), is_log=True)
    assert shown.pixels.shape == (heatmap.MAX_ROWS, heatmap.WIDTH)
    share = np.log10(5 / heatmap.COLDEST) / np.log10(moves.HEAT_LIMIT / heatmap.COLDEST)
    assert set(shown.pixels.ravel()) == {1 + round(share * 253)}


@pytest.mark.parametrize("is_log", [False, True])
def test_picture_lies_where_its_axis_says(is_log):
    """A token that freezes at a step turns dark at that step's place on the axis, linear or logarithmic."""
    made = bins.bins_of(1, 10_000)
    heat = (made.edges[:-1] < 1438).astype(np.float32)[:, None]
    pixels = heatmap.picture(heat, made, np.array([1438]), is_log=is_log).pixels
    at = frame.step_scale(1, 10_000, 0, heatmap.WIDTH, is_log=is_log).at(1438)
    assert np.count_nonzero(pixels) == pytest.approx(at, abs=2)


def test_png_decodes_to_its_pixels():
    """By the format's own words: signature, checksums, header, palette, filtered lines."""
    pixels = np.array([[0, 1, 2], [2, 1, 0]], dtype=np.uint8)
    data, at, chunks = png.encode(pixels, [(1, 2, 3), (4, 5, 6), (7, 8, 9)]), 8, {}
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    while at < len(data):
        (n,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + n]
        assert struct.unpack_from(">I", data, at + 8 + n) == (zlib.crc32(body),)
        chunks[body[:4]], at = body[4:], at + 12 + n
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (3, 2, 8, 3, 0, 0, 0)
    assert list(chunks[b"PLTE"]) == list(range(1, 10))
    assert zlib.decompress(chunks[b"IDAT"]) == bytes([0, 0, 1, 2, 0, 2, 1, 0])


def test_projection_keeps_distances_in_a_plane():
    """Points of a plane in eight dimensions: the two components hold all of the variance and every distance."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(8, 2)))[0].T
    points = (rng.normal(size=(3, 20, 2)) * [5, 1]) @ basis + 7
    places, share = project(points)
    distances = np.linalg.norm(points[:, 1:] - points[:, :1], axis=-1)
    np.testing.assert_allclose(np.linalg.norm(places[:, 1:] - places[:, :1], axis=-1), distances)
    assert share[0] > share[1]
    assert sum(share) == pytest.approx(1)


def test_projection_leaves_gaps():
    """A point with a NaN has no place; without any point nothing has."""
    points = np.random.default_rng(0).normal(size=(2, 5, 3))
    points[0, 2, 1] = np.nan
    assert np.argwhere(np.isnan(project(points)[0]).any(axis=-1)).tolist() == [[0, 2]]
    assert np.isnan(project(points * np.nan)[0]).all()


@pytest.mark.parametrize("n", [1, 2, 5, 9, 100])
def test_worldlines_are_of_different_tokens(n):
    """First, middle and last, none of them twice."""
    tokens, groups = worldlines.choose(np.random.default_rng(0).permutation(n))
    assert len(set(tokens.tolist())) == len(tokens) == len(groups) == min(n, len(tokens))
    assert len(tokens) == 9 or n < 9


def test_worldlines_begin_and_end_with_the_run(found):
    """Rows are read at the sampled steps, from the first to the last."""
    lines = found.worldlines
    assert lines.ways.steps[[0, -1]].tolist() == [0, 59]
    assert lines.ways.places.shape == (9, len(lines.ways.steps), 2)
