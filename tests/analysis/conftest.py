import pytest

from tests.harness import recordings
from trajectory_store.analysis import scanned_block
from trajectory_store.run import pickling


@pytest.fixture(autouse=True)
def _closed_runs():
    """Runs that were opened for unpickled series are closed after each test, not when the process ends."""
    yield
    while pickling._open_runs:
        pickling._open_runs.popitem()[1].close()


@pytest.fixture(params=sorted(recordings.RECORDINGS))
def bits(request):
    """One recording after another, as patterns (steps, tokens, dim)."""
    return recordings.RECORDINGS[request.param]()


@pytest.fixture(params=["zarr", "memmap", "array"])
def recorded(request, bits, tmp_path, monkeypatch):
    """The same recording as a run of each backend in small blocks, and as an array in memory."""
    monkeypatch.setattr(scanned_block, "_SLAB_ENTRIES", 3 * 64 * 64)  # three rows a slab
    if request.param == "array":
        yield bits
        return
    with recordings.record(tmp_path / "run", bits, backend=request.param) as run:
        yield run


@pytest.fixture(autouse=True)
def no_leaks() -> None:
    """What these tests open ends when it is collected, so nothing is counted after each of them."""
