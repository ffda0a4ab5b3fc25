"""The compiled loops and numpy's give the same bytes, so a run does not tell which wrote it."""

import numpy as np
import pytest

from trajectory_store import kernels, temporal

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


@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
def test_compiled_and_numpy_encode_the_same_bytes(itemsize: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoding does not depend on what is installed."""
    for history in histories(itemsize):
        assert kernels.kernels_for(itemsize, 0) is not None
        compiled = temporal.encode(history)
        with monkeypatch.context() as without:
            without.setattr(kernels, "WARM_UP_BYTES", 1 << 60)
            assert kernels.kernels_for(itemsize, 0) is None
            by_numpy = temporal.encode(history)

        assert by_numpy.shape == compiled.shape
        assert by_numpy.tobytes() == compiled.tobytes()


@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
def test_rows_decoded_in_parts_by_either_are_the_rows(itemsize: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that numpy began may be finished by the compiled loop, as happens when the warm-up ends."""
    for history in histories(itemsize):
        decoder = temporal.Decoder(temporal.encode(history), history.dtype)
        middle = len(history) // 2
        with monkeypatch.context() as without:
            without.setattr(kernels, "WARM_UP_BYTES", 1 << 60)
            assert decoder.rows(middle).tobytes() == history[:middle].tobytes()

        assert decoder.rows(len(history)).tobytes() == history.tobytes()
        assert decoder.rows(len(history)).shape == history.shape
