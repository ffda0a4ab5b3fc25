# ruff: noqa: B023 - a reader is called before its loop goes on
"""Files from elsewhere: whatever is in them, reading raises one of our errors, soon, and in little memory."""

import json
import os
import random
import resource
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import trajectory_store as ts
from tests.harness import contracts
from tests.harness.contracts import record, values
from trajectory_store import safetensors_format
from trajectory_store.backends import manifest
from trajectory_store.backends.memmap.commit_log import COMMITS, CommitLog
from trajectory_store.backends.memmap.row_file import FRAMES, RowFile
from trajectory_store.blocks.layout import BlockPlace
from trajectory_store.blocks.loaded_block import LoadedBlock
from trajectory_store.checksum import crc32c
from trajectory_store.errors import MalformedFileError, TrajectoryError
from trajectory_store.journal import record as records
from trajectory_store.journal.segment import segment_path

pytestmark = pytest.mark.usefixtures("no_sync")

MOST_SECONDS = 5.0
"""What one reading may take, on a busy machine."""
MOST_BYTES = 2 << 30
"""What one reading may reserve beyond what the process has."""

INTERESTING = [0, 1, 2, 7, 8, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**47, 2**62, 2**63 - 1]
JSON_VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 2, 3, 1.5, 1e308, float("inf"), float("nan"), 2**31, 2**48, 2**63, 10**30, "", "W",
    "1", "../x", "a/b", "\0", "bfloat16", "float32", "zarr", "memmap", [], [[]], {}, [1], [1, 2, 3], [0] * 100,
    "x" * 1000,
    {"start": 0, "stop": 10**18, "step": 1}, {"start": 0, "stop": 1, "step": 0},
]  # fmt: skip


def mutated_bytes(data: bytes, chance: random.Random) -> bytes:
    """A few changes: bits, bytes, numbers, pieces taken out, doubled or moved, the end cut off."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        if not out:
            return bytes(chance.randrange(256) for _ in range(chance.randrange(64)))
        at = chance.randrange(len(out))
        kind = chance.randrange(8)
        if kind == 0:
            out[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            out[at] = chance.randrange(256)
        elif kind == 2:
            size = chance.choice((2, 4, 8))
            number = chance.choice(INTERESTING) & ((1 << 8 * size) - 1)
            out[at : at + size] = number.to_bytes(size, "little")
        elif kind == 3:
            del out[at : at + chance.randrange(1, 64)]
        elif kind == 4:
            out[at:at] = out[at : at + chance.randrange(1, 64)]
        elif kind == 5:
            to = chance.randrange(len(out))
            out[to : to + 16] = out[at : at + 16]
        elif kind == 6:
            del out[at:]
        else:
            out += bytes(chance.randrange(1, 64))
    return bytes(out)


def mutated_json(value: Any, chance: random.Random) -> Any:
    """The same with one value, key or item exchanged, anywhere."""
    copy = copy_of(value)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        holder, key = chance.choice(list(_places(copy)))
        action = chance.randrange(5)
        if action == 0:
            del holder[key]
        elif action == 1 and isinstance(holder, dict):
            holder[chance.choice(("step", "../up", "x" * 200, "W", "", "c"))] = holder.pop(key)
        elif action == 2 and isinstance(holder[key], int) and not isinstance(holder[key], bool):
            holder[key] = chance.choice((*INTERESTING, -1, holder[key] + 1, holder[key] - 1, -holder[key]))
        elif action == 3 and isinstance(holder[key], list):
            holder[key] = holder[key] * chance.choice((2, 50))
        else:
            holder[key] = copy_of(chance.choice(JSON_VALUES))
        if not list(_places(copy)):
            break
    return copy


def copy_of(value: Any) -> Any:
    """Another object of the same content."""
    return json.loads(json.dumps(value))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in list(items):
        yield value, key
        yield from _places(below)


class Watch:
    """Runs readers on hostile input: only our errors, in little time."""

    def __init__(self) -> None:
        self.n_inputs = self.n_refused = 0
        self.slowest = 0.0

    def read(self, reader: Callable[[], Any], what: str) -> None:
        started = time.monotonic()
        self.n_inputs += 1
        try:
            reader()
        except TrajectoryError as error:
            assert str(error)  # noqa: PT017
            self.n_refused += 1
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
        taken = time.monotonic() - started
        self.slowest = max(self.slowest, taken)
        assert taken < MOST_SECONDS, what


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Bounds the address space while inputs are read."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if os.name == "posix" else 0
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, hard))
    watch = Watch()
    yield watch
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    print(f"{watch.n_inputs:,} inputs, {watch.n_refused:,} refused, slowest {watch.slowest:.2f} s")


FEW_OR_MANY = pytest.mark.parametrize(
    "share", [pytest.param(1, id="few"), pytest.param(60, id="many", marks=pytest.mark.long)]
)
"""`few` reads some 2,000 inputs, `many` more than 100,000."""


def read_all(path: Path) -> None:
    """Everything a reader can do with a run."""
    with ts.open(path) as run:
        repr(run)
        for name in run:
            for steps, block in run[name].bits.blocks():
                assert len(steps) == len(block)
            if len(run[name]):
                run[name][-1]
        for name in run.static:
            run.static[name]


def manifest_body(path: Path) -> bytes:
    data = (path / "manifest.json").read_bytes()
    return data[len(b'{"crc32c":"00000000","manifest":') : -len(b"}\n")]


def put_manifest(path: Path, body: bytes) -> None:
    """A manifest whose checksum is right: what follows has to be checked too."""
    (path / "manifest.json").write_bytes(b'{"crc32c":"%08x","manifest":' % crc32c(body) + body + b"}\n")


@FEW_OR_MANY
def test_manifests(backend: str, share: int, tmp_path: Path, watch: Watch) -> None:
    """Well-formed JSON of anything, with the right checksum, over the files of a real run."""
    path = record(tmp_path / "run", backend, stop=7)
    body = json.loads(manifest_body(path))
    chance = random.Random(share)
    for n in range(250 * share):
        changed = mutated_json(body, chance)
        put_manifest(path, json.dumps(changed).encode())
        watch.read(lambda: manifest.load(path), f"{n}: {changed}")
        watch.read(lambda: read_all(path), f"{n}: {changed}")
        if n % 4 == 0:
            watch.read(lambda: list(ts.check(path)), f"{n}: {changed}")


@FEW_OR_MANY
def test_manifests_that_are_no_json(share: int, tmp_path: Path, watch: Watch) -> None:
    """Bytes of anything, with and without the right checksum."""
    path = record(tmp_path / "run", "zarr", stop=1)
    body, whole = manifest_body(path), (path / "manifest.json").read_bytes()
    chance = random.Random(share)
    for n in range(150 * share):
        put_manifest(path, mutated_bytes(body, chance))
        watch.read(lambda: manifest.load(path), str(n))
        (path / "manifest.json").write_bytes(mutated_bytes(whole, chance))
        watch.read(lambda: manifest.load(path), str(n))
    for deep in (b"[" * 100_000, b'{"a":' * 100_000, b"1" * 100_000):
        put_manifest(path, deep)
        watch.read(lambda: manifest.load(path), "deep")


def sealed(head: bytes) -> bytes:
    """A record's header with the right checksum."""
    return head + struct.pack("<I", crc32c(head))


@FEW_OR_MANY
def test_journals(share: int, tmp_path: Path, watch: Watch) -> None:
    """Segments of anything: headers with right checksums and wild numbers, in any order, over any bytes."""
    run = contracts.create(tmp_path / "run", "zarr")
    for step in range(3):
        run.append(step, **values(step))
        run.flush() if step == 1 else None
    contracts.abandon(run)
    path = tmp_path / "run"
    spec = manifest.load(path).spec
    segment = segment_path(path / "journal", 0)
    data = segment.read_bytes()
    chance = random.Random(share)
    for n in range(250 * share):
        content = mutated_bytes(data, chance)
        for _ in range(chance.randrange(3)):
            n_rows = chance.choice((0, 0, 1, 2, 3, 65535))
            step, synced = (chance.choice((-1, 0, 1, 2, 3, 4, 2**40, 2**62)) for _ in range(2))
            head = struct.pack("<4sHHqq", b"TJr1", chance.choice((1, 2, 2, 3)), n_rows, step, synced)
            at = chance.randrange(len(content) + 1)
            content = content[:at] + sealed(head + bytes(4 * min(n_rows, 4))) + content[at:]
        segment.write_bytes(content)
        watch.read(lambda: records.parse_head(spec, content), str(n))
        watch.read(lambda: read_all(path), str(n))
        if n % 8 == 0:
            watch.read(lambda: list(ts.check(path)), str(n))
    segment.write_bytes(b"TJr1\1\0\1\0" * 4_000_000)
    watch.read(lambda: read_all(path), "magic")


@FEW_OR_MANY
def test_blocks_and_static_chunks(share: int, tmp_path: Path, watch: Watch) -> None:
    """Chunks and indices with right checksums around wrong content, as the manifest commits them."""
    for codec in ("temporal", "portable"):
        path = record(tmp_path / codec, "zarr", codec=codec)
        loaded = manifest.load(path)
        layout = loaded.layout("W")
        block = BlockPlace(path, layout, 0).path
        data = block.read_bytes()
        n_chunk = len(data) - layout.index_bytes
        chance = random.Random(share)
        body = json.loads(manifest_body(path))
        for n in range(150 * share):
            payload = mutated_bytes(data[: n_chunk - 4], chance)
            chunk = payload + struct.pack("<I", crc32c(payload))
            index = struct.pack("<QQ", chance.choice((0, 0, 0, 1, 2**62)), chance.choice((len(chunk), 2**62, 0)))
            content = chunk + index + struct.pack("<I", crc32c(index))
            if chance.random() < 0.2:
                content = mutated_bytes(content, chance)
            block.write_bytes(content)
            body["blocks"]["W"][0] = [len(content), f"{zlib.crc32(content):08x}", content[:-5:-1].hex()]
            put_manifest(path, json.dumps(body).encode())
            watch.read(lambda: list(LoadedBlock(BlockPlace(path, layout, 0)).flaws()), str(n))
            watch.read(lambda: read_all(path), str(n))
        static = loaded.static["ids"].chunk_path(path, "ids")
        data = static.read_bytes()
        for n in range(100 * share):
            payload = mutated_bytes(data[:-4], chance)
            content = payload + struct.pack("<I", crc32c(payload))
            static.write_bytes(content)
            body["static"]["ids"]["crc32"] = f"{zlib.crc32(content):08x}"
            put_manifest(path, json.dumps(body).encode())
            watch.read(lambda: ts.open(path).static["ids"], str(n))


@FEW_OR_MANY
def test_memmap_files(share: int, tmp_path: Path, watch: Watch) -> None:
    """The log of commits, and the header of the rows' file."""
    path = record(tmp_path / "run", "memmap", stop=7)
    loaded = manifest.load(path)
    log, frames = (path / COMMITS).read_bytes(), (path / FRAMES).read_bytes()
    chance = random.Random(share)
    for n in range(200 * share):
        (path / COMMITS).write_bytes(mutated_bytes(log, chance))
        watch.read(lambda: read_all(path), f"{n}: commits")
        if n % 4 == 0:
            watch.read(lambda: list(ts.check(path)), f"{n}: commits")
    (path / COMMITS).write_bytes(log)
    length = 8 + int.from_bytes(frames[:8], "little")
    header = json.loads(frames[8:length])
    for n in range(100 * share):
        text = json.dumps(mutated_json(header, chance)).encode()
        (path / FRAMES).write_bytes(len(text).to_bytes(8, "little") + text + frames[length:])
        watch.read(lambda: RowFile(path / FRAMES, loaded.spec, loaded.static), f"{n}: {text!r}")
        watch.read(lambda: read_all(path), f"{n}: {text!r}")
        (path / FRAMES).write_bytes(mutated_bytes(frames, chance))
        watch.read(lambda: read_all(path), f"{n}: frames")
    scanned = CommitLog(path / COMMITS, loaded.spec, 0)
    watch.read(scanned.scan, "commits")


@FEW_OR_MANY
def test_safetensors_files(share: int, tmp_path: Path, watch: Watch) -> None:
    """Headers that lie about offsets, shapes, types and lengths."""
    header, _ = safetensors_format.layout({"W": ("uint16", (4, 3, 2)), "loss": ("float32", (4,)), "m": ("bool", (3,))})
    body = bytes(48 + 16 + 3)
    path = tmp_path / "x.safetensors"
    path.write_bytes(header + body)
    read_all(path)
    content = json.loads(header[8:])
    chance = random.Random(share)
    for n in range(400 * share):
        if n % 2:
            text = json.dumps(mutated_json(content, chance)).encode()
            path.write_bytes(len(text).to_bytes(8, "little") + text + body)
        else:
            path.write_bytes(mutated_bytes(header + body, chance))
        watch.read(lambda: read_all(path), path.read_bytes().decode("latin-1"))


def test_only_plain_files_are_read(backend: str, tmp_path: Path, watch: Watch) -> None:
    """A named pipe in place of any file does not hang its reader; nor does a folder, or a file without an end."""
    path = record(tmp_path / "run", backend, stop=6, close=False)
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name != "lock"):
        content = file.read_bytes()
        file.unlink()
        for kind in ("pipe", "folder", "endless"):
            if kind == "pipe":
                os.mkfifo(file)
            elif kind == "folder":
                file.mkdir()
            else:
                file.symlink_to("/dev/zero")
            watch.read(lambda: read_all(path), f"{file}: {kind}")
            watch.read(lambda: list(ts.check(path)), f"{file}: {kind}")
            watch.read(lambda: ts.open(file).close(), f"{file}: {kind}")
            file.rmdir() if kind == "folder" else file.unlink()
        file.write_bytes(content)
    contracts.check_run(path, 6)


def test_names_stay_inside_of_the_folder(tmp_path: Path) -> None:
    """A manifest that names `../elsewhere` is damaged, and nothing there is read or written."""
    path = record(tmp_path / "run", "zarr")
    body = json.loads(manifest_body(path))
    for name in ("../elsewhere", "/etc", "..", "a/b", "c\\d/", ".hidden", "", "x" * 231, "zarr.json"):
        for part in ("spec", "static"):
            changed = json.loads(json.dumps(body))
            holder = changed["spec"]["series"] if part == "spec" else changed["static"]
            holder[name] = holder.pop(next(iter(holder)))
            changed["blocks"] = {key: [] for key in changed["spec"]["series"]}
            changed["sealed_until"] = 0
            put_manifest(path, json.dumps(changed).encode())
            for read in (ts.open, ts.resume, ts.repair):
                with pytest.raises(TrajectoryError):
                    read(path)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_header_longer_than_its_file(tmp_path: Path) -> None:
    """Lengths are compared with the file before anything is allocated."""
    path = tmp_path / "x.safetensors"
    for length in (0, 1, 10**8, 10**8 + 1, 2**63, 2**64 - 1):
        path.write_bytes(length.to_bytes(8, "little") + b"{}")
        with pytest.raises(MalformedFileError, match="first 8 bytes"):
            ts.open(path)
