"""The temporal-delta codec is lossless for every bit pattern, as functions and as a codec of zarr."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import strategies
from trajectory_store import bf16
from trajectory_store.codec import bit_planes, motion, temporal, zstd
from trajectory_store.codec.tile_codecs import CODEC_NAMES, TileCodec, codec_for
from trajectory_store.dtypes import DTYPES
from trajectory_store.errors import DamageError

ALL = np.arange(1 << 16, dtype=np.uint16)


@pytest.mark.parametrize("with_motion", [False, True])
def test_all_patterns_after_all_kinds_of_patterns(with_motion: bool) -> None:
    """All 65,536 patterns as first rows and as rows after others: NaN payloads, −0 and subnormals are among them."""
    for shift in (0, 1, 0x7F80, 0x8000, 0xFFFF, 12345):
        rows = np.stack([ALL, np.roll(ALL, shift), ALL[::-1], ALL])
        assert round_trip(rows, with_motion=with_motion).tobytes() == rows.tobytes()


@pytest.mark.parametrize("move", [0x3980, 0xB980, 0x7F7F, 0x1000, 0x0FFF, 0x0001, 0x7F80, 0x7FC1, 0xFFFF])
def test_every_pattern_survives_every_kind_of_move(move: int) -> None:
    """Any move is invertible, those no writer of ours stores included: subnormal, infinite, NaN."""
    before = ALL.reshape(-1, 64)
    predicted = motion.predict(before, np.full(64, move, dtype=np.uint16))
    exponent = (ALL >> 7 & 255).reshape(before.shape)
    is_usable = (exponent >= 32) & (exponent <= 254) & (32 <= (move >> 7 & 255) <= 254)
    with np.errstate(all="ignore"):
        exact = before.view(bf16.BFLOAT16).astype(np.float32) + np.uint16(move).view(bf16.BFLOAT16).astype(np.float32)
        expected = exact.astype(bf16.BFLOAT16).view(np.uint16)
    assert np.array_equal(predicted, np.where(is_usable, expected, before))


def test_a_shared_move_costs_next_to_nothing() -> None:
    """Tokens of all binades that take one step together: what is stored is the step, not 64 differences."""
    rng = np.random.default_rng(0)
    rows = [bf16.from_float32(rng.normal(0, 0.02, (64, 16)).astype(np.float32))[0]]
    for move in rng.normal(0, 3e-4, (30, 16)).astype(np.float32):
        rows.append(bf16.from_float32(bf16.to_float32(rows[-1]) + move)[0])
    history = np.stack(rows)

    together, alone = temporal.encode(history, with_motion=True), temporal.encode(history)

    assert np.array_equal(round_trip(history, with_motion=True), history)
    assert len(zstd.compress(together, 1)) < 0.4 * len(zstd.compress(alone, 1))


def test_live_tokens_are_stored_as_small_as_without_motion() -> None:
    """Tokens with moves of their own have none in common, and those that repeat others are found as bytes."""
    rng = np.random.default_rng(0)
    rows = [bf16.from_float32(rng.normal(0, 0.02, (64, 16)).astype(np.float32))[0]]
    for _ in range(40):
        moves = rng.normal(0, 3e-4, (4, 16)).astype(np.float32).repeat(16, axis=0)  # four kinds of tokens
        rows.append(bf16.from_float32(bf16.to_float32(rows[-1]) + moves)[0])
    history = np.stack(rows)

    geometry = temporal.geometry_of(history.shape, 2, True)
    sizes = {
        way: len(zstd.compress(temporal._encode(history, geometry, way), 1))
        for way in (temporal.Way(moves, splits) for moves in (True, False) for splits in (True, False))
    }
    assert len(zstd.compress(temporal.encode(history, with_motion=True), 1)) <= 1.02 * min(sizes.values())
    assert np.array_equal(round_trip(history, with_motion=True), history)


def round_trip(rows: np.ndarray, *, with_motion: bool) -> np.ndarray:
    encoded = temporal.encode(rows, with_motion=with_motion)
    return temporal.decode(encoded, rows.shape, rows.dtype, with_motion=with_motion)


def codecs(dtype: str) -> list[TileCodec]:
    """Both chains, as a series of this dtype has them, with motion and without."""
    return [codec_for(name, dtype, tile_tokens) for name in CODEC_NAMES for tile_tokens in (1, 64)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_bit_for_bit(dtype: str) -> None:
    """Random bits of every dtype that a series can have, through each chain of codecs."""
    storage = np.dtype("<u2") if dtype == "bfloat16" else DTYPES[dtype]
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 256, (9, 4, 3, storage.itemsize), dtype=np.uint8).view(storage)[..., 0]
    for codec in codecs(dtype):
        decoded = codec.decode(codec.encode(rows), rows.shape, storage)
        for stop in (1, 5, 9):
            assert np.ascontiguousarray(decoded.rows(stop)).tobytes() == rows[:stop].tobytes()


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from([1, 2, 4, 8]), st.booleans())
def test_any_history_comes_back(data: st.DataObject, itemsize: int, with_motion: bool) -> None:
    """Rows decoded at once, and as far as they are asked for, are the rows that were encoded."""
    rows = data.draw(strategies.histories(itemsize))
    with_motion = with_motion and itemsize == 2
    encoded = temporal.encode(rows, with_motion=with_motion)
    assert len(encoded) <= temporal.Geometry(rows.shape, itemsize, with_motion).most_bytes

    decoder = temporal.Decoder(encoded, rows.shape, rows.dtype, with_motion=with_motion)
    for stop in sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4))):
        assert decoder.rows(stop).tobytes() == rows[:stop].tobytes()
    assert temporal.decode(encoded, rows.shape, rows.dtype, with_motion=with_motion).tobytes() == rows.tobytes()


def test_the_worked_examples_of_the_format() -> None:
    """docs/format.md, "Temporal delta", byte for byte."""
    rows = np.array([[0x3F80, 0xBF80], [0x3F81, 0xBF80], [0x3F80, 0xBF81]], dtype="<u2")
    geometry = temporal.geometry_of(rows.shape, 2, False)
    split = "300002000300", "3fbf000000000000 8080000000000000", "01", "0102"
    whole = "300020002000", "3fbf000000000000 8080000000000000", "0200000000000000", "0102000000000000"
    for expected, is_split in ((split, True), (whole, False)):
        coded = temporal._encode(rows[:, :, None], geometry, temporal.Way(False, is_split))
        assert coded.tobytes() == bytes.fromhex("".join(expected))
    rows = np.array([[0x3C00, 0x3D00], [0x3C40, 0x3D10]], dtype="<u2")
    expected = "30000000", "3c3d000000000000 0000000000000000", "00770000"
    geometry = temporal.geometry_of(rows.shape, 2, True)
    coded = temporal._encode(rows[:, :, None], geometry, temporal.Way(True, True))
    assert coded.tobytes() == bytes.fromhex("".join(expected))


@pytest.mark.parametrize("with_motion", [False, True])
def test_bytes_of_any_content_decode_to_something_or_are_refused(with_motion: bool) -> None:
    """Bytes that nobody encoded: rows all the same if the masks fit them, and an error, not a crash, if they do not."""
    shape = (17, 5, 3)
    for seed in range(20):
        encoded = any_encoded(shape, with_motion=with_motion, seed=seed)
        assert temporal.decode(encoded, shape, "<u2", with_motion=with_motion).shape == shape
        for wrong in (encoded[:-1], np.append(encoded, np.uint8(0)), encoded[:20], encoded[:0]):
            with pytest.raises(ValueError, match="bytes"):
                temporal.decode(wrong, shape, "<u2", with_motion=with_motion)
        for at, mask in ((0, 0x0F), (3, 0x40 | encoded[6])):  # the first row lacks a group; a group that there is not
            wrong = encoded.copy()
            wrong[2 * at] = mask
            with pytest.raises(ValueError, match="masks"):
                temporal.decode(wrong, shape, "<u2", with_motion=with_motion)


def any_encoded(shape: tuple[int, ...], *, with_motion: bool, seed: int) -> np.ndarray:
    """Random masks, and as many random bytes as they tell."""
    rng = np.random.default_rng(seed)
    geometry = temporal.Geometry(shape, 2, with_motion)
    masks = rng.integers(0, bit_planes.all_groups(2) + 1, shape[0]).astype("<u2")
    masks[0] = bit_planes.whole_bytes(2)
    n_bytes = int(bit_planes.row_bytes(masks, geometry.q, 2).sum())
    n_bytes += geometry.move_bytes if seed % 2 else 0
    return np.concatenate([masks.view(np.uint8), rng.integers(0, 256, n_bytes, dtype=np.uint8)])


@pytest.mark.parametrize("codec", codecs("bfloat16"), ids=str)
def test_a_chunk_is_whole_or_damaged(codec: TileCodec) -> None:
    """Every flipped bit, every shorter and every longer chunk, and shapes of another size, are DamageError."""
    rows = np.random.default_rng(0).integers(0, 1 << 16, (3, 4, 2)).astype(np.uint16)
    chunk = codec.encode(rows)
    wrong = [chunk[:n] for n in range(len(chunk))] + [chunk + b"\0", b""]
    wrong += [chunk[:at] + bytes([chunk[at] ^ 1 << at % 8]) + chunk[at + 1 :] for at in range(len(chunk))]
    for data in wrong:
        with pytest.raises(DamageError):
            codec.decode(data, rows.shape, rows.dtype)
    for shape in ((3, 40, 3), (2, 4, 2), (1 << 20, 4, 2)):
        with pytest.raises(DamageError):
            codec.decode(chunk, shape, rows.dtype)


def test_the_zarr_codec_describes_itself() -> None:
    """Its entry in zarr.json makes it again; anything else in there is refused."""
    pytest.importorskip("zarr")
    from trajectory_store.codec.zarr_plugin import TemporalDeltaCodec

    for motion_is_on in (False, True):
        codec = TemporalDeltaCodec(motion_is_on)
        assert TemporalDeltaCodec.from_dict(codec.to_dict()) == codec
    assert TemporalDeltaCodec.from_dict({"name": temporal.NAME}) == TemporalDeltaCodec(motion=False)
    for configuration in ({"axis": 1}, {"motion": 1}, {"motion": True, "axis": 0}):
        with pytest.raises(ValueError, match="motion"):
            TemporalDeltaCodec.from_dict({"name": temporal.NAME, "configuration": configuration})
    with pytest.raises(ValueError, match="expected the codec"):
        TemporalDeltaCodec.from_dict({"name": "delta"})
