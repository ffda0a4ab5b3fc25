"""Whatever a file to import holds: one of our errors, or a run; nothing else is written, allocated or waited for."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

import trajectory_store as ts
from trajectory_store.errors import RunNotFoundError, TrajectoryError
from trajectory_store.naming import nearest_name

pytestmark = pytest.mark.usefixtures("no_sync")

pytest.importorskip("h5py")
from tests.harness.foreign_files import KINDS, LOSS, W, write  # noqa: E402


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_file_raises_our_errors_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    """Cut anywhere, or with a flipped byte anywhere: an import, or a TrajectoryError; never half a run."""
    content = write(kind, tmp_path / "whole", {"W": W[:6], "loss": LOSS[:6]}).read_bytes()
    rng = np.random.default_rng(1)
    broken = [content[: int(at)] for at in rng.integers(0, len(content), 12)]
    for at in (*range(0, 200, 9), *rng.integers(0, len(content), 25).tolist()):
        flipped = bytearray(content)
        flipped[at % len(content)] ^= 1 << int(rng.integers(8))
        broken.append(bytes(flipped))
    for number, data in enumerate(broken):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "file").write_bytes(data)
        try:
            ts.import_file(folder / "file", folder / "run")
        except TrajectoryError:
            assert [folder / "file"] == list(folder.iterdir())
        else:
            assert {"file", "run"} == {path.name for path in folder.iterdir()}


def hostile_npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize(
    "content",
    [
        hostile_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 1000000)}"),
        hostile_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -4)}", bytes(16)),
        hostile_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4)}"),
        hostile_npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", b"cos\nsystem\n"),
        hostile_npy("{'descr': ('<f4', (9,)), 'fortran_order': False, 'shape': (1,)}", bytes(36)),
        hostile_npy("__import__('os')"),
        hostile_npy("(" * 3000),
        b"",
        b"PK\x03\x04",
        b"\x89HDF\r\n\x1a\n",
        b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 8,
        b"\x02\x00\x00\x00\x00\x00\x00\x00{}",
    ],
    ids=lambda content: content[:24].hex(),
)
def test_hostile_files_raise_our_errors(tmp_path: Path, content: bytes) -> None:
    """Nothing is allocated, run or written by what a header claims."""
    (tmp_path / "file").write_bytes(content)

    with pytest.raises(TrajectoryError):
        ts.import_file(tmp_path / "file", tmp_path / "run", name=None)

    assert [tmp_path / "file"] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("self", "self"),
        ("step", "step"),
        ("a/b", "a.b"),
        ("../../x", "x"),
        ("static", "static_"),
        ("a b", "a_b"),
        ("W" * 300, None),
        ("", "_"),
        ("__metadata__", "_metadata__"),
        ("ä\x1b[31m", "___31m"),
    ],
)
def test_a_files_names_cannot_lead_anywhere(tmp_path: Path, name: str, called: str | None) -> None:
    """A name that no folder of a run can have becomes one that it can have, and a finding says which."""
    member = io.BytesIO()
    np.save(member, W)
    with zipfile.ZipFile(tmp_path / "file", "w") as archive:
        archive.writestr(f"{name}.npy", member.getvalue())

    imported = ts.import_file(tmp_path / "file", tmp_path / "run")

    assert {tmp_path / "file", tmp_path / "run"} == set(tmp_path.iterdir())
    assert imported.series in ((called,), (nearest_name(name),))
    assert any("called" in finding for finding in imported.findings) == (called not in ("self", "step", "a.b"))
    assert list(ts.check(tmp_path / "run")) == []
    chosen = ts.import_file(tmp_path / "file", tmp_path / "other", rename={name: "mine"})
    assert (chosen.series, [finding for finding in chosen.findings if "called" in finding]) == (("mine",), [])


def test_what_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    """A folder, a named pipe, nothing."""
    import os

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "nothing"):
        for read in (ts.import_file, ts.import_safetensors, ts.import_hdf5, ts.import_numpy):
            with pytest.raises(RunNotFoundError):
                read(path, tmp_path / "run")
