"""The compiled loops and numpy's give the same bytes, so a run does not tell which wrote it."""

import numpy as np
import pytest

from tests.codec.test_temporal import any_encoded
from trajectory_store import bf16
from trajectory_store.codec import kernels, temporal

pytest.importorskip("numba")


@pytest.fixture(autouse=True)
def _from_the_first_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "WARM_UP_BYTES", 0)


def histories(itemsize: int) -> list[np.ndarray]:
    """Every 16-bit pattern twice, each beside every kind of neighbour; random bits; one row; one value."""
    rng = np.random.default_rng(itemsize)
    every = np.arange(1 << 16, dtype=np.uint64).astype(f"u{itemsize}")
    return [
        np.stack([every, every[::-1], rng.permutation(every), every]),
        rng.integers(0, 256, (37, 5, 3 * itemsize), dtype=np.uint8).view(f"u{itemsize}"),
        rng.integers(0, 256, (1, 2 * itemsize), dtype=np.uint8).view(f"u{itemsize}"),
        rng.integers(0, 256, (9, itemsize), dtype=np.uint8).view(f"u{itemsize}")[:, 0],
    ]


def moving(n_steps: int, n_tokens: int, width: int) -> np.ndarray:
    """Tokens that move together, at some steps and in some dimensions, and alone; some are huge, zero or not finite."""
    rng = np.random.default_rng(n_tokens)
    values = rng.normal(0, 0.02, (n_tokens, width)) * 10.0 ** rng.integers(-3, 2, (n_tokens, 1))
    rows = [bf16.from_float32(values.astype(np.float32))[0]]
    rows[0][:: max(2, n_tokens // 3)] = rng.choice([0, 0x8000, 1, 0x7F7F, 0x7F80, 0x7FC1, 0x0FFF, 0x1000], width)
    for _ in range(n_steps - 1):
        shared = rng.normal(0, 3e-4, width) * (rng.random(width) < 0.8) * (rng.random() < 0.7)
        alone = rng.normal(0, 1e-5, (n_tokens, width)) * (rng.random() < 0.5)
        with np.errstate(all="ignore"):
            moved = bf16.to_float32(rows[-1]) + (shared + alone).astype(np.float32)
        rows.append(bf16.from_float32(moved)[0])
    return np.stack(rows)


CASES = [(history, False) for itemsize in (1, 2, 4, 8) for history in histories(itemsize)]
CASES += [(history, True) for history in histories(2)]
CASES += [(moving(50, *shape), True) for shape in ((64, 64), (65, 7), (16, 1), (1, 33), (2, 3))]


@pytest.mark.parametrize(("history", "with_motion"), CASES, ids=lambda case: str(getattr(case, "shape", case)))
def test_compiled_and_numpy_encode_the_same_bytes(history: np.ndarray, with_motion: bool) -> None:
    """Encoding does not depend on what is installed, whatever way is taken."""
    assert (kernels.kernels_for(history.itemsize, 0) is not None) == (history.itemsize in kernels.ITEM_SIZES)
    geometry = temporal.geometry_of(history.shape, history.itemsize, with_motion)
    patterns = np.ascontiguousarray(history).reshape(len(history), geometry.n_tokens, geometry.width)
    for way in (temporal.Way(moves and with_motion, splits) for moves in (True, False) for splits in (True, False)):
        compiled = temporal._encode(patterns, geometry, way)
        assert compiled.tobytes() == temporal._encode_by_numpy(patterns, geometry, way).tobytes()
        decoded = temporal.decode(compiled, history.shape, history.dtype, with_motion=with_motion)
        assert decoded.tobytes() == history.tobytes()


@pytest.mark.parametrize(("history", "with_motion"), CASES, ids=lambda case: str(getattr(case, "shape", case)))
def test_rows_decoded_in_parts_by_either_are_the_rows(
    history: np.ndarray, with_motion: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that numpy began may be finished by the compiled loop, as happens when the warm-up ends."""
    encoded = temporal.encode(history, with_motion=with_motion)
    decoder = temporal.Decoder(encoded, history.shape, history.dtype, with_motion=with_motion)
    middle = len(history) // 2
    with monkeypatch.context() as without:
        without.setattr(kernels, "WARM_UP_BYTES", 1 << 60)
        assert decoder.rows(middle).tobytes() == history[:middle].tobytes()

    assert decoder.rows(len(history)).tobytes() == history.tobytes()
    assert decoder.rows(len(history)).shape == history.shape


def test_any_bytes_decode_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that nobody encoded, whose moves are any pattern, give the same rows either way."""
    shape = (40, 16, 5)
    encoded = any_encoded(shape, with_motion=True, seed=1)
    compiled = temporal.decode(encoded, shape, "<u2", with_motion=True)
    monkeypatch.setattr(kernels, "WARM_UP_BYTES", 1 << 60)
    assert np.array_equal(temporal.decode(encoded, shape, "<u2", with_motion=True), compiled)


def test_flushing_subnormals_changes_no_bit() -> None:
    """torch.set_flush_denormal changes what the processor does with subnormals, in the thread that trains."""
    torch = pytest.importorskip("torch")
    history = moving(50, 64, 16)
    history[:, ::7] >>= np.uint16(7)  # subnormals and the smallest exponents
    encoded = temporal.encode(history, with_motion=True)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot")
    try:
        assert temporal.encode(history, with_motion=True).tobytes() == encoded.tobytes()
        assert np.array_equal(temporal.decode(encoded, history.shape, "<u2", with_motion=True), history)
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("compiles", [True, False])
@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
def test_some_tokens_are_those_of_all(itemsize: int, compiles: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few tokens undone alone are what undoing everything gives, whatever was undone before."""
    monkeypatch.setattr(kernels, "WARM_UP_BYTES", 0 if compiles else 1 << 60)
    rng = np.random.default_rng(itemsize)
    histories_ = [rng.integers(0, 256, (23, 33, 5 * itemsize), dtype=np.uint8).view(f"u{itemsize}")]
    histories_ += [rng.integers(0, 256, (9, 40 * itemsize), dtype=np.uint8).view(f"u{itemsize}")]
    histories_ += [moving(40, 64, 64), moving(40, 65, 7)] if itemsize == 2 else []
    for history in histories_:
        with_motion = itemsize == 2
        encoded = temporal.encode(history, with_motion=with_motion)
        for first in range(history.shape[1] - 2):
            decoder = temporal.Decoder(encoded, history.shape, history.dtype, with_motion=with_motion)
            for stop in (1, 5, len(history)):
                tokens = slice(first, first + 3)
                assert decoder.rows(stop, tokens).tobytes() == history[:stop, tokens].tobytes()
            assert decoder.rows(len(history)).tobytes() == history.tobytes()
            assert decoder.rows(3, slice(first, first + 1)).tobytes() == history[:3, first : first + 1].tobytes()
