"""A reader of runs written from docs/format.md alone: it imports nothing of trajectory_store. Slow and obvious."""

import json
import re
import struct
import zlib
from pathlib import Path

import numpy as np
from numcodecs import blosc, zstd


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def table_entry(n):
    for _ in range(8):
        n = (n >> 1) ^ (0x82F63B78 if n & 1 else 0)
    return n


TABLE = [table_entry(n) for n in range(256)]
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,229}")
DIMENSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
ITEM = {"bfloat16": "<u2", "bool": "u1"}


def storage(dtype):
    return np.dtype(ITEM.get(dtype, dtype)).newbyteorder("<")


def manifest(run):
    line = (run / "manifest.json").read_bytes()
    head, body = line[: len('{"crc32c":"XXXXXXXX","manifest":')], line[len('{"crc32c":"XXXXXXXX","manifest":') : -2]
    assert head == b'{"crc32c":"%08x","manifest":' % crc32c(body)
    assert line[-2:] == b"}\n"
    return json.loads(body)


def is_due(series, step):
    steps = series["steps"]
    if steps is None:
        return True
    if isinstance(steps, int):
        return step % steps == 0
    if isinstance(steps, dict):
        return step in range(steps["start"], steps["stop"], steps["step"])
    return step in steps


def read(run):
    """Series name → {step: row of bit patterns}, static name → bit patterns."""
    m = manifest(Path(run))
    assert (m["format"], m["version"]) == ("trajectory-store", 1)
    for name in [*m["spec"]["series"], *m["static"]]:
        assert NAME.fullmatch(name)
        assert name not in ("static", "journal", "lock", "manifest.json", "zarr.json", "__metadata__")
    for series in m["spec"]["series"].values():
        assert all(DIMENSION.fullmatch(dim) and dim != "step" for dim in series["dims"])
    return (read_zarr if m["backend"] == "zarr" else read_memmap)(Path(run), m)


def read_zarr(run, m):
    rows = {}
    for name, series in m["spec"]["series"].items():
        due = [step for step in range(m["sealed_until"]) if is_due(series, step)]
        rows[name] = dict(zip(due, sealed(run, m, name, series, len(due)), strict=True))
    frames(run, m, rows)
    static = {}
    for name, array in m["static"].items():
        chunk = run.joinpath("static", name, "c", *["0"] * len(array["shape"])).read_bytes()
        assert zlib.crc32(chunk) == int(array["crc32"], 16)
        raw = zstd.decompress(chunk[:-4])
        static[name] = np.frombuffer(raw, storage(array["dtype"])).reshape(array["shape"])
    return rows, static


def sealed(run, m, name, series, n_rows):
    shape, dtype = series["shape"], storage(series["dtype"])
    row_bytes = int(np.prod(shape, dtype=int)) * dtype.itemsize
    block = m["block_steps"]
    if series["steps"] is not None:
        block = min(block, max(1, (16 << 20) // row_bytes))
    token = row_bytes // shape[0] if shape else None
    tile = min(shape[0], max(1, 8192 // token, min(16, (4 << 20) // (block * token)))) if shape else None
    n_tiles = -(-shape[0] // tile) if shape else 1
    chunk_shape = (block, *((tile, *shape[1:]) if shape else ()))
    out = np.empty((n_rows, *shape), dtype)
    assert len(m["blocks"][name]) == -(-n_rows // block)
    for b, (n_bytes, crc, index_crc) in enumerate(m["blocks"][name]):
        data = run.joinpath(name, "c", str(b), *["0"] * len(shape)).read_bytes()
        assert (len(data), zlib.crc32(data)) == (n_bytes, int(crc, 16))
        index = data[-(16 * n_tiles + 4) :]
        assert struct.unpack("<I", index[-4:])[0] == crc32c(index[:-4]) == int(index_crc, 16)
        for t in range(n_tiles):
            offset, size = struct.unpack_from("<QQ", index, 16 * t)
            chunk = data[offset : offset + size]
            assert struct.unpack("<I", chunk[-4:])[0] == crc32c(chunk[:-4])
            motion = series["dtype"] == "bfloat16" and (tile or 0) >= 16
            decoded = DECODE[m["codec"]](chunk[:-4], chunk_shape, dtype, motion)
            part = out[b * block : (b + 1) * block]
            if shape:
                part = part[:, t * tile : (t + 1) * tile]
                part[:] = decoded[: part.shape[0], : part.shape[1]]
            else:
                part[:] = decoded[: part.shape[0]]
    return out


def decode_temporal(payload, shape, dtype, motion):
    k, (n_rows, n_tokens) = dtype.itemsize, (shape if len(shape) > 1 else (*shape, 1))[:2]
    width = int(np.prod(shape[2:], dtype=int))
    n_values = n_tokens * width
    q = -(-n_values // 8)
    content = np.frombuffer(zstd.decompress(payload), "u1")
    masks, at = content[: 2 * n_rows].view("<u2"), 2 * n_rows + 8 * q * k
    assert masks[0] == ((1 << k) - 1) << 4
    first, _ = unpacked(content, 2 * n_rows, int(masks[0]), q, k)
    x = np.empty((n_rows, n_values), "u8")
    x[0] = first[:n_values].reshape(width, n_tokens).T.reshape(-1)
    top = np.uint64(2 ** (8 * k) - 1)
    rows = []
    for t in range(1, n_rows):
        z, at = unpacked(content, at, int(masks[t]), q, k)
        rows.append((z >> np.uint64(1)) ^ np.where(z & np.uint64(1), top, np.uint64(0)))
    moves = np.zeros((n_rows, width), "u2")
    if at < len(content):
        assert motion
        assert len(content) - at == 2 * moves.size
        high, low = content[at:].astype("u2").reshape(2, n_rows, width)
        z = high << 8 | low
        moves = np.cumsum((z >> 1) ^ np.where(z & 1, np.uint16(0xFFFF), np.uint16(0)), axis=0, dtype="u2")
    for t, d in enumerate(rows, 1):
        predicted = moved(x[t - 1].astype("u2"), np.tile(moves[t], n_tokens)).astype("u8") if motion else x[t - 1]
        x[t] = (predicted + d[:n_values]) & top
    return x.astype(f"<u{k}").view(dtype).reshape(shape)


def unpacked(content, at, mask, q, k):
    z = np.zeros(8 * q, "u8")
    for g, (s, w) in enumerate(((0, 1), (1, 1), (2, 2), (4, 4))):
        n = q * w
        if mask >> g & 1:
            for j in range(8 // w):
                for i in range(n):
                    z[j * n + i] |= np.uint64(((int(content[at + i]) >> (j * w)) & (2**w - 1)) << s)
            at += n
    for b in range(1, k):
        if mask >> (3 + b) & 1:
            z |= content[at : at + 8 * q].astype("u8") << np.uint64(8 * b)
            at += 8 * q
    if mask >> (3 + k) & 1:
        z |= content[at : at + 8 * q].astype("u8")
        at += 8 * q
    return z, at


def moved(x, m):
    def usable(bits):
        return (((bits >> 7) & 255) >= 32) & (((bits >> 7) & 255) <= 254)

    def value(bits):
        return (bits.astype("u4") << 16).view("f4")

    with np.errstate(all="ignore"):
        b = (value(x) + value(m)).view("u4")
    rounded = ((b + np.uint32(0x7FFF) + ((b >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype("u2")
    return np.where(usable(x) & usable(m), rounded, x)


def decode_portable(payload, shape, dtype, _):
    return np.moveaxis(np.frombuffer(blosc.decompress(payload), dtype).reshape(*shape[1:], shape[0]), -1, 0)


DECODE = {"temporal": decode_temporal, "portable": decode_portable}


def headers(data, m, with_rows, first=0):
    """(kind, step, synced, {series: (crc, row bytes)}) of each record, up to an earlier segment's leftovers."""
    at, last = 0, first - 1
    while at < len(data):
        magic, kind, n, step, synced = struct.unpack_from("<4sHHqq", data, at)
        assert magic == b"TJr1"
        crcs = struct.unpack_from(f"<{n}I", data, at + 24)
        assert struct.unpack_from("<I", data, at + 24 + 4 * n)[0] == crc32c(data[at : at + 24 + 4 * n])
        assert kind in (1, 2, 3)
        if step < first or (kind == 3 and step == last):
            return
        assert kind < 3
        last = max(last, step)
        at += 28 + 4 * n
        rows = {}
        due = [name for name, s in m["spec"]["series"].items() if is_due(s, step)] if kind == 1 else []
        assert len(due) == n
        for name, crc in zip(due, crcs, strict=True):
            series = m["spec"]["series"][name]
            size = int(np.prod(series["shape"], dtype=int)) * storage(series["dtype"]).itemsize if with_rows else 0
            rows[name] = (crc, data[at : at + size])
            at += size
        yield kind, step, synced, rows


def frames(run, m, out):
    for path in sorted((run / "journal").glob("[0-9]" * 12)):
        for kind, step, _, rows in headers(path.read_bytes(), m, with_rows=True, first=int(path.name)):
            if kind == 1 and step >= m["sealed_until"]:
                for name, (crc, raw) in rows.items():
                    series = m["spec"]["series"][name]
                    assert crc32c(raw) == crc
                    out[name][step] = np.frombuffer(raw, storage(series["dtype"])).reshape(series["shape"])


def read_memmap(run, m):
    data = (run / "frames.safetensors").read_bytes()
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + n])

    def tensor(name, dtype):
        start, stop = header[name]["data_offsets"]
        raw = data[8 + n + start : 8 + n + stop]
        return np.frombuffer(raw, storage(dtype)).reshape(header[name]["shape"])

    rows = {name: {} for name in m["spec"]["series"]}
    every = {name: tensor(name, series["dtype"]) for name, series in m["spec"]["series"].items()}
    for kind, step, _, crcs in headers((run / "commits").read_bytes(), m, with_rows=False):
        if kind == 1:
            for name, (crc, _) in crcs.items():
                row = every[name][len(rows[name])]
                assert crc32c(row.tobytes()) == crc
                rows[name][step] = row
    return rows, {name: tensor(name, array["dtype"]) for name, array in m["static"].items()}
