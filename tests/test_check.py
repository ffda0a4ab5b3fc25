"""Damage is found, told apart from what a crash leaves, and never read as data."""

import itertools
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import trajectory_store as ts
from tests.harness import contracts
from tests.harness.contracts import BLOCK_STEPS, STEPS, bits, record, values
from trajectory_store.commands.check import command
from trajectory_store.errors import DamageError, RunLockedError, RunNotFoundError, TrajectoryError
from trajectory_store.journal.segment import segment_path
from trajectory_store.journal.tail import scanned_segments

pytestmark = pytest.mark.usefixtures("no_sync")

STATES = ("closed", "closed early", "left in the journal", "portable")


def make(path: Path, backend: str, state: str) -> Path:
    """A small run in one of the states that runs are found in; every byte of it but the lock's is a promise."""
    if state == "left in the journal":  # flushed, so that no byte of the journal is one that a crash may have torn
        contracts.record(path, backend, stop=4, close=False)
        sink = contracts.resume(path, backend)  # a journal that was opened anew has no bytes of an earlier segment
        for step in range(4, 7):
            sink.append(step, **values(step))
        sink.flush()
        contracts.abandon(sink)
        return path
    codec = {"codec": "portable"} if state == "portable" else {}
    return record(path, backend, stop=6 if state == "closed early" else STEPS, **codec)


@pytest.fixture(params=STATES)
def state(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_sound_run_has_no_findings(backend: str, state: str, tmp_path: Path) -> None:
    """Whatever state it is in."""
    assert list(ts.check(make(tmp_path / "run", backend, state))) == []


def flips(path: Path, stride: int) -> Iterator[tuple[Path, int, int]]:
    """Every `stride`-th byte of a run's files, with a bit to flip in it."""
    chance = random.Random(stride)
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name != "lock"):
        for offset in range(chance.randrange(stride), file.stat().st_size, stride):
            yield file, offset, 1 << chance.randrange(8)


@pytest.mark.parametrize("stride", [pytest.param(89, id="some"), pytest.param(1, id="every", marks=pytest.mark.long)])
def test_a_flipped_byte_is_found_and_never_read(backend: str, state: str, stride: int, tmp_path: Path) -> None:
    """A bit flipped anywhere: `check` finds it, and every read gives the right bits or one of our errors."""
    path = make(tmp_path / "run", backend, state)
    with ts.open(path) as run:
        n_steps = len(run.steps)
    is_data = recorded_bytes(path, backend)
    n_flipped = 0
    for file, offset, bit in flips(path, stride):
        if not is_data(file, offset):
            continue
        n_flipped += 1
        flip(file, offset, bit)
        assert list(ts.check(path)), f"bit {bit:#x} of byte {offset} of {file.name}"
        assert_right_or_error(path, n_steps)
        flip(file, offset, bit)
    assert n_flipped > 8
    contracts.check_run(path, n_steps)


def recorded_bytes(path: Path, backend: str):
    """Whether a byte is data: rows of steps that are not recorded yet are none."""
    if backend == "zarr":
        return lambda _file, _offset: True
    with ts.open(path) as run:
        rows = run.source.rows
        taken = [(t.offset, t.offset + t.n_bytes) for name, t in rows.tensors.items() if name not in run.series]
        taken.append((0, min(t.offset for t in rows.tensors.values())))
        for name in run.series:
            start = rows.tensors[name].offset
            taken.append((start, start + len(run[name]) * run.series[name].row_bytes))
    return lambda file, offset: file != rows.path or any(start <= offset < stop for start, stop in taken)


def flip(file: Path, offset: int, bit: int) -> None:
    data = bytearray(file.read_bytes())
    data[offset] ^= bit
    file.write_bytes(data)


def assert_right_or_error(path: Path, n_steps: int) -> int:
    """Every read gives the right bits or one of our errors; returns how many gave an error."""
    try:
        run = ts.open(path)
    except TrajectoryError:
        return 1
    n_errors = 0
    with run:
        assert len(run.steps) <= n_steps
        for name in run:
            for step in run[name].steps.tolist():
                try:
                    assert bits(values(step)[name]) == bits(run[name].bits.at_step(step))
                except DamageError:
                    n_errors += 1
        for name, array in contracts.STATIC.items():
            try:
                assert bits(array) == bits(run.static[name])
            except DamageError:
                n_errors += 1
    return n_errors


def test_damage_in_one_block_leaves_the_others_readable(tmp_path: Path) -> None:
    """A finding says the file, the series, the steps and the tokens; only reads that touch it fail."""
    path = record(tmp_path / "run", "zarr")
    block = path / "W" / "c" / "1" / "0" / "0"
    flip(block, 3, 1)

    (finding,) = ts.check(path)

    assert finding.kind == "block"
    assert finding.path == block
    assert finding.series == "W"
    assert finding.steps == range(4, 8)
    assert finding.tokens == range(5)
    with ts.open(path) as run:
        for step in range(STEPS):
            if step in finding.steps:
                with pytest.raises(DamageError, match=r"W/c/1/0/0, steps 4 to 7 of series 'W'"):
                    run["W"][step]
            else:
                assert bits(values(step)["W"]) == bits(run["W"][step])
            assert bits(values(step)["loss"]) == bits(run["loss"][step])


def test_damage_in_one_row_leaves_the_others_readable(tmp_path: Path) -> None:
    """The same for the memmap backend, whose unit is the row."""
    path = record(tmp_path / "run", "memmap")
    with ts.open(path) as run:
        offset = run.source.rows.tensors["W"].offset + 5 * run.series["W"].row_bytes
    flip(path / "frames.safetensors", offset, 1)

    (finding,) = ts.check(path)

    assert (finding.kind, finding.series, finding.steps) == ("row", "W", range(5, 6))
    with ts.open(path) as run:
        with pytest.raises(DamageError, match=r"frames.safetensors: step 5 of series 'W'"):
            run["W"][5]
        assert bits(values(6)["W"]) == bits(run["W"][6])


def test_a_damaged_commit_leaves_the_other_steps_readable(tmp_path: Path) -> None:
    """A flipped byte in the log of commits costs its step, not those behind it; no resume cuts them off."""
    path = record(tmp_path / "run", "memmap", stop=7)
    flip(path / "commits", 70, 1)

    findings = list(ts.check(path))

    assert [finding.kind for finding in findings] == ["commits", "commits"]
    assert findings[0].steps == range(1, 2)
    with ts.open(path) as run:
        assert len(run.steps) == 7
        with pytest.raises(DamageError, match=r"commit of step 1"):
            run["W"][1]
        assert bits(values(2)["W"]) == bits(run["W"][2])
    with pytest.raises(DamageError, match="step 1 is damaged"):
        ts.resume(path)


@pytest.mark.parametrize("stop", [4, 7, STEPS])
def test_a_log_of_commits_that_is_cut_short_is_found(stop: int, tmp_path: Path) -> None:
    """A closed run knows how many steps it has, so half a copy of its log is not taken for a shorter run."""
    path = record(tmp_path / "run", "memmap", stop=stop)
    log = path / "commits"
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])

    assert {"commits"} <= {finding.kind for finding in ts.check(path)}
    with ts.open(path) as run:
        assert len(run.steps) == stop
        with pytest.raises(DamageError):
            run["W"][stop - 1]
        assert bits(values(0)["W"]) == bits(run["W"][0])


def test_damage_of_a_synced_frame_is_not_torn(backend: str, tmp_path: Path) -> None:
    """The last frame that was flushed: resume and repair refuse to cut it, check names its step."""
    for damage in range(2, 40, 5):
        path = make(tmp_path / f"run{damage}", backend, "left in the journal")
        file = path / "commits" if backend == "memmap" else segment_path(path / "journal", 4)
        flip(file, file.stat().st_size - 28 - damage, 4)

        findings = list(ts.check(path))

        assert findings
        assert "torn" not in {finding.kind for finding in findings}
        assert any(finding.steps == range(6, 7) for finding in findings)
        for go_on in (ts.resume, ts.repair):
            with pytest.raises(DamageError, match="step 6"):
                go_on(path)


def test_a_block_from_an_older_copy_is_found_and_not_read(tmp_path: Path) -> None:
    """Half of a folder copied: a block file that is sound, and not the one that the manifest commits."""
    path = record(tmp_path / "run", "zarr", stop=6)
    older = {p: p.read_bytes() for p in path.rglob("c/1/*") if p.is_file()} | {
        p: p.read_bytes() for p in path.rglob("c/1/0/0") if p.is_file()
    }
    sink = contracts.resume(path, "zarr")
    for step in range(6, 8):
        sink.append(step, **values(step))
    sink.close()
    block = path / "W" / "c" / "1" / "0" / "0"
    block.write_bytes(older[block])

    (finding,) = ts.check(path)

    assert (finding.kind, finding.series, finding.steps) == ("block", "W", range(4, 8))
    with ts.open(path) as run:
        with pytest.raises(DamageError, match="not the file that the manifest"):
            run["W"][4]
        assert bits(values(4)["loss"]) == bits(run["loss"][4])


def test_missing_files_are_found(backend: str, tmp_path: Path) -> None:
    """Each file in turn."""
    path = record(tmp_path / "run", backend)
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name not in ("lock", "manifest.json")):
        content = file.read_bytes()
        file.unlink()
        assert list(ts.check(path)), file
        assert_right_or_error(path, STEPS)
        file.write_bytes(content)
    (path / "manifest.json").unlink()
    with pytest.raises(RunNotFoundError, match="not a run"):
        list(ts.check(path))


def test_unknown_files_are_reported(backend: str, tmp_path: Path) -> None:
    """What is no part of a run is named, and harms nothing."""
    path = record(tmp_path / "run", backend)
    (path / "notes.txt").write_text("mine")
    (path / "extra").mkdir()
    (path / "extra" / "9").write_text("mine")

    assert sorted((f.kind, f.path.name) for f in ts.check(path)) == [("unknown", "9"), ("unknown", "notes.txt")]
    contracts.resume(path, backend).close()
    assert (path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("mend", [ts.repair, lambda path: ts.resume(path).close()], ids=["repair", "resume"])
def test_a_neighbours_unfinished_files_stay(backend: str, tmp_path: Path, mend: Callable[[Path], object]) -> None:
    """Only a write of a file of the run is the run's, and only where the run has that file; a link never is."""
    path = record(tmp_path / "run", backend)
    (tmp_path / "thesis").write_text("mine")
    ours = {".manifest.json.0123abcd.partial"}
    ours |= {"W/c/2/0/.0.0123abcd.partial", "static/.zarr.json.0123abcd.partial"} if backend == "zarr" else set()
    ours |= {".frames.safetensors.0123abcd.partial", ".commits.0123abcd.partial"} if backend == "memmap" else set()
    others = {
        ".notes.partial",
        ".x.1234abcd.partial",
        ".manifest.json.1234ABCD.partial",
        ".journal.1234abcd.partial",
        "W/.manifest.json.1234abcd.partial",
        "extra/.manifest.json.1234abcd.partial",
        "extra/.zarr.json.1234abcd.partial",
        "W/c/900/0/.0.1234abcd.partial",
    }
    for name in ours | others:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("mine")
    link = ".manifest.json.abcd1234.partial"
    (path / link).symlink_to(tmp_path / "thesis")
    expected = {("torn", name) for name in ours} | {("unknown", name) for name in {*others, link}}
    assert {(f.kind, str(f.path.relative_to(path))) for f in ts.check(path)} == expected

    mend(path)

    assert [name for name in ours if (path / name).exists()] == []
    assert {(f.kind, str(f.path.relative_to(path))) for f in ts.check(path)} == {
        ("unknown", n) for n in {*others, link}
    }
    assert (path / link).read_text() == "mine"


def torn_run(path: Path, backend: str) -> Path:
    """A run whose last frame is torn and that has the file of a write that did not finish."""
    make(path, backend, "left in the journal")
    sink = contracts.resume(path, backend)
    sink.append(7, **values(7)) if BLOCK_STEPS > 8 else None
    contracts.abandon(sink)
    file = path / "commits" if backend == "memmap" else segment_path(path / "journal", 4)
    with file.open("ab") as end:
        end.write(b"TJr1" + bytes(10))
    (path / ".manifest.json.0123abcd.partial").write_bytes(b"half")
    return path


def test_repair_cuts_a_torn_tail_and_nothing_else(backend: str, tmp_path: Path) -> None:
    """It says what is kept and dropped, and checks its own work."""
    path = torn_run(tmp_path / "run", backend)
    before = contracts.contents(make(tmp_path / "sound", backend, "left in the journal"))
    assert [finding.kind for finding in ts.check(path)] == ["torn", "torn"]

    done = ts.repair(path)

    assert done.findings == ()
    assert done.recovery == ts.Recovery(7, (), 14)
    assert [path / ".manifest.json.0123abcd.partial"] == list(done.removed)
    after = contracts.contents(path)
    assert before == after


def test_repair_lists_every_step_that_is_lost(backend: str, tmp_path: Path) -> None:
    """Frames that were never synced and lie behind a flaw go with it, and are named."""
    sink = contracts.create(tmp_path / "run", backend)
    for step in range(7):
        sink.append(step, **values(step))
        if step == 4:
            sink.flush()
    contracts.abandon(sink)
    path = tmp_path / "run"
    if backend == "memmap":
        with ts.open(path) as run:
            file, offset = path / "frames.safetensors", run.source.rows.tensors["loss"].offset + 5 * 4
    else:
        file = segment_path(path / "journal", 4)
        with scanned_segments(path / "journal", run_spec(path), BLOCK_STEPS) as segments:
            entry = segments[0].entries[1]
            assert entry.step == 5
            offset = entry.offset + entry.head.n_bytes - 1
    flip(file, offset, 1)

    (finding,) = ts.check(path)
    done = ts.repair(path)

    assert finding.kind == "torn"
    assert set(finding.steps or ()) == {5, 6}
    assert done.recovery.kept_until == 5
    assert set(done.recovery.dropped_steps) == {5, 6}
    assert done.findings == ()
    assert "5, 6" in str(done.recovery)
    contracts.check_run(path, 5)


def run_spec(path: Path):
    with ts.open(path) as run:
        return run.source.spec


def test_a_run_that_is_written_is_checked_without_false_findings(backend: str, tmp_path: Path) -> None:
    """At every step of a recording; repair leaves it alone."""
    sink = contracts.create(tmp_path / "run", backend)
    for step in range(STEPS):
        assert list(ts.check(tmp_path / "run")) == []
        sink.append(step, **values(step))
    with pytest.raises(RunLockedError):
        ts.repair(tmp_path / "run")
    sink.close()


def test_progress_ends_with_every_byte(backend: str, tmp_path: Path) -> None:
    """The callback is told of bytes done and bytes in all."""
    path = record(tmp_path / "run", backend)
    calls: list[tuple[int, int]] = []

    list(ts.check(path, progress=lambda done, total: calls.append((done, total))))

    assert calls[0][0] == 0
    assert all(a[0] <= b[0] <= b[1] for a, b in itertools.pairwise(calls))
    assert calls[-1][0] == calls[-1][1]


class TestCommand:
    def test_sound(self, backend: str, tmp_path: Path) -> None:
        path = record(tmp_path / "run", backend)
        result = CliRunner().invoke(command, [str(path)])
        assert (result.exit_code, result.output.strip()) == (0, "Sound")

    def test_damage(self, backend: str, tmp_path: Path) -> None:
        path = record(tmp_path / "run", backend)
        file = path / ("W/c/1/0/0" if backend == "zarr" else "frames.safetensors")
        flip(file, file.stat().st_size // 2, 1)
        result = CliRunner().invoke(command, [str(path), "--json"])
        assert result.exit_code == 1
        found = json.loads(result.output)
        assert not found["sound"]
        assert str(file) == found["findings"][0]["path"]
        result = CliRunner().invoke(command, [str(path)])
        assert result.exit_code == 1
        assert str(file) in result.output

    def test_repair(self, backend: str, tmp_path: Path) -> None:
        path = torn_run(tmp_path / "run", backend)
        result = CliRunner().invoke(command, [str(path), "--repair"])
        assert result.exit_code == 0, result.output
        assert "14 torn bytes cut" in result.output
        assert "Sound" in result.output


def test_findings_are_one_line_each(backend: str, tmp_path: Path) -> None:
    """What the command prints is made for people and for grep."""
    path = record(tmp_path / "run", backend)
    shutil.rmtree(path / "static", ignore_errors=True)
    (path / "x").write_text("")
    for finding in ts.check(path):
        assert str(finding).startswith(finding.kind + ": " + str(path))
        assert "\n" not in str(finding)
        json.dumps(finding.to_json())


def test_a_finding_is_of_a_kind_that_there_is():
    """A misspelled kind would never be looked for."""
    with pytest.raises(ts.errors.UsageError, match="kind 'tron' is unknown; choose from 'manifest'"):
        ts.Finding("tron", Path("run"), "is torn")
