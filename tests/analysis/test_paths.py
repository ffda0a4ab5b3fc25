"""The ways of single tokens, and how alike a cohort is, against slow definitions."""

import itertools

import numpy as np
import pytest

from tests.harness import recordings
from trajectory_store import analysis, bf16
from trajectory_store.errors import UsageError


def test_paths_keep_what_two_components_can(recorded, bits):
    """Places about their mean on the axes of largest variance, found another way; a gap where not finite."""
    tokens = [3, 0, bits.shape[1] - 1]
    found = analysis.paths(recorded, tokens)
    ways = bf16.to_float64(bits[:, tokens]).transpose(1, 0, 2)
    flat = ways.reshape(-1, bits.shape[2])
    whole = np.isfinite(flat).all(axis=1)

    assert found.steps.tolist() == list(range(len(bits)))
    assert found.tokens.tolist() == tokens
    assert found.places.shape == (3, len(bits), 2)
    np.testing.assert_array_equal(np.isfinite(found.places).all(axis=-1).ravel(), whole)
    if not whole.any():
        return
    centred = flat[whole] - flat[whole].mean(axis=0)
    squares = np.linalg.svd(centred, compute_uv=False) ** 2
    places = found.places.reshape(-1, 2)[whole]
    np.testing.assert_allclose((places**2).sum(axis=0), squares[:2], rtol=1e-6, atol=1e-9 * squares[0])
    if squares.sum():
        np.testing.assert_allclose(found.share, squares[:2] / squares.sum(), rtol=1e-6, atol=1e-9)


def test_paths_at_some_rows(tmp_path):
    """The same points as from an array that has these rows alone, in more components."""
    bits = recordings.walk()
    run = recordings.record(tmp_path / "run", bits)
    rows = [0, 1, 6, 7, 13, 22]
    found = analysis.paths(run, [5, 80], rows=rows, components=3)

    assert found.steps.tolist() == rows
    np.testing.assert_array_equal(found.places, analysis.paths(bits[rows], [5, 80], components=3).places)
    assert len(found.share) == 3


@pytest.mark.parametrize(("tokens", "rows"), [([150], None), ([-1], None), ([], None), ([1], [23]), ([1], [])])
def test_paths_of_what_is_not_there(tokens, rows):
    """One sentence that says what there is."""
    with pytest.raises(UsageError, match=r"a path needs (tokens from 0 to 149|rows from 0 to 22), found"):
        analysis.paths(recordings.walk(), tokens, rows=rows)


def test_likeness(recorded, bits):
    """Every pair's cosine, one after the other, and the singular values' squares from the scatter matrix."""
    cohort, step = [1, 4, 5, 9, 33], min(2, len(bits) - 1)
    values = bf16.to_float64(bits[step])
    lengths = [float(np.sqrt((row**2).sum())) for row in values]
    usable = [token for token, length in enumerate(lengths) if np.isfinite(length) and length > 0]
    groups = [token for token in usable if token in cohort], [token for token in usable if token not in cohort]
    if not groups[0]:
        with pytest.raises(UsageError, match="no token of the cohort has a direction"):
            analysis.likeness(recorded, cohort, step)
        return
    found = analysis.likeness(recorded, cohort, step)

    for value, group in zip((found.cosine, found.others), groups, strict=True):
        pairs = [values[a] @ values[b] / (lengths[a] * lengths[b]) for a, b in itertools.combinations(group, 2)]
        assert np.isclose(value, np.mean(pairs) if pairs else np.nan, rtol=1e-9, atol=1e-12, equal_nan=True)
    members = values[groups[0]]
    scatter = np.linalg.eigvalsh((members - members.mean(axis=0)).T @ (members - members.mean(axis=0)))[::-1]
    squares = found.singular**2
    np.testing.assert_allclose(squares, scatter[: len(squares)], atol=1e-9 * max(scatter[0], 1e-300))
    if squares.sum():
        np.testing.assert_allclose(found.share.sum(), 1)


def test_likeness_of_one_and_of_none():
    """A single token has no pair; tokens that are not there are refused."""
    bits = recordings.walk()
    assert np.isnan(analysis.likeness(bits, [7], 3).cosine)
    assert np.isnan(analysis.likeness(bits, [7], 3).share).all()
    for cohort in ([], [150], [-1]):
        with pytest.raises(UsageError, match="a cohort needs tokens from 0 to 149, found"):
            analysis.likeness(bits, cohort, 3)
