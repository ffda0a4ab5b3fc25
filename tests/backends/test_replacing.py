"""A run or a file that gives way to another: killed at any durable call, one of the two is whole, or named."""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import trajectory_store as ts
from tests.harness import contracts
from tests.harness.contracts import contents
from tests.harness.faulty_files import FileSystem, Left, Tape, lay_out
from trajectory_store import files
from trajectory_store.errors import RunExistsError, RunNotFoundError

OLD_STEPS, NEW_STEPS = 7, 3
Swap = Callable[[files.Disk], files.Disk]


def crashes(tape: Tape) -> Iterator[Left]:
    """What is left at every call of a tape, each once: by the death of the process, and by the loss of power."""
    system, seen = tape.start, set()
    for n, call in enumerate([*tape.calls, None]):
        for left in (system.left(), system.stored(), system.torn(random.Random(n))):
            if (state := frozenset(left.items())) not in seen:
                seen.add(state)
                yield left
        if call is not None:
            system.do(call)


@pytest.fixture
def taped(tmp_path: Path, swap_disk: Swap) -> Callable[[Callable[[Path], None], Callable[[Path], None]], Tape]:
    """Prepares a folder, then writes down the durable calls of some work in it."""

    def tape_of(prepare: Callable[[Path], None], work: Callable[[Path], None]) -> Tape:
        root = tmp_path / "taped"
        root.mkdir()
        swap_disk(contracts.NoSync())
        prepare(root)
        tape = Tape(root)
        swap_disk(tape)
        work(root)
        swap_disk(contracts.NoSync())
        return tape

    return tape_of


def replace(path: Path, backend: str) -> None:
    """Overwrite whatever is at a path with a shorter recording."""
    contracts.record(path, backend, stop=NEW_STEPS, overwrite=True)


def assert_one_run_is_whole(path: Path, backend: str, old: dict[str, bytes]) -> str:
    """The old run is at its path, or the new one, or errors say where the old one is; returns which."""
    if path.exists():
        if contents(path) == old:
            return "old"
        assert {finding.kind for finding in ts.check(path)} <= {"torn"}
        contracts.resume(path, backend).close()
        with ts.open(path) as run:
            contracts.assert_prefix(run, contracts.recorded_steps(run))
            assert len(run.steps) <= NEW_STEPS
        if not list(path.parent.glob(".run.*.replaced")):
            return "new"
        replace(path, backend)
        assert not list(path.parent.glob(".run.*.replaced"))
        return "new, the old one beside it"
    (aside,) = path.parent.glob(".run.*.replaced")
    for call in (ts.open, ts.resume, lambda where: next(ts.check(where)), ts.repair):
        with pytest.raises(RunNotFoundError, match=f"left the run as {aside.name} beside it; rename that back"):
            call(path)
    with pytest.raises(RunExistsError, match=f"{aside.name} beside it; rename that back, or pass overwrite=True"):
        contracts.create(path, backend)
    aside.rename(path)
    assert contents(path) == old
    path.rename(aside)
    replace(path, backend)
    contracts.check_run(path, NEW_STEPS)
    assert not list(path.parent.glob(".run.*.replaced"))
    return "aside"


def test_an_overwrite_that_is_killed_leaves_one_run_whole(
    backend: str, taped: Callable[..., Tape], tmp_path: Path
) -> None:
    """At every durable call of it: the old run or the new one, or a sentence that says where the old one is."""
    tape = taped(
        lambda root: contracts.record(root / "run", backend, stop=OLD_STEPS),
        lambda root: replace(root / "run", backend),
    )
    old = {path.removeprefix("run/"): data for path, data in FileSystem.left(tape.start).items() if data is not None}
    found = []
    for left in crashes(tape):
        root = tmp_path / "left"
        lay_out(left, root)
        found.append(assert_one_run_is_whole(root / "run", backend, old))
        shutil.rmtree(root)
    assert {"old", "new", "new, the old one beside it", "aside"} == set(found)


def test_what_is_called_replaced_is_whole(backend: str, tmp_path: Path, swap_disk: Swap) -> None:
    """Killed while the old run is removed: what remains of it is no run to be renamed back."""

    class Killed(BaseException):
        pass

    class DiesRemoving(contracts.NoSync):
        def remove_tree(self, path: Path) -> None:
            (path / "manifest.json").unlink()
            raise Killed

    contracts.record(tmp_path / "run", backend, stop=OLD_STEPS)
    swap_disk(DiesRemoving())
    with pytest.raises(Killed):
        replace(tmp_path / "run", backend)
    swap_disk(contracts.NoSync())

    assert not list(tmp_path.glob("*.replaced"))
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    contracts.create(tmp_path / "run", backend).close()


@pytest.mark.parametrize("is_there", [False, True], ids=["new", "over another"])
def test_an_export_that_is_killed_leaves_no_half_file(
    backend: str, is_there: bool, taped: Callable[..., Tape], tmp_path: Path
) -> None:
    """At every durable call: nothing at the path, or what was there, or all of the new file."""
    run = contracts.record(tmp_path / "run", backend)

    def prepare(root: Path) -> None:
        if is_there:
            (root / "out.safetensors").write_bytes(b"the one before")

    tape = taped(prepare, lambda root: ts.export_safetensors(run, root / "out.safetensors", overwrite=True))

    whole = (tape.root / "out.safetensors").read_bytes()
    found = {left.get("out.safetensors") for left in crashes(tape)}
    assert {b"the one before" if is_there else None, whole} == found


def test_only_folders_that_an_overwrite_moved_are_removed(backend: str, tmp_path: Path) -> None:
    """Not a file or a link of such a name, nor what lies beside another path."""
    contracts.record(tmp_path / "run", backend, stop=OLD_STEPS)
    (tmp_path / "thesis").mkdir()
    (tmp_path / ".run.0123abcd.replaced").symlink_to(tmp_path / "thesis")
    for name in (".run.1234abcd.replaced", ".run.replaced", ".other.1234abcd.replaced", ".notes.partial"):
        (tmp_path / name).write_text("mine")
    (tmp_path / ".run.abcd1234.replaced").mkdir()
    before = set(tmp_path.iterdir()) - {tmp_path / ".run.abcd1234.replaced"}

    replace(tmp_path / "run", backend)

    assert before == set(tmp_path.iterdir())
    contracts.check_run(tmp_path / "run", NEW_STEPS)
