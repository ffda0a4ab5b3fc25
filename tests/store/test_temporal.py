"""The temporal-delta codec is lossless for every bit pattern, as functions and as a codec of zarr."""

import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from trajectory_store import temporal
from trajectory_store.errors import DamageError
from trajectory_store.spec import DTYPES
from trajectory_store.tiles import CODECS

ALL = np.arange(1 << 16, dtype=np.uint16)


def test_all_patterns_after_all_kinds_of_patterns() -> None:
    """All 65,536 patterns as first rows and as rows after others: NaN payloads, −0 and subnormals are among them."""
    for shift in (0, 1, 0x7F80, 0x8000, 0xFFFF, 12345):
        rows = np.stack([ALL, np.roll(ALL, shift), ALL[::-1], ALL])
        assert temporal.decode(temporal.encode(rows), rows.dtype).tobytes() == rows.tobytes()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_bit_for_bit(dtype: str, codec: str) -> None:
    """Random bits of every dtype that a series can have, through each chain of codecs."""
    storage = np.dtype("<u2") if dtype == "bfloat16" else DTYPES[dtype]
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 256, (9, 4, 3, storage.itemsize), dtype=np.uint8).view(storage)[..., 0]
    chunk = CODECS[codec].encode(rows)

    decoded = CODECS[codec].decode(chunk, rows.shape, storage)

    for stop in (1, 5, 9):
        assert np.ascontiguousarray(decoded.rows(stop)).tobytes() == rows[:stop].tobytes()


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from([1, 2, 4, 8]))
def test_any_history_comes_back(data: st.DataObject, itemsize: int) -> None:
    """Rows decoded at once, and as far as they are asked for, are the rows that were encoded."""
    rows = data.draw(strategies.histories(itemsize))
    planes = temporal.encode(rows)
    assert planes.shape == (len(rows), itemsize, *rows.shape[1:])
    assert planes.nbytes == rows.nbytes

    decoder = temporal.Decoder(planes.copy(), rows.dtype)  # it takes over the memory
    for stop in sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4))):
        assert decoder.rows(stop).tobytes() == rows[:stop].tobytes()
    assert temporal.decode(planes, rows.dtype).tobytes() == rows.tobytes()


def test_the_worked_example_of_the_format() -> None:
    """docs/format.md, "Temporal delta", byte for byte."""
    rows = np.array([[0x3F80, 0xBF80], [0x3F81, 0xBF80], [0x3F80, 0xBF81]], dtype="<u2")
    assert temporal.encode(rows).tobytes() == bytes.fromhex("80803fbf 02000000 01020000".replace(" ", ""))


@pytest.mark.parametrize("codec", CODECS)
def test_a_chunk_is_whole_or_damaged(codec: str) -> None:
    """Every flipped bit, every shorter and every longer chunk, and every other shape, is DamageError."""
    rows = np.random.default_rng(0).integers(0, 1 << 16, (3, 4, 2)).astype(np.uint16)
    chunk = CODECS[codec].encode(rows)
    wrong = [chunk[:n] for n in range(len(chunk))] + [chunk + b"\0", b""]
    wrong += [chunk[:at] + bytes([chunk[at] ^ 1 << at % 8]) + chunk[at + 1 :] for at in range(len(chunk))]
    for data in wrong:
        with pytest.raises(DamageError):
            CODECS[codec].decode(data, rows.shape, rows.dtype)
    for shape in ((3, 4, 3), (3, 4, 1), (1 << 20, 4, 2)):
        with pytest.raises(DamageError):
            CODECS[codec].decode(chunk, shape, rows.dtype)


def test_the_zarr_codec_describes_itself() -> None:
    """Its entry in zarr.json makes it again; anything else in there is refused."""
    pytest.importorskip("zarr")
    from trajectory_store.zarr_codec import TemporalDeltaCodec

    codec = TemporalDeltaCodec()
    assert TemporalDeltaCodec.from_dict(codec.to_dict()) == codec
    for wrong in ({"name": "delta"}, {"name": temporal.NAME, "configuration": {"axis": 1}}):
        with pytest.raises(ValueError, match="without configuration"):
            TemporalDeltaCodec.from_dict(wrong)
