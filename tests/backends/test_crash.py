"""Stops at every durable call of whole recordings: nothing acknowledged is lost, nothing is invented."""

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import trajectory_store as ts
from tests.harness import contracts
from tests.harness.contracts import STEPS, abandon, assert_prefix, bits, contents, record, recorded_steps, values
from tests.harness.faulty_files import Call, FileSystem, Left, Tape, lay_out
from trajectory_store import files
from trajectory_store.errors import RunNotFoundError

FLUSHED = (2, 3, 8)
"""Steps after which the recording flushes: inside of a block, at its end, in the last one."""


WHOLE_WRITES = 1 << 20
"""As the size of a sector: a write is on the disk or is not, so that whole frames lie behind lost ones."""


@dataclass
class Recording:
    """The tape of a recording: after `n` calls the steps of `appended` ≤ n had been acknowledged, and `flushed`."""

    tape: Tape
    appended: list[tuple[int, int]]
    flushed: list[tuple[int, int]]

    def acknowledged(self, n_calls: int, of: list[tuple[int, int]]) -> int:
        """The last step that was acknowledged when `n_calls` had been made, −1 where there was none."""
        return max((step for calls, step in of if calls <= n_calls), default=-1)

    def played(self) -> Iterator[tuple[int, Call | None, FileSystem]]:
        """The file system after n calls, for every n, with the call that comes next."""
        yield from played(self.tape.calls, FileSystem())


def played(calls: list[Call], system: FileSystem) -> Iterator[tuple[int, Call | None, FileSystem]]:
    """The file system after n of some calls, for every n, with the call that comes next."""
    for n, call in enumerate(calls):
        yield n, call, system
        system.do(call)
    yield len(calls), None, system


@pytest.fixture
def make_recording(tmp_path: Path, swap_disk: Callable[[files.Disk], files.Disk]) -> Callable[[str, str], Recording]:
    """Records the small recording onto a tape."""

    def make(backend: str, durability: str) -> Recording:
        root = tmp_path / "taped"
        root.mkdir()
        tape = Tape(root)
        swap_disk(tape)
        recording = Recording(tape, [], [])
        sink = contracts.create(root / "run", backend, durability=durability)
        for step in range(STEPS):
            sink.append(step, **values(step))
            recording.appended.append((len(tape.calls), step))
            if step in FLUSHED:
                assert step == sink.flush()
                recording.flushed.append((len(tape.calls), step))
        sink.close()
        recording.flushed.append((len(tape.calls), STEPS - 1))
        swap_disk(contracts.NoSync())
        return recording

    return make


def assert_recovers(path: Path, backend: str, first: int, last: int, expected: dict[str, bytes]) -> None:
    """A run that was left behind has the steps up to `first` at least and `last` at most; resumed, it has them all."""
    if not (path / "manifest.json").exists():
        assert first < 0
        assert not path.exists()
        with pytest.raises(RunNotFoundError):
            ts.open(path)
        return
    assert {"torn"} >= {finding.kind for finding in ts.check(path)}
    with ts.open(path) as run:
        n_seen = recorded_steps(run)
        assert first + 1 <= n_seen <= last + 1
        if backend == "zarr":
            assert_prefix(run, n_seen)
        else:  # tells rows that the power took when they are read
            assert_prefix_or_damage(run, n_seen, first + 1)
    sink = contracts.resume(path, backend)
    assert sink.next_step is None or first < sink.next_step <= last + 1
    assert sink.recovery.kept_until == (STEPS if sink.next_step is None else sink.next_step)
    for step in range(sink.next_step if sink.next_step is not None else STEPS, STEPS):
        sink.append(step, **values(step))
    sink.close()
    contracts.check_run(path)
    if backend == "zarr":
        assert expected == contents(path)


def assert_prefix_or_damage(run: ts.Run, n_steps: int, n_sound: int) -> None:
    """Steps that were promised are there; of the others a read gives the right bits or an error."""
    for name, series in contracts.SERIES.items():
        for step in (step for step in range(n_steps) if series.is_due(step)):
            try:
                found = run[name].bits.at_step(step)
            except ts.errors.DamageError:
                assert step >= n_sound
                continue
            assert bits(values(step)[name]) == bits(found)


@dataclass
class Recoveries:
    """Recovers what crashes left, each state once, and counts them."""

    backend: str
    folder: Path
    expected: dict[str, bytes]

    def __post_init__(self) -> None:
        self._seen: set[int] = set()

    def assert_recovers(self, left: Left, first: int, last: int) -> None:
        """See `assert_recovers`."""
        state = hash((frozenset(left.items()), first, last))
        if state in self._seen:
            return
        self._seen.add(state)
        root = self.folder / "left"
        lay_out(left, root)
        assert_recovers(root / "run", self.backend, first, last, self.expected)
        shutil.rmtree(root)


@pytest.mark.parametrize("durability", ["process", pytest.param("none", marks=pytest.mark.long)])
def test_a_process_that_dies_at_any_call_loses_no_step(
    backend: str, durability: str, make_recording: Callable[[str, str], Recording], tmp_path: Path
) -> None:
    """`append` returned → the frame survives the death of the process, at every call, torn writes included."""
    recording = make_recording(backend, durability)
    recoveries = Recoveries(backend, tmp_path, contents(recording.tape.root / "run"))
    for n, call, system in recording.played():
        after = recording.acknowledged(n, recording.appended)
        recoveries.assert_recovers(system.left(), after, after + 1)
        if call is not None and call.kind == "write" and len(call.data) > 1:
            torn = replayed(recording.tape.calls[:n])
            torn.tear(call, len(call.data) * (1 + n % 3) // 4)
            recoveries.assert_recovers(torn.left(), after, after + 1)


@pytest.mark.parametrize("durability", ["process", "power"])
def test_power_lost_at_any_call_loses_no_flushed_step(
    backend: str, durability: str, make_recording: Callable[[str, str], Recording], tmp_path: Path
) -> None:
    """What was synced is there, and all else may be gone: steps ≤ k are there once `flush` returned k."""
    recording = make_recording(backend, durability)
    recoveries = Recoveries(backend, tmp_path, contents(recording.tape.root / "run"))
    for n, _, system in recording.played():
        recoveries.assert_recovers(system.stored(), *bounds(recording, durability, n))


@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize("seeds", [range(1), pytest.param(range(1, 40), marks=pytest.mark.long)], ids=["few", "many"])
def test_power_lost_with_torn_sectors_and_reordered_names(
    seeds: range, backend: str, durability: str, make_recording: Callable[[str, str], Recording], tmp_path: Path
) -> None:
    """Of what was not synced any sector and any name may be on the disk: what was flushed is there all the same."""
    recording = make_recording(backend, durability)
    recoveries = Recoveries(backend, tmp_path, contents(recording.tape.root / "run"))
    for n, _, system in recording.played():
        for seed in seeds:
            left = system.torn(random.Random(f"{seed} {n}"))
            recoveries.assert_recovers(left, *bounds(recording, durability, n))


def bounds(recording: Recording, durability: str, n: int) -> tuple[int, int]:
    """The last step that was promised to survive power loss, and the last one that can be there."""
    appended = recording.acknowledged(n, recording.appended)
    promised = appended if durability == "power" else recording.acknowledged(n, recording.flushed)
    return promised, appended + 1


def replayed(calls: list[Call]) -> FileSystem:
    """The file system after some calls."""
    system = FileSystem()
    for call in calls:
        system.do(call)
    return system


@pytest.mark.parametrize(
    "seeds",
    [pytest.param(range(2), marks=pytest.mark.slow), pytest.param(range(2, 200), marks=pytest.mark.long)],
    ids=["few", "many"],
)
def test_a_crash_of_the_recovery_itself_loses_nothing(
    seeds: range,
    backend: str,
    make_recording: Callable[[str, str], Recording],
    swap_disk: Callable[[files.Disk], files.Disk],
    tmp_path: Path,
) -> None:
    """The power goes, and goes again at any call of the resumed recording; other values after the second time.

    Steps that the second life wrote and the disk did not keep may not come back as those of the first one.
    """
    recording = make_recording(backend, "process")
    for seed in seeds:
        chance = random.Random(seed)
        n = chance.randrange(len(recording.tape.calls) // 2, len(recording.tape.calls))
        root = tmp_path / f"life{seed}"
        lay_out(replayed(recording.tape.calls[:n]).torn(chance), root)
        promised, _ = bounds(recording, "process", n)
        tape = Tape(root)
        swap_disk(tape)
        sink = contracts.resume(root / "run", backend)
        next_step = sink.next_step
        acknowledged: list[tuple[int, int]] = [(0, promised)]
        for step in range(STEPS if next_step is None else next_step, STEPS):
            sink.append(step, **values(step))
            if step == next_step:
                flushed = max(sink.flush(), promised)
                acknowledged.append((len(tape.calls), flushed))
        abandon(sink)
        swap_disk(contracts.NoSync())
        recoveries = Recoveries(backend, tmp_path, contents(recording.tape.root / "run"))
        for m, _, system in played(tape.calls, tape.start):
            kept = max(step for calls, step in acknowledged if calls <= m)
            recoveries.assert_recovers(system.torn(random.Random(f"{seed} {m}")), kept, STEPS - 1)


def test_steps_that_were_dropped_do_not_come_back(
    backend: str,
    swap_disk: Callable[[files.Disk], files.Disk],
    tmp_path: Path,
) -> None:
    """After a crash another history is recorded; however the power goes, no step of the first one follows it."""
    for seed in range(150):
        chance = random.Random(seed)
        root = tmp_path / str(seed)
        root.mkdir()
        swap_disk(first := Tape(root))
        sink = contracts.create(root / "run", backend)
        for step in range(7):
            sink.append(step, **values(step))
            if step == 4:
                sink.flush()
        abandon(sink)
        swap_disk(contracts.NoSync())
        after_first = tmp_path / f"{seed}-second"
        lay_out(replayed(first.calls).torn(chance, WHOLE_WRITES), after_first)
        if not (after_first / "run" / "manifest.json").exists():
            continue
        swap_disk(second := Tape(after_first))
        sink = contracts.resume(after_first / "run", backend)
        start = sink.next_step
        for step in range(start, chance.choice((start + 1, 8))):
            sink.append(step, **changed(values(step)))
        abandon(sink)
        swap_disk(contracts.NoSync())
        system = second.start
        for call in second.calls:
            system.do(call)
        last = tmp_path / f"{seed}-last"
        lay_out(system.torn(chance, WHOLE_WRITES), last)
        contracts.resume(last / "run", backend).close()
        with ts.open(last / "run") as run:
            for step in range(start, recorded_steps(run)):
                assert bits(changed(values(step))["W"]) == bits(run["W"].bits[step])


def changed(row: dict) -> dict:
    """Another history's values."""
    return {**row, "W": row["W"] ^ 1}


@pytest.mark.usefixtures("no_sync")
def test_an_abandoned_run_is_resumed_where_it_was(backend: str, tmp_path: Path) -> None:
    """Without any failure of the disk too."""
    record(tmp_path / "run", backend, stop=6, close=False)

    sink = contracts.resume(tmp_path / "run", backend)

    assert sink.next_step == 6
    assert sink.recovery == ts.Recovery(6, (), 0)
    sink.close()
    contracts.check_run(tmp_path / "run", 6)
