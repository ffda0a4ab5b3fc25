"""A folder that was made for a run stays that folder: filled in place, whole or not at all, and replaced as it was."""

import contextlib
import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import trajectory_store as ts
from tests.backends.test_replacing import crashes, taped  # noqa: F401
from tests.harness import contracts
from tests.harness.faulty_files import FailingDisk, Tape, lay_out
from trajectory_store import files
from trajectory_store.errors import RunExistsError, RunLockedError, StorageError

Swap = Callable[[files.Disk], files.Disk]


def identity(folder: Path) -> tuple[int, ...]:
    status = folder.stat()
    return status.st_ino, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid


@pytest.mark.parametrize("mode", [0o2770, 0o700])
def test_an_empty_folder_stays_what_it_is(backend: str, mode: int, tmp_path: Path) -> None:
    """The same inode, mode and owner, and files in it that take the group of a folder that is set so."""
    path = tmp_path / "run"
    path.mkdir()
    if os.geteuid() == 0:
        os.chown(path, 1234, 4321)
    path.chmod(mode)
    before = identity(path)
    contracts.record(path, backend)
    assert identity(path) == before
    contracts.check_run(path)
    if mode & stat.S_ISGID:
        assert {other.stat().st_gid for other in path.rglob("*")} == {path.stat().st_gid}


@pytest.mark.parametrize("mode", [0o2770, 0o700])
def test_a_run_that_replaces_another_has_its_attributes(backend: str, mode: int, tmp_path: Path) -> None:
    """The mode, the owner and extended attributes, access lists among them, of the folder that gives way."""
    path = contracts.record(tmp_path / "run", backend, stop=3)
    if os.geteuid() == 0:
        os.chown(path, 1234, 4321)
    path.chmod(mode)
    has_attributes = hasattr(os, "setxattr")
    if has_attributes:
        with contextlib.suppress(OSError):
            os.setxattr(path, "user.project", b"thimble")
    before = identity(path)[1:], has_attributes and os.listxattr(path)
    contracts.record(path, backend, overwrite=True)
    assert before == (identity(path)[1:], has_attributes and os.listxattr(path))
    np.save(tmp_path / "a.npy", np.zeros((3, 2), np.float32))
    ts.import_file(tmp_path / "a.npy", path, overwrite=True)
    assert before[0] == identity(path)[1:]


def test_an_import_fills_an_empty_folder(backend: str, tmp_path: Path) -> None:
    """As `create` does; and what is in a folder that is not empty stays."""
    np.save(tmp_path / "a.npy", np.arange(12, dtype=np.float32).reshape(6, 2))
    path = tmp_path / "run"
    path.mkdir(mode=0o750)
    before = identity(path)
    ts.import_file(tmp_path / "a.npy", path, backend=backend)
    assert before == identity(path)
    assert list(ts.check(path)) == []
    with ts.open(path) as run:
        assert run["a"][:, 0].tolist() == [0, 2, 4, 6, 8, 10]
    assert not [other.name for other in path.iterdir() if other.name.startswith(".")]


def test_a_folder_that_a_parent_does_not_let_one_replace(backend: str, tmp_path: Path) -> None:
    """Only the folder itself has to be written: its parent may be an administrator's."""
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    path = tmp_path / "admin" / "run"
    path.mkdir(parents=True)
    path.parent.chmod(0o555)
    contracts.record(path, backend)
    contracts.check_run(path)
    path.parent.chmod(0o755)


def test_a_crash_at_any_call_leaves_a_run_or_an_empty_folder(
    backend: str,
    taped: Callable[..., Tape],  # noqa: F811
    tmp_path: Path,
) -> None:
    """At every durable call of filling it: what counts is the manifest, and the next `create` clears the rest away."""

    def create(path: Path) -> None:
        contracts.create(path, backend).close()

    tape = taped(lambda root: (root / "run").mkdir(), lambda root: create(root / "run"))
    found = set()
    for left in crashes(tape):
        root = tmp_path / "left"
        lay_out(left, root)
        path = root / "run"
        if (path / "manifest.json").exists():
            found.add("run")
            assert {finding.kind for finding in ts.check(path)} <= {"torn"}
            contracts.record(path, backend, overwrite=True)
            contracts.check_run(path)
        else:
            found.add("empty")
            before = identity(path)
            contracts.record(path, backend)
            assert before == identity(path)
            contracts.check_run(path)
        shutil.rmtree(root)
    assert found == {"run", "empty"}


def test_what_a_crash_left_is_cleared_by_a_resume(backend: str, taped: Callable[..., Tape], tmp_path: Path) -> None:  # noqa: F811
    """Killed after the manifest was in its place: the list of what was moved is no part of the run, and goes."""
    tape = taped(lambda root: (root / "run").mkdir(), lambda root: contracts.create(root / "run", backend).close())
    for n, left in enumerate(crashes(tape)):
        if any(".partial/.moving" in path for path in left) and "run/manifest.json" in left:
            path = tmp_path / f"left{n}" / "run"
            lay_out(left, path.parent)
            assert list(ts.check(path)) == []
            ts.resume(path).close()
            assert not list(path.glob(".*"))
            return
    pytest.fail("no such crash")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_an_error_at_any_call_leaves_the_folder_empty(
    backend: str, number: int, tmp_path: Path, swap_disk: Swap
) -> None:
    """A StorageError, nothing in the folder, and it is still that folder; or the run is there, whole."""
    fail_at = 0
    while True:
        fail_at += 1
        path = tmp_path / f"run{fail_at}"
        path.mkdir(mode=0o750)
        before = identity(path)
        swap_disk(FailingDisk(fail_at, number, once=True))
        try:
            ts.create(path, contracts.SERIES, steps=contracts.STEPS, backend=backend, static=contracts.STATIC).close()
        except StorageError:
            swap_disk(contracts.NoSync())
            assert before == identity(path)
            if (path / "manifest.json").exists():
                assert list(ts.check(path)) == []
                break
            assert not list(path.iterdir())
        else:
            pytest.fail("it should have failed in the end, at a call of `close`")
    assert fail_at > 10


def test_what_others_keep_there_is_not_touched(backend: str, tmp_path: Path) -> None:
    """A folder that holds anything else is not empty, be it as hidden or named as it may."""
    for name in ("notes", ".hidden", ".new.1234abcd.partial", ".moving", "zarr.json", "W"):
        path = tmp_path / "run"
        path.mkdir()
        (path / name).write_text("mine")
        with pytest.raises(RunExistsError):
            ts.create(path, contracts.SERIES, steps=contracts.STEPS, backend=backend)
        with pytest.raises(RunExistsError):
            ts.create(path, contracts.SERIES, steps=contracts.STEPS, backend=backend, overwrite=True)
        assert [name] == [other.name for other in path.iterdir()]
        shutil.rmtree(path)


def test_a_folder_that_is_being_filled_is_locked(backend: str, tmp_path: Path, swap_disk: Swap) -> None:
    """Another `create` there is told so, with `overwrite` too."""
    path = tmp_path / "run"
    path.mkdir()
    told = []

    class Meanwhile(contracts.NoSync):
        def rename(self, source: Path, target: Path) -> None:
            super().rename(source, target)
            for overwrite in (False, True):
                with pytest.raises((RunLockedError, RunExistsError)) as caught:
                    ts.create(path, contracts.SERIES, steps=11, backend=backend, overwrite=overwrite)
                told.append(caught.type)

    swap_disk(Meanwhile())
    sink = ts.create(path, contracts.SERIES, steps=contracts.STEPS, backend=backend)
    swap_disk(contracts.NoSync())
    sink.close()
    assert RunLockedError in told
    assert list(ts.check(path)) == []


def test_a_folder_that_the_finder_showed_is_empty(backend: str, tmp_path: Path) -> None:
    """A run is recorded beside the one file that macOS put there, and may give way to another."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".DS_Store").write_bytes(b"Bud1")

    contracts.record(tmp_path / "run", backend)
    assert [finding.path.name for finding in ts.check(tmp_path / "run")] == [".DS_Store"]

    contracts.record(tmp_path / "run", backend, stop=3, overwrite=True)
    contracts.check_run(tmp_path / "run", 3)


@pytest.fixture
def mount_point(tmp_path: Path) -> Iterator[Path]:
    """An empty folder on which a file system is mounted."""
    path = tmp_path / "mounted"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(path)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here: it takes root, and a container that lets it")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_mount_point_can_be_the_run(backend: str, mount_point: Path) -> None:
    """It cannot be renamed, so it is filled; a run in it cannot give way in one step, and the error says so."""
    (mount_point / "lost+found").mkdir()
    contracts.record(mount_point, backend)
    contracts.check_run(mount_point)
    before = contracts.contents(mount_point)
    with pytest.raises(StorageError, match="a file system is mounted there, so what it holds cannot be replaced"):
        contracts.record(mount_point, backend, overwrite=True)
    assert before == contracts.contents(mount_point)
    assert [mount_point] == list(mount_point.parent.iterdir())
