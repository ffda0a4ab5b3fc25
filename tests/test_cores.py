"""One rule for how many cores there are, and every pool of threads obeys it."""

import os

import pytest

from trajectory_store import cores
from trajectory_store.analysis import scanning
from trajectory_store.backends.zarr import source


@pytest.fixture
def pinned(monkeypatch):
    """A process that may use two of the cores of a large machine."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)


@pytest.mark.usefixtures("pinned")
def test_a_pinned_process_decodes_and_scans_on_its_own_cores():
    """Two cores: one thread beside the reader, two for a scan."""
    threads, n_threads = source._decoding_threads.__wrapped__()
    threads.shutdown()

    assert n_threads == 1
    with scanning._Workers(None, None) as workers:
        assert workers._own._max_workers == 2


def test_where_nobody_says_which_cores_there_are(monkeypatch):
    """As many as the machine has, and one if even that is not known."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    for known, usable in ((12, 12), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda known=known: known)
        assert cores.usable_cores() == usable
