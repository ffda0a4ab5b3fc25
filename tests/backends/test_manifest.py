"""The commit point: written whole, verified whole, replaced whole."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import trajectory_store as ts
from tests.harness.contracts import ATTRS, SERIES, STATIC, record
from trajectory_store.backends import manifest
from trajectory_store.backends.zarr.metadata import metadata_paths, zarr_metadata
from trajectory_store.checksum import crc32c
from trajectory_store.errors import DamageError, FormatVersionError, RunNotFoundError, SpecError, UsageError

GOLDEN = Path(__file__).parents[1] / "golden" / "v1"

pytestmark = pytest.mark.usefixtures("no_sync")


def test_a_manifest_comes_back(backend: str, tmp_path: Path) -> None:
    """Everything that was declared, and what is sealed."""
    path = record(tmp_path / "run", backend)
    loaded = manifest.load(path)
    assert loaded.spec == ts.RunSpec(SERIES, 11)
    assert loaded.attrs == ATTRS
    assert loaded.sealed_until == 11
    (tmp_path / "copy").mkdir()
    loaded.store(tmp_path / "copy")
    assert manifest.load(tmp_path / "copy") == loaded
    assert (tmp_path / "copy" / "manifest.json").read_bytes() == (path / "manifest.json").read_bytes()


def test_it_is_json_with_its_checksum(backend: str, tmp_path: Path) -> None:
    """docs/format.md, "Manifest"."""
    data = (record(tmp_path / "run", backend) / "manifest.json").read_bytes()
    value = json.loads(data)
    body = data[data.index(b'"manifest":') + len(b'"manifest":') : -2]
    assert list(value) == ["crc32c", "manifest"]
    assert value["crc32c"] == f"{crc32c(body):08x}"
    assert data.endswith(b"}}\n")


def test_every_flipped_bit_and_every_cut_is_damage(backend: str, tmp_path: Path) -> None:
    path = record(tmp_path / "run", backend)
    file = path / "manifest.json"
    data = file.read_bytes()
    for at in range(len(data)):
        file.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        with pytest.raises(DamageError, match="checksum"):
            manifest.load(path)
        if at % 20 == 0:
            file.write_bytes(data[:at])
            with pytest.raises(DamageError):
                ts.open(path)


def test_a_newer_version_is_not_damage(tmp_path: Path) -> None:
    """It says so."""
    path = record(tmp_path / "run", "zarr")
    data = (path / "manifest.json").read_bytes()
    body = data[data.index(b'"manifest":') + len(b'"manifest":') : -2].replace(b'"version":1', b'"version":2')
    (path / "manifest.json").write_bytes(b'{"crc32c":"%08x","manifest":' % crc32c(body) + body + b"}\n")
    with pytest.raises(FormatVersionError, match="format version 2"):
        ts.open(path)


def test_a_name_is_a_series_or_a_static_array(backend: str, tmp_path: Path) -> None:
    """Also in a manifest that somebody else wrote, whose checksum is right."""
    path = record(tmp_path / "run", backend)
    data = (path / "manifest.json").read_bytes()
    body = data[data.index(b'"manifest":') + len(b'"manifest":') : -2].replace(b'"mask"', b'"loss"')
    (path / "manifest.json").write_bytes(b'{"crc32c":"%08x","manifest":' % crc32c(body) + body + b"}\n")
    with pytest.raises(DamageError, match="'loss' names both"):
        ts.open(path)


def test_there_is_no_run_without_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "file" / "below"):
        with pytest.raises(RunNotFoundError, match=r"not a run|cannot be read"):
            ts.open(path)


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    """Attributes past the limit, and chunks that no reader should be asked to hold."""
    with pytest.raises(UsageError, match="above the limit"):
        ts.create(tmp_path / "run", SERIES, attrs={"x": "x" * (1 << 26)})
    with pytest.raises(SpecError, match=r"chunks of .* bytes, above the limit"):
        ts.create(tmp_path / "run", {"W": ts.Series((1, 1 << 20), "float32")}, block_steps=60_000)
    assert list(tmp_path.iterdir()) == []


def test_the_identity_changes_with_every_commit(tmp_path: Path) -> None:
    """So that a reader need not read it again to know that it is the same."""
    path = record(tmp_path / "run", "zarr")
    loaded, seen = manifest.load(path), {manifest.identity(path)}
    for sealed_until in range(5):
        dataclasses.replace(loaded, sealed_until=sealed_until).store(path)
        seen.add(manifest.identity(path))
    assert len(seen) == 6
    assert manifest.identity(tmp_path) is None


AWKWARD_ATTRS = {"": "é\0\n", "nested": {"a": [1, 2.5, None, {}, []]}, "shape": '"shape": [\n    0'}


@pytest.mark.parametrize("attrs", [{}, AWKWARD_ATTRS], ids=["no attrs", "awkward attrs"])
@pytest.mark.parametrize("static", [{}, STATIC], ids=["no static arrays", "static arrays"])
def test_what_is_encoded_in_parts_is_what_json_writes_whole(
    static: dict[str, Any], attrs: dict[str, Any], backend: str, tmp_path: Path
) -> None:
    """What is encoded once and what a seal adds make the bytes that one `json.dumps` makes, its keys in their order."""
    path = record(tmp_path / "run", backend, static=static, attrs=attrs)
    data = (path / "manifest.json").read_bytes()
    whole = json.loads(data)
    assert whole["manifest"]["attrs"] == attrs
    assert list(whole["manifest"])[:7] == ["format", "version", "backend", "block_steps", "codec", "spec", "attrs"]
    assert list(whole["manifest"])[7:] == ["static", "sealed_until", "blocks"]
    assert json.dumps(whole, separators=(",", ":")).encode() + b"\n" == data
    for file in path.rglob("zarr.json"):
        assert json.dumps(json.loads(file.read_bytes()), indent=2).encode() + b"\n" == file.read_bytes()


@pytest.mark.parametrize("kind", ["temporal", "portable", "memmap"])
def test_the_bytes_of_a_golden_are_written_again(kind: str, tmp_path: Path) -> None:
    """The manifest and every zarr.json are those that the first writer of this format wrote."""
    golden = GOLDEN / kind
    loaded = manifest.load(golden)
    loaded.store(tmp_path)
    assert (golden / "manifest.json").read_bytes() == (tmp_path / "manifest.json").read_bytes()
    written = zarr_metadata(loaded) if loaded.has_blocks else {}
    assert {str(path.relative_to(golden)) for path in golden.rglob("zarr.json")} == set(written)
    assert {name: (golden / name).read_bytes() for name in written} == written
    assert metadata_paths(loaded) == list(zarr_metadata(loaded))


def test_a_seal_encodes_nothing_of_the_declaration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Attrs of 64 MiB, or a list of a million steps, cost a run once, not at each of its seals."""
    declared = {"x": ts.Series((), "float32", steps=[0, *range(3, 2000)])}
    with ts.create(tmp_path / "run", declared, block_steps=1, attrs={"text": "a" * 5000}) as sink:
        sink.append(0, x=0.0)
        sink.flush()
        encoded_bytes = []
        dumps = json.dumps

        def counted(value: Any, **options: Any) -> str:
            text = dumps(value, **options)
            encoded_bytes.append(len(text))
            return text

        monkeypatch.setattr(json, "dumps", counted)
        for step in range(3, 6):
            sink.append(step, x=0.0)
        sink.flush()
        monkeypatch.undo()
    assert 0 < sum(encoded_bytes) < 1000
