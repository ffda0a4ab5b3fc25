"""What the system refuses for now, or for this user, is a StorageError: it says nothing about what is stored."""

import errno
import io
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import trajectory_store as ts
from tests.harness import contracts
from tests.harness.contracts import record
from trajectory_store import files
from trajectory_store.errors import DamageError, NotFoundError, RunNotFoundError, StorageError
from trajectory_store.importing.importer import import_file
from trajectory_store.report.tokens import read_vocabulary

pytestmark = pytest.mark.usefixtures("no_sync")

REFUSALS = [
    getattr(errno, name)
    for name in ("EMFILE", "ENFILE", "EACCES", "EPERM", "ENOMEM", "EIO", "ELOOP", "ENOTDIR", "ESTALE", "EBUSY")
]
EACH = pytest.mark.parametrize("number", REFUSALS, ids=[errno.errorcode[n] for n in REFUSALS])


def read_all(path: Path) -> None:
    """Everything in a run."""
    with ts.open(path) as run:
        for name in run:
            run[name].bits[...]
        for name in run.static:
            run.static[name]


READERS: dict[str, Callable[[Path], Any]] = {
    "open": read_all,
    "check": lambda path: list(ts.check(path)),
    "export": lambda path: ts.export_safetensors(path, path.with_name("out"), overwrite=True),
    "compare": lambda path: ts.compare(path, path),
    "repair": ts.repair,
    "resume": lambda path: ts.resume(path).close(),
}


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | None, int], None]:
    """Refuse to open one file, or every file there is; None lets all be opened again."""
    refused: dict[str, Any] = {"path": None, "number": 0}
    real = os.open

    def opened(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if Path(path) == refused["path"] and not flags & os.O_CREAT:
            raise OSError(refused["number"], os.strerror(refused["number"]), str(path))
        return real(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", opened)
    return lambda path, number: refused.update(path=path, number=number)


def kept_files(path: Path) -> list[Path]:
    """What a run of the small recording consists of."""
    return sorted(p for p in path.rglob("*") if p.is_file() and p.name != "lock")


@EACH
def test_of_any_kind(number: int, tmp_path: Path, refuse: Callable[[Path | None, int], None]) -> None:
    """Every reader opens its files by one function, which knows what a refusal is."""
    (tmp_path / "file").write_bytes(b"")
    refuse(tmp_path / "file", number)
    with pytest.raises(StorageError, match="file: cannot open") as raised:
        files.open_plain_descriptor(tmp_path / "file")
    assert raised.value.errno == number


def test_of_opening(backend: str, tmp_path: Path, refuse: Callable[[Path | None, int], None]) -> None:
    """Each file of a run in turn, for each thing that one does with a run."""
    original = record(tmp_path / "original", backend, stop=6, close=False)
    path, raised = tmp_path / "run", set()
    for turn, name in enumerate([file.relative_to(original) for file in kept_files(original)]):
        number = REFUSALS[turn % len(REFUSALS)]
        shutil.copytree(original, path)
        file = path / name
        for what, reader in READERS.items():
            refuse(file, number)
            try:
                reader(path)
            except StorageError as error:
                assert str(file) in str(error)  # noqa: PT017
                assert error.errno == number  # noqa: PT017
                raised.add((file, what))
            except (DamageError, NotFoundError) as error:
                pytest.fail(f"{what}, {file}: {type(error).__name__}: {error}")
            refuse(None, 0)
        assert (file, "check") in raised
        contracts.check_run(path, 6)
        shutil.rmtree(path)
    assert {what for _, what in raised} == READERS.keys()


class BrokenDevice(io.FileIO):
    """A file that can be opened and not read."""

    def read(self, size: int | None = -1, /) -> bytes:
        del size
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_of_reading(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that fails behind an open file; the sink did not cut what it could not read."""

    def fail(*_: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    path = record(tmp_path / "run", backend, stop=6, close=False)
    for part in ("pread", "preadv", "read"):
        with monkeypatch.context() as patched:
            if part == "read":
                patched.setattr(files, "open_plain", lambda path: BrokenDevice(files.open_plain_descriptor(path)))
            else:
                patched.setattr(os, part, fail)
            for what, reader in READERS.items():
                try:
                    reader(path)
                except (DamageError, NotFoundError) as error:
                    pytest.fail(f"{part}, {what}: {type(error).__name__}: {error}")
                except StorageError as error:
                    assert "Input/output error" in str(error)  # noqa: PT017
    contracts.check_run(path, 6)


def test_of_too_many_open_files(backend: str, tmp_path: Path) -> None:
    """The real thing, for a run that is open and for one that is not; all is well once there is room again."""
    path = record(tmp_path / "run", backend)
    for reader in READERS.values():
        reader(path)  # imports need files too
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ts.open(path) as run:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        held = []
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        try:
            for what, reader in READERS.items():
                with pytest.raises(StorageError, match="ulimit"):
                    reader(path)
                assert what
            if backend == "zarr":
                with pytest.raises(StorageError, match="ulimit"):
                    run["W"][0]
        finally:
            for descriptor in held:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        contracts.assert_prefix(run, contracts.STEPS)


def test_of_files_to_import(tmp_path: Path, refuse: Callable[[Path | None, int], None]) -> None:
    """Files of others, and a tokenizer's."""
    values = {"W": np.zeros((4, 2), np.float32)}
    save_file(values, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", **values)
    np.save(tmp_path / "a.npy", values["W"])
    (tmp_path / "tokenizer.json").write_text("{}")
    run = record(tmp_path / "run", "zarr")
    for name in ("a.safetensors", "a.npz", "a.npy"):
        refuse(tmp_path / name, errno.EMFILE)
        with pytest.raises(StorageError, match=name):
            import_file(tmp_path / name, tmp_path / "imported")
    refuse(tmp_path / "a.safetensors", errno.EACCES)
    with pytest.raises(StorageError):
        ts.open(tmp_path / "a.safetensors")
    refuse(tmp_path / "tokenizer.json", errno.EIO)
    with ts.open(run) as opened, pytest.raises(StorageError):
        read_vocabulary(tmp_path / "tokenizer.json", opened)


def test_an_hdf5_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """HDF5 gives the number of the error in its message only."""
    from trajectory_store.importing.foreign import broken_file

    said = OSError(
        "Can't read data (file read failed: filename = 'x', errno = 5, error message = 'Input/output error')"
    )
    assert isinstance(broken_file(tmp_path, "cannot be read", said), StorageError)
    assert isinstance(broken_file(tmp_path, "cannot be read", OSError("bad signature")), DamageError)
    assert isinstance(broken_file(tmp_path, "cannot be read", ValueError("errno is 5")), DamageError)


def test_what_is_absent_is_damage(tmp_path: Path) -> None:
    """A file that the manifest commits and that is not there: also where its folder is a file now."""
    path = record(tmp_path / "run", "zarr")
    block = next(p for p in kept_files(path) if p.parts[-4:-2] == ("c", "0"))
    content = block.read_bytes()
    block.unlink()
    with pytest.raises(DamageError, match=r"restore|check"):
        read_all(path)
    assert [finding.kind for finding in ts.check(path)] == ["block"]
    block.parent.rmdir()
    block.parent.write_bytes(content)
    with pytest.raises(DamageError):
        read_all(path)
    assert "block" in [finding.kind for finding in ts.check(path)]


def test_no_run_is_no_refusal(tmp_path: Path) -> None:
    """A path where nothing is, or that leads through a file."""
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "nothing", tmp_path / "file" / "run"):
        for reader in READERS.values():
            with pytest.raises(RunNotFoundError):
                reader(path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(StorageError, match="mend the link"):
        ts.open(tmp_path / "loop")


def test_a_segment_that_is_listed_and_not_there(tmp_path: Path) -> None:
    """A dangling link in the journal is said, and neither looked for without an end nor a traceback."""
    path = record(tmp_path / "run", "zarr", stop=6, close=False)
    (path / "journal" / f"{8:012d}").symlink_to(path / "nothing")
    assert "journal" in [finding.kind for finding in ts.check(path)]
    for reader in ("open", "resume", "repair"):
        with pytest.raises(DamageError):
            READERS[reader](path)
