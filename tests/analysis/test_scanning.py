"""The pass itself: threads, executors, what it takes, and what it refuses."""

import concurrent.futures
import inspect
import tracemalloc

import numpy as np
import pytest

import trajectory_store as ts
from tests.harness import recordings
from trajectory_store import analysis
from trajectory_store.analysis import arrays
from trajectory_store.backends.memmap.source import MemmapSource
from trajectory_store.errors import DamageError, SeriesNotFoundError, UsageError


def all_results(recorded, **how):
    freeze, norms, still = analysis.scan(
        recorded, [analysis.FreezeOnset(), analysis.DisplacementNorms(), analysis.StillRuns()], **how
    )
    return freeze, norms.l1, norms.l2, norms.linf, still.movers, still.first_steps, still.lengths


def check_equal(results, expected):
    for found, wanted in zip(results, expected, strict=True):
        assert found.dtype == wanted.dtype
        assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("make", [recordings.walk, recordings.adversarial])
def test_threads_change_no_bit(tmp_path, make):
    """One, two and five threads, and an executor of two processes, give the same bytes."""
    run = recordings.record(tmp_path / "run", make())
    expected = all_results(run, threads=1)

    check_equal(all_results(run, threads=2), expected)
    check_equal(all_results(run, threads=5), expected)
    with concurrent.futures.ThreadPoolExecutor(3) as executor:
        check_equal(all_results(run, executor=executor), expected)


def test_a_run_its_series_a_sink_and_an_array_are_all_taken(tmp_path):
    """The same bits in four guises."""
    bits = recordings.walk()
    run = recordings.record(tmp_path / "run", bits)
    sink = ts.MemorySink(dict(run.series), steps=len(bits))
    for step, row in enumerate(bits):
        sink.append(step, W=row)
    expected = all_results(run)

    for recorded in (run["W"], run["W"].bits, sink, bits, bits.view(ts.bf16.BFLOAT16)):
        check_equal(all_results(recorded), expected)


def test_a_safetensors_file_of_bits_is_taken(tmp_path):
    """A file as the notebooks write it: W as U16."""
    from safetensors.numpy import save_file

    bits = recordings.walk()
    save_file({"W": bits, "loss": np.zeros(len(bits), np.float32)}, tmp_path / "t.safetensors")

    check_equal(all_results(ts.open(tmp_path / "t.safetensors")), all_results(bits))


def test_another_series_by_name(tmp_path):
    """`series` chooses which one is scanned."""
    bits = recordings.walk()
    other = np.ascontiguousarray(bits[::-1]).view(ts.bf16.BFLOAT16)
    run = recordings.record(tmp_path / "run", bits, others={"m": other})

    check_equal(all_results(run, series="m"), all_results(bits[::-1].copy()))


def test_wrong_use_says_what_is_needed(tmp_path):
    """No such series, a dtype without a lattice, too few axes, steps left out, no step at all: one sentence each."""
    series = {
        "W": ts.Series((4, 8), "bfloat16", steps=10),
        "f": ts.Series((4, 8), "float32"),
        "flat": ts.Series((4,), "bfloat16"),
    }
    with ts.create(tmp_path / "run", series, steps=21) as sink:
        for step in range(21):
            due = {"W": np.zeros((4, 8), np.uint16)} if step % 10 == 0 else {}
            sink.append(step, f=np.zeros((4, 8), np.float32), flat=np.zeros(4, np.uint16), **due)
    run = ts.open(tmp_path / "run")

    with pytest.raises(SeriesNotFoundError, match="no series 'V'; it has"):
        analysis.freeze_onset(run, series="V")
    with pytest.raises(UsageError, match="freeze onset needs bfloat16, or its bits as uint16, found float32"):
        analysis.freeze_onset(run, series="f")
    with pytest.raises(UsageError, match=r"displacement needs the axes \(step, token, dim\)"):
        analysis.displacement(run, series="flat")
    with pytest.raises(UsageError, match="freeze onset needs every step, found 3 steps from 0 to 20"):
        analysis.freeze_onset(run)
    with pytest.raises(UsageError, match="needs a run, a series of one, or an array, found list"):
        analysis.freeze_onset([1, 2])
    with pytest.raises(UsageError, match="threads=0"):
        analysis.freeze_onset(recordings.walk(), threads=0)


FUNCTIONS = [
    name
    for name, function in vars(analysis).items()
    if inspect.isfunction(function) and "options" in inspect.signature(function).parameters
]


def test_most_functions_are_looked_at():
    """The test below is about something."""
    assert {"cloud", "divergence", "freeze_onset", "lifecycles", "scan_one", "separation"} <= set(FUNCTIONS)
    assert len(FUNCTIONS) == 20


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_wrong_option_names_the_right_ones(name):
    """One sentence about the function that was called, not a TypeError about another."""
    function = getattr(analysis, name)
    own = [one.name for one in inspect.signature(function).parameters.values() if one.kind is one.KEYWORD_ONLY]
    known = ", ".join([*own, "threads", "executor", "progress"])

    with pytest.raises(UsageError, match=f"^{name} has no option 'thread'; it takes {known}$"):
        function(recordings.walk(), thread=2)


def test_one_analysis_alone():
    """`scan_one` is `scan` of one."""
    bits = recordings.walk()
    meter = []
    found = analysis.scan_one({"W": arrays.as_series(bits, "W")}, analysis.StillRuns(), threads=2)
    again = analysis.scan_one(bits, analysis.StillRuns(), progress=lambda done, total: meter.append((done, total)))

    assert found.movers.tolist() == again.movers.tolist() == analysis.stillness(bits).movers.tolist()
    assert meter[-1][0] == meter[-1][1] == bits.nbytes


def test_a_run_without_a_step_is_refused(tmp_path):
    """There is nothing to analyse yet."""
    with (
        ts.create(tmp_path / "run", {"W": ts.Series((4, 8), "bfloat16")}),
        ts.open(tmp_path / "run") as run,
        pytest.raises(UsageError, match="freeze onset needs at least one recorded step"),
    ):
        analysis.freeze_onset(run)


def test_a_run_that_is_being_written(tmp_path):
    """The steps that were there when it was opened, sealed blocks and tail, and after a refresh all of them."""
    bits = recordings.walk()
    with ts.create(tmp_path / "run", {"W": ts.Series(bits.shape[1:], "bfloat16")}, block_steps=7) as sink:
        for step in range(17):
            sink.append(step, W=bits[step])
        with ts.open(tmp_path / "run") as run:
            check_equal(all_results(run), all_results(bits[:17]))
            for step in range(17, 23):
                sink.append(step, W=bits[step])
            run.refresh()
            check_equal(all_results(run), all_results(bits))


def test_damage_is_reported_not_skipped(tmp_path):
    """A flipped byte of a sealed block ends the pass with the file's name."""
    recordings.record(tmp_path / "run", recordings.walk()).close()
    block = tmp_path / "run" / "W" / "c" / "1" / "0" / "0"
    data = bytearray(block.read_bytes())
    data[100] ^= 1
    block.write_bytes(data)

    with ts.open(tmp_path / "run") as run, pytest.raises(DamageError, match="W/c/1/0/0"):
        analysis.displacement(run)


def test_progress_is_reported(tmp_path):
    """Bytes done and in all, from none up to the last block."""
    bits = recordings.walk()
    reports = []
    with recordings.record(tmp_path / "run", bits) as run:
        analysis.scan(run, [analysis.FreezeOnset()], progress=lambda done, total: reports.append((done, total)))

    assert reports == [(min(rows, 23) * 150 * 128, bits.nbytes) for rows in (0, 7, 14, 21, 28)]


def test_memory_is_bounded_by_the_block(tmp_path, monkeypatch):
    """Five times the steps take no more memory at once; the other backend's reader has a cache of a fixed size."""
    peaks = []
    for n_blocks in (2, 10):
        bits = np.repeat(recordings.still(n_steps=1, n_tokens=128, dim=64), 16 * n_blocks, axis=0)
        bits[:, 0, 0] = np.arange(len(bits))
        path = tmp_path / str(n_blocks)
        recordings.record(path, bits, backend="memmap").close()
        monkeypatch.setattr(MemmapSource, "block_rows", lambda _source, _name: 16)
        with ts.open(path) as run:
            tracemalloc.start()
            analysis.scan(run, [analysis.FreezeOnset(), analysis.DisplacementNorms()], threads=1)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()

    assert peaks[1] < peaks[0] + 16 * 128 * 64 * 2 / 4  # a quarter of a block


def test_no_pass_holds_a_block(tmp_path, monkeypatch):
    """Also where a pass looks at each tile twice, and a block is larger than all that is computed from it."""
    bits = recordings.walk(n_steps=128, n_tokens=2048)
    recordings.record(tmp_path / "run", bits, backend="memmap").close()
    monkeypatch.setattr(MemmapSource, "block_rows", lambda _source, _name: 64)
    with ts.open(tmp_path / "run") as run:
        tracemalloc.start()
        analysis.scan(run, [analysis.FreezeOnset(), analysis.CloudOf()], threads=1)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert peak < 64 * bits[0].nbytes
