"""File systems that are really full, read-only or failing: what was acknowledged is there, and the recording goes on.

The other tests break the seam of durable calls. These mount small file systems, which takes root and a machine that
allows it; elsewhere they are skipped, and say so.
"""

import gc
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trajectory_store as ts
from trajectory_store.errors import StorageError

SERIES = {"W": ts.Series((64, 16), "float32")}
STEPS = 4000
Mount = Callable[..., Path]


def run(*command: Any) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine does not let a test `{' '.join(map(str, command))}`: {done.stderr.strip()}")
    return done.stdout.strip()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a file system for the rest of the test: a tmpfs with these options, or the image of one."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system takes root")
    undo: list[list[str]] = []

    def mounted(name: str, options: str = "", image: Path | None = None) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        if image is None:
            run("mount", "-t", "tmpfs", "-o", options, "none", folder)
        else:
            device = run("losetup", "--find", "--show", image)
            undo.append(["losetup", "--detach", device])
            run("mount", device, folder)
        undo.append(["umount", "--lazy", str(folder)])
        return folder

    yield mounted
    gc.collect()
    for command in reversed(undo):
        subprocess.run(command, capture_output=True, check=False)


def row(step: int) -> np.ndarray:
    return np.random.default_rng(step).standard_normal((64, 16), dtype=np.float32)  # does not compress


def record_until_refused(sink: Any, *, flush_every: int) -> tuple[int, int, StorageError]:
    """Append until the disk refuses: (steps appended, steps flushed, the error)."""
    appended = flushed = sink.next_step
    try:
        for step in range(appended, STEPS):
            sink.append(step, W=row(step))
            appended = step + 1
            if appended % flush_every == 0:
                sink.flush()
                flushed = appended
        sink.close()
    except StorageError as error:
        return appended, flushed, error
    pytest.fail("the disk took everything")


def assert_is_prefix(path: Path, at_least: int) -> int:
    with ts.open(path) as opened:
        n_steps = len(opened.steps)
        assert n_steps >= at_least
        for step in range(n_steps):
            assert opened["W"][step].tobytes() == row(step).tobytes()
    return n_steps


def close_without_room(sink: Any) -> None:
    try:
        sink.close()
    except StorageError:
        sink.close()


@pytest.mark.parametrize("kind", ["bytes", "inodes"])
def test_a_full_file_system(backend: str, kind: str, mount: Mount) -> None:
    """Of its bytes or of its inodes: every acknowledged step is there, and with room again the run goes on."""
    folder = mount("disk", "size=3m" if kind == "bytes" else "size=64m,nr_inodes=60")
    filler = folder / "filler"
    filler.mkdir()
    if kind == "inodes":
        for number in range(25):
            (filler / str(number)).touch()
    else:
        (filler / "0").write_bytes(bytes(1 << 20))
    path = folder / "run"
    try:
        sink = ts.create(path, SERIES, steps=STEPS, block_steps=32, backend=backend)
    except StorageError as error:  # memmap reserves the whole run
        assert backend == "memmap"
        assert kind == "bytes"
        assert "No space left on device; make room" in str(error)  # noqa: PT017
        assert [other.name for other in folder.iterdir()] == ["filler"]
        return
    if backend == "memmap":  # it needs no inode any more
        close_without_room(sink)
        return
    appended, _, error = record_until_refused(sink, flush_every=10)
    assert "No space left on device; make room and resume" in str(error)
    close_without_room(sink)
    n_steps = assert_is_prefix(path, appended)
    shutil.rmtree(filler)
    with ts.resume(path) as sink:
        assert sink.next_step == n_steps
        for step in range(n_steps, n_steps + 20):
            sink.append(step, W=row(step))
    assert_is_prefix(path, n_steps + 20)
    assert list(ts.check(path)) == []


def test_a_file_system_that_becomes_read_only(backend: str, mount: Mount) -> None:
    """As ext4 does after an error of its device: a StorageError that says so, and once it is mended the run goes on."""
    folder = mount("disk", "size=32m")
    path = folder / "run"
    sink = ts.create(path, SERIES, steps=100, block_steps=8, backend=backend)
    for step in range(20):
        sink.append(step, W=row(step))
    sink.close()  # a file that is open for writing keeps a file system from becoming read-only
    run("mount", "-o", "remount,ro", folder)
    with pytest.raises(StorageError, match="the file system is read-only; choose another place"):
        ts.resume(path)
    with pytest.raises(StorageError, match="read-only"):
        ts.create(folder / "other", SERIES, steps=3, backend=backend)
    assert_is_prefix(path, 20)
    run("mount", "-o", "remount,rw", folder)
    with ts.resume(path) as sink:
        for step in range(20, 100):
            sink.append(step, W=row(step))
    assert assert_is_prefix(path, 100) == 100
    assert list(ts.check(path)) == []


@pytest.mark.slow
@pytest.mark.parametrize("make", ["mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"])
def test_a_device_that_fails_as_it_writes_back(make: str, mount: Mount) -> None:
    """A loop device over a full tmpfs: the file system takes every byte, and only a sync learns that it is lost.

    What a `flush` acknowledged is there after the file system was mounted again, and the run goes on. Not with memmap:
    where its reserved space is zeros on the device, the device has taken them before it is full.
    """
    if shutil.which(make) is None:
        pytest.skip(f"{make} is not installed")
    backing = mount("backing", "size=160m" if make == "mkfs.btrfs" else "size=48m")
    image = backing / "image"
    with image.open("wb") as file:
        file.truncate((512 if make != "mkfs.ext4" else 64) << 20)
    run(make, "-q", image)
    folder = mount("disk", image=image)
    path = folder / "run"
    sink = ts.create(path, SERIES, steps=STEPS, block_steps=32, backend="zarr")
    for step in range(16):
        sink.append(step, W=row(step))
    assert sink.flush() == 15
    with (backing / "filler").open("wb") as filler:
        try:
            while True:
                filler.write(bytes(1 << 16))
                filler.flush()
        except OSError:
            pass
    _, flushed, error = record_until_refused(sink, flush_every=16)
    assert isinstance(error, StorageError)
    close_without_room(sink)
    (backing / "filler").unlink()
    del sink, error  # whose traceback has files open
    gc.collect()
    run("umount", folder)
    again = mount("again", image=image) / "run"
    acknowledged = max(flushed, 16)
    with ts.open(again) as opened:  # what was not flushed may be torn, as after a loss of power
        for step in range(acknowledged):
            assert opened["W"][step].tobytes() == row(step).tobytes()
    with ts.resume(again) as sink:
        n_steps = sink.next_step
        assert n_steps >= acknowledged
        for step in range(n_steps, n_steps + 20):
            sink.append(step, W=row(step))
    assert_is_prefix(again, n_steps + 20)
    assert list(ts.check(again)) == []
