"""What holds for every test: a file system that can be swapped, and nothing left open."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.harness import contracts
from trajectory_store import files

# No test may fail because the machine is busy: how long things take is measured in benchmarks/.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def swap_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[files.Disk], files.Disk]:
    """Puts another file system below the package for the rest of the test."""

    def swap(disk: files.Disk) -> files.Disk:
        monkeypatch.setattr(files, "disk", disk)
        return disk

    return swap


@pytest.fixture
def no_sync(swap_disk: Callable[[files.Disk], files.Disk]) -> None:
    """The real file system, without waiting for it."""
    swap_disk(contracts.NoSync())


@pytest.fixture(params=contracts.BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend in turn."""
    return str(request.param)


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that ends with more open files, or with a sealing thread, than it began with fails."""
    if request.node.get_closest_marker("leaks"):
        yield
        return
    before = _open_files()
    yield
    import gc

    gc.collect()
    after = _open_files()
    assert after <= before, f"left open: {sorted(after - before)}"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("trajectory-seal")]


def _open_files() -> set[str]:
    folder = Path("/proc/self/fd")
    if not folder.exists():
        return set()
    found = set()
    for link in folder.iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if "/pytest-" in target:
            found.add(target)
    return found
