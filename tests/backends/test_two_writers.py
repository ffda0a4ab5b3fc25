"""Two processes that want one path: exactly one gets it, with a run that is its own; the others get one clear error."""

import fcntl
import multiprocessing as mp
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trajectory_store as ts
from tests.harness import contracts
from trajectory_store import files
from trajectory_store.backends import writer_lock
from trajectory_store.backends.writer_lock import WriterLock
from trajectory_store.errors import BusyError, RunExistsError, RunLockedError, StorageError

SERIES = {"x": ts.Series((4,), "float32")}
STEPS = 20
Swap = Callable[[files.Disk], files.Disk]


def row(racer: int, step: int) -> np.ndarray:
    return np.full(4, 100 * racer + step, np.float32)


def begin(path: Path, backend: str, racer: int, **options: Any) -> Any:
    return ts.create(
        path,
        SERIES,
        steps=STEPS,
        block_steps=8,
        backend=backend,
        attrs={"racer": racer},
        static={"ids": np.full(3, racer)},
        **options,
    )


WAYS: dict[str, Callable[[Path, str, int], Any]] = {
    "a new run": begin,
    "a new run that may replace": lambda *racer: begin(*racer, overwrite=True),
    "into an empty folder": begin,
    "over a run": lambda *racer: begin(*racer, overwrite=True),
    "resumed": lambda path, _backend, _racer: ts.resume(path),
}


def race(path: Path, backend: str, way: str, racer: int, start: Any, over: Any, out: Any) -> None:
    """One racer: begin with the others, record to the end if it won, and say how it went."""
    try:
        start.wait()
        try:
            sink = WAYS[way](path, backend, racer)
        except BusyError as error:
            over.wait()
            out.put((racer, type(error).__name__))
            return
        over.wait()
        first = sink.next_step
        for step in range(first, STEPS):
            sink.append(step, x=row(racer, step))
        sink.close()
        with ts.open(path) as run:
            assert way == "resumed" or run.attrs == {"racer": racer}
            assert way == "resumed" or run.static["ids"].tolist() == [racer] * 3
            assert run["x"][first:].tolist() == [row(racer, step).tolist() for step in range(first, STEPS)]
        assert not list(ts.check(path))
        out.put((racer, "won"))
    except BaseException as error:
        over.abort()
        out.put((racer, repr(error)))
        raise


def run_races(folder: Path, backend: str, way: str, n_tries: int, n_racers: int) -> None:
    context = mp.get_context("fork")
    for attempt in range(n_tries):
        path = folder / f"{attempt}" / "run"
        path.parent.mkdir()
        if way == "into an empty folder":
            path.mkdir()
        if way in ("over a run", "resumed"):
            with begin(path, backend, 99) as sink:
                for step in range(5):
                    sink.append(step, x=row(0, step))
        start, over, out = context.Barrier(n_racers), context.Barrier(n_racers), context.SimpleQueue()
        racers = [
            context.Process(target=race, args=(path, backend, way, racer, start, over, out))
            for racer in range(1, n_racers + 1)
        ]
        for racer in racers:
            racer.start()
        found = sorted(out.get()[1] for _ in racers)
        for racer in racers:
            racer.join()
        assert found[-1] == "won", found
        assert set(found[:-1]) <= {"RunExistsError", "RunLockedError"}, found
        assert [other.name for other in path.parent.iterdir()] == ["run"]


@pytest.mark.parametrize("way", WAYS)
def test_exactly_one_gets_the_path(backend: str, way: str, tmp_path: Path) -> None:
    """Several processes at once, again and again; the run is the winner's, and nothing is left beside it."""
    run_races(tmp_path, backend, way, n_tries=3, n_racers=2)
    (tmp_path / "three").mkdir()
    run_races(tmp_path / "three", backend, way, n_tries=1, n_racers=3)


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS)
def test_exactly_one_gets_the_path_of_300_times(backend: str, way: str, tmp_path: Path) -> None:
    """The same for as long as it took to fail 27 times in 60, before."""
    run_races(tmp_path, backend, way, n_tries=300, n_racers=2)


def test_whoever_comes_in_the_middle_of_an_overwrite_is_told(backend: str, tmp_path: Path, swap_disk: Swap) -> None:
    """At every durable call of it, from another thread of execution: locked, and never in."""
    path = tmp_path / "run"
    begin(path, backend, 1).close()
    script = """
import sys, trajectory_store as ts
from trajectory_store.errors import BusyError, RunNotFoundError
series = {"x": ts.Series((4,), "float32")}
calls = {
    "create": lambda path: ts.create(path, series),
    "overwrite": lambda path: ts.create(path, series, overwrite=True),
    "resume": ts.resume,
    "repair": ts.repair,
}
for line in sys.stdin:
    said = []
    for name, call in calls.items():
        try:
            call(line.strip())
            said.append(f"{name} went in")
        except (BusyError, RunNotFoundError) as error:
            said += [str(error)] if "rename that back" in str(error) else []
    print(said, flush=True)
"""
    other = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdin is not None
    assert other.stdout is not None

    class Watched(contracts.NoSync):
        n_calls = 0

        def rename(self, source: Path, target: Path) -> None:
            super().rename(source, target)
            self.ask()

        def make_folder(self, path: Path) -> None:
            super().make_folder(path)
            self.ask()

        def ask(self) -> None:
            self.n_calls += 1
            other.stdin.write(f"{path}\n")
            other.stdin.flush()
            assert other.stdout.readline() == "[]\n"

    disk = Watched()
    swap_disk(disk)
    with begin(path, backend, 2, overwrite=True) as sink:
        assert disk.n_calls > 3
        sink.append(0, x=row(2, 0))
    swap_disk(contracts.NoSync())
    other.stdin.close()
    other.wait()
    other.stdout.close()
    assert [path] == list(tmp_path.iterdir())
    with ts.open(path) as run:
        assert run["x"][...].tolist() == [row(2, 0).tolist()]


def test_somebody_else_in_the_gap_keeps_what_is_theirs(tmp_path: Path, swap_disk: Swap) -> None:
    """Between the two renames of an overwrite: theirs stays, what was there is named, and nothing is removed."""
    path = tmp_path / "run"
    begin(path, "zarr", 1).close()

    class Meanwhile(contracts.NoSync):
        def rename(self, source: Path, target: Path) -> None:
            super().rename(source, target)
            if source == path:
                path.mkdir()
                (path / "theirs").write_text("mine")

    swap_disk(Meanwhile())
    with pytest.raises(RunExistsError, match=r"somebody else .*; what it was to replace is \.run\..*d beside it"):
        begin(path, "zarr", 2, overwrite=True)
    swap_disk(contracts.NoSync())
    assert (path / "theirs").read_text() == "mine"
    (aside,) = tmp_path.glob(".run.*.replaced")
    assert ts.open(aside).attrs == {"racer": 1}


def test_a_lock_whose_run_was_replaced_meanwhile_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for the lock of a run that gives way looks again where the name leads."""
    path = tmp_path / "run"
    begin(path, "zarr", 1).close()
    real, winner = fcntl.flock, []

    def after_an_overwrite(descriptor: int, how: int) -> None:
        monkeypatch.setattr(writer_lock.fcntl, "flock", real)
        winner.append(begin(path, "zarr", 2, overwrite=True))
        real(descriptor, how)

    monkeypatch.setattr(writer_lock.fcntl, "flock", after_an_overwrite)
    with pytest.raises(RunLockedError):
        WriterLock(path)
    winner[0].close()
    WriterLock(path).release()


def test_two_imports_and_two_exports(tmp_path: Path) -> None:
    """An import holds what it replaces; the later of two exports finds the file of the earlier."""
    np.save(tmp_path / "a.npy", np.zeros((30, 2), np.float32))
    run = tmp_path / "run"
    ts.import_file(tmp_path / "a.npy", run)
    found = []

    def meanwhile(_done: int, _total: int) -> None:
        for call in (
            lambda: ts.import_file(tmp_path / "a.npy", run, overwrite=True),
            lambda: ts.resume(run),
            lambda: ts.repair(run),
        ):
            with pytest.raises(BusyError):
                call()
            found.append(call)

    ts.import_file(tmp_path / "a.npy", run, overwrite=True, progress=meanwhile)
    assert found
    out = tmp_path / "out.safetensors"
    first: list[bytes] = []

    def exported_meanwhile(_done: int, _total: int) -> None:
        if not first:
            first.append(b"")
            ts.export_safetensors(run, out)
            first[0] = out.read_bytes()

    with pytest.raises(RunExistsError, match=r"out\.safetensors: somebody else has made something there meanwhile"):
        ts.export_safetensors(run, out, progress=exported_meanwhile)
    assert out.read_bytes() == first[0]
    assert not list(tmp_path.glob(".*"))
    ts.export_safetensors(run, out, overwrite=True)


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "1", "WORLD_SIZE": "4"},
        {"SLURM_PROCID": "1", "SLURM_NTASKS": "4"},
        {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4"},
    ],
)
def test_ranks_are_told_who_records(
    backend: str, variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`torchrun` starts one script several times: the losers' errors say that rank 0 is to record."""
    with begin(tmp_path / "run", backend, 0):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        for call in (
            lambda: begin(tmp_path / "run", backend, 1),
            lambda: begin(tmp_path / "run", backend, 1, overwrite=True),
            lambda: ts.resume(tmp_path / "run"),
        ):
            with pytest.raises(BusyError, match="this is rank 1 of 4, so let only rank 0 record"):
                call()


def test_the_message_tells_this_process_from_another(backend: str, tmp_path: Path) -> None:
    """One's own sink by the line that made it, another process by its number; and what to do."""
    sink = begin(tmp_path / "run", backend, 1)
    for call in (lambda: ts.resume(tmp_path / "run"), lambda: begin(tmp_path / "run", backend, 2, overwrite=True)):
        with pytest.raises(RunLockedError, match=r"this very process .* sink made at .*test_two_writers.py:\d+ is not"):
            call()
    script = """
import sys, trajectory_store as ts
try:
    ts.resume(sys.argv[1])
except ts.errors.RunLockedError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", script, tmp_path / "run"], capture_output=True, text=True, check=True)
    assert f"another process writes this run (process {os.getpid()} on " in said.stdout
    sink.close()
    ts.resume(tmp_path / "run").close()


@pytest.mark.parametrize("number", ["ENOTSUP", "ENOLCK"])
def test_a_file_system_without_locks(
    backend: str, number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recording there is refused with a reason, and leaves nothing; reading needs no lock."""
    import errno

    path = contracts.record(tmp_path / "run", backend)
    (tmp_path / "empty").mkdir()

    def no_locks(_descriptor: int, _how: int) -> None:
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    for call in (
        lambda: begin(tmp_path / "new", backend, 1),
        lambda: begin(tmp_path / "empty", backend, 1),
        lambda: begin(path, backend, 1, overwrite=True),
        lambda: ts.resume(path),
        lambda: ts.repair(path),
    ):
        with pytest.raises(StorageError, match=r"this file system has no locks .*; record on another one"):
            call()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "run"]
    assert not list((tmp_path / "empty").iterdir())
    contracts.check_run(path)
