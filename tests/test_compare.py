"""A comparison counts every differing bit pattern where it is, and knows a prefix from a difference."""

import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import trajectory_store as ts
from tests.harness import contracts
from trajectory_store.errors import DamageError, MalformedFileError, RunNotFoundError, SeriesNotFoundError

pytestmark = pytest.mark.usefixtures("no_sync")

EQUAL, A_IS_PREFIX, B_IS_PREFIX = "equal", "a is a prefix of b", "b is a prefix of a"
DIFFERENT, OVERLAP, DISJOINT = "different", "equal where both recorded", "nothing in common"


def record(path: Path, arrays: Mapping[str, np.ndarray], **options: Any) -> Path:
    """A run of whole series, recorded at every step; uint16 arrays as bfloat16."""
    series = {
        name: ts.Series(array.shape[1:], "bfloat16" if array.dtype == np.uint16 else array.dtype.name)
        for name, array in arrays.items()
    }
    steps = len(next(iter(arrays.values())))
    with ts.create(path, series, **{"steps": steps, "block_steps": 4, **options}) as sink:
        for step in range(steps):
            sink.append(step, **{name: array[step] for name, array in arrays.items()})
    return path


def small(steps: int = 10) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    every = rng.integers(0, 1 << 16, (50, 5, 3)).astype(np.uint16)
    return {"W": every[:steps], "loss": rng.standard_normal(50).astype(np.float32)[:steps]}


def test_a_run_is_identical_to_its_exports(tmp_path: Path, backend: str) -> None:
    """As uint16, as bfloat16 and widened: the same bits, sparse series included, whichever is first."""
    run = contracts.record(tmp_path / "run", backend)
    for number, options in enumerate([{}, {"dtype": "bfloat16"}, {"widen": {"W"}}]):
        exported = ts.export_safetensors(run, tmp_path / str(number), **options)
        for a, b in ((run, exported), (exported, run)):
            found = ts.compare(a, b)
            assert (found.identical, found.relation, found.first_step) == (True, EQUAL, None)
            assert set(found.series) == set(contracts.SERIES)
            assert found.total == 11 * 15 + 11 + 4 * 4 + 3 * 2
            assert found.n_steps == contracts.STEPS


def test_both_backends_hold_identical_runs(tmp_path: Path) -> None:
    """Recorded, not only exported; opened runs stay open."""
    with (
        ts.open(contracts.record(tmp_path / "zarr", "zarr")) as a,
        ts.open(contracts.record(tmp_path / "memmap", "memmap")) as b,
    ):
        assert ts.compare(a, b).identical
        assert ts.compare(a, b).identical


@settings(max_examples=40, deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 4), st.integers(0, 2), st.integers(0, 65535)), max_size=6
    ),
    losses=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2**32 - 1)), max_size=3),
    block_steps=st.integers(1, 12),
)
def test_every_difference_is_counted_where_it_is(
    tmp_path_factory: pytest.TempPathFactory, changes: list[Any], losses: list[Any], block_steps: int
) -> None:
    """Against plain numpy over both arrays, any bits, blocks that do not align."""
    folder = tmp_path_factory.mktemp("c")
    a, b = small(), {name: array.copy() for name, array in small().items()}
    for step, token, dim, pattern in changes:
        b["W"][step, token, dim] = pattern
    for step, pattern in losses:
        b["loss"].view(np.uint32)[step] = pattern

    found = ts.compare(record(folder / "a", a), record(folder / "b", b, block_steps=block_steps))

    differs = a["W"] != b["W"]
    loss_differs = a["loss"].view(np.uint32) != b["loss"].view(np.uint32)
    per_step = differs.sum(axis=(1, 2)) + loss_differs
    assert {step: n for step, n in enumerate(per_step.tolist()) if n} == found.differing_per_step
    assert {"W": int(differs.sum()), "loss": int(loss_differs.sum())} == dict(found.differing_per_series)
    assert int(per_step.sum()) == found.differing
    assert a["W"].size + a["loss"].size == found.total
    assert found.identical == (not per_step.any()) == (found.relation == EQUAL)
    if found.first is not None:
        step = int(np.flatnonzero(per_step)[0])
        assert found.first_step == step
        name = "W" if differs[step].any() else "loss"
        x, y = (side[name].view(f"<u{side[name].itemsize}")[step] for side in (a, b))
        where = np.unravel_index(int(np.argmax(x != y)), x.shape) if x.ndim else ()
        expected = (name, tuple(int(i) for i in where), int(x[where]), int(y[where]))
        assert expected == (found.first.series, found.first.index, found.first.bits_a, found.first.bits_b)


@pytest.mark.parametrize(("left", "right"), [(0x0000, 0x8000), (0x7FC0, 0x7FC1), (0x7F80, 0x7FC0), (0x0001, 0x0000)])
def test_equal_values_with_other_bits_differ(tmp_path: Path, left: int, right: int) -> None:
    """−0 is not 0 and a NaN is its payload."""
    a, b = ({"W": np.full((3, 2), bits, np.uint16)} for bits in (left, right))

    found = ts.compare(record(tmp_path / "a", a), record(tmp_path / "b", b))

    assert (found.differing, found.first.bits_a, found.first.bits_b) == (6, left, right)
    assert ts.compare(tmp_path / "a", tmp_path / "a").identical


def test_a_shorter_run_is_a_prefix(tmp_path: Path) -> None:
    """Thimble 8 in Thimble 9: a first-class answer, in both orders, between runs and files."""
    short, long = record(tmp_path / "short", small(4)), record(tmp_path / "long", small(9))
    exported = ts.export_safetensors(short, tmp_path / "short.safetensors")
    for a in (short, exported):
        found = ts.compare(a, long)
        assert (found.relation, found.identical, found.n_steps, found.differing) == (A_IS_PREFIX, False, 4, 0)
        assert ts.compare(long, a).relation == B_IS_PREFIX


def test_a_prefix_with_other_series_is_told_apart(tmp_path: Path) -> None:
    """Series that only one has are named, and do not make what both have different."""
    eight = record(tmp_path / "8", {**small(4), "m": small(4)["W"]}, static={"ids": np.arange(3)})
    nine = record(tmp_path / "9", small(9), static={"mask": np.ones(3, bool)})

    found = ts.compare(eight, nine)

    assert (found.relation, found.only_in_a, found.only_in_b) == (A_IS_PREFIX, ("m", "ids"), ("mask",))
    assert not found.identical
    only = ts.compare(eight, record(tmp_path / "same", small(4)), series=["W", "loss"])
    assert only.identical


def test_a_difference_after_the_shorter_ones_end_is_none(tmp_path: Path) -> None:
    """Only steps that both recorded are compared, and a difference there is no prefix."""
    changed = small(9)
    changed["W"] = changed["W"].copy()
    changed["W"][3, 1, 1] ^= 1
    short, long = record(tmp_path / "short", small(4)), record(tmp_path / "long", changed)

    assert ts.compare(short, long).relation == DIFFERENT
    assert ts.compare(record(tmp_path / "shorter", small(3)), long).relation == A_IS_PREFIX


def test_runs_at_other_steps_are_equal_where_both_recorded(tmp_path: Path) -> None:
    """Every second step against every third: steps 0 and 6."""
    every = small(10)["W"]
    for name, stride in (("two", 2), ("three", 3)):
        with ts.create(tmp_path / name, {"W": ts.Series((5, 3), "bfloat16", steps=stride)}, steps=10) as sink:
            for step in range(0, 10, stride):
                sink.append(step, W=every[step])

    found = ts.compare(tmp_path / "two", tmp_path / "three")

    assert (found.relation, found.n_steps, found.total) == (OVERLAP, 2, 30)


def test_nothing_in_common_is_not_equal(tmp_path: Path) -> None:
    """Other series, or no steps."""
    a = record(tmp_path / "a", {"W": small()["W"]})
    b = record(tmp_path / "b", {"V": small()["W"]})
    with ts.create(tmp_path / "empty", {"W": ts.Series((5, 3), "bfloat16")}):
        pass

    assert (ts.compare(a, b).relation, ts.compare(a, b).identical) == (DISJOINT, False)
    assert (ts.compare(a, tmp_path / "empty").relation, ts.compare(a, tmp_path / "empty").n_steps) == (DISJOINT, 0)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (np.zeros((10, 5, 4), np.uint16), "(5, 4)"),
        (np.zeros((10, 5, 3), np.int16), "int16"),
        (np.zeros((10, 5, 3), np.float16), "float16"),
    ],
    ids=str,
)
def test_another_shape_or_dtype_is_reported_not_compared(tmp_path: Path, other: np.ndarray, what: str) -> None:
    """The rest is still compared."""
    a = record(tmp_path / "a", small())
    b = record(tmp_path / "b", {**small(), "W": other})

    found = ts.compare(a, b)

    assert (found.relation, found.series, list(found.incompatible)) == (DIFFERENT, ("loss",), ["W"])
    assert what in found.incompatible["W"]


def test_static_arrays_are_compared_bit_for_bit(tmp_path: Path) -> None:
    """A mask with one other token makes recordings different, without a differing step."""
    mask = np.arange(9) % 2 == 0
    bf16 = np.arange(4).astype(ml_dtypes.bfloat16)
    a = record(tmp_path / "a", small(), static={"mask": mask, "init": bf16})
    b = record(tmp_path / "b", small(), static={"mask": ~mask, "init": bf16.view(np.uint16)})

    found = ts.compare(a, b)

    assert (found.relation, found.static_differing, found.first_step) == (DIFFERENT, ("mask",), None)


def test_the_largest_loss_difference_has_its_step(tmp_path: Path) -> None:
    """As the notebook's verification reports it; a NaN on one side only is infinitely far."""
    a, b = small(), small()
    b["loss"] = a["loss"].copy()
    b["loss"][2] += np.float32(0.25)
    b["loss"][5] -= np.float32(0.5)
    a["loss"][7] = b["loss"][7] = np.nan
    first = record(tmp_path / "a", a)

    delta = ts.compare(first, record(tmp_path / "b", b)).deltas["loss"]
    assert (delta.step, pytest.approx(0.5, abs=1e-6)) == (5, delta.largest)

    b["loss"][8] = np.nan
    delta = ts.compare(first, record(tmp_path / "nan", b)).deltas["loss"]
    assert (delta.step, delta.largest) == (8, np.inf)
    assert ts.compare(first, first).deltas["loss"].largest == 0


def test_two_files_are_compared_as_they_are(tmp_path: Path) -> None:
    """No run says which of their tensors are series: those as long as loss; the rest as static arrays."""
    tensors = {"W": small()["W"], "loss": small()["loss"], "late": np.arange(9 * 4, dtype=np.int32).reshape(9, 4)}
    save_file(tensors, tmp_path / "a")
    save_file({**tensors, "late": tensors["late"][::-1].copy()}, tmp_path / "b")

    assert ts.compare(tmp_path / "a", tmp_path / "a").identical
    found = ts.compare(tmp_path / "a", tmp_path / "b")
    assert (found.relation, found.static_differing, set(found.series)) == (DIFFERENT, ("late",), {"W", "loss"})


def test_a_steps_slice_is_not_mistaken_for_the_run(tmp_path: Path) -> None:
    """A file has no step numbers: its row 0 is taken for step 0, and so it differs."""
    run = record(tmp_path / "run", small())
    part = ts.export_safetensors(run, tmp_path / "part", steps=slice(2, 6))

    assert ts.compare(run, part).relation == DIFFERENT


def test_errors_are_ours(tmp_path: Path, backend: str) -> None:
    """A missing side, a broken file, an unknown series, damaged rows."""
    run = contracts.record(tmp_path / "run", backend)
    (tmp_path / "broken").write_bytes(b"\xff" * 100)

    with pytest.raises(RunNotFoundError):
        ts.compare(run, tmp_path / "nothing")
    with pytest.raises(MalformedFileError):
        ts.compare(tmp_path / "broken", run)
    with pytest.raises(SeriesNotFoundError, match="'V'"):
        ts.compare(run, run, series={"W", "V"})
    path = run / "W/c/1/0/0" if backend == "zarr" else run / "frames.safetensors"
    content = bytearray(path.read_bytes())
    content[20 if backend == "zarr" else content.find(contracts.bits(contracts.values(5)["W"]))] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamageError):
        ts.compare(run, run)


def test_progress_counts_what_is_compared(tmp_path: Path) -> None:
    """Bytes of both sides' common rows, one side."""
    seen: list[tuple[int, int]] = []
    run = record(tmp_path / "run", small())

    ts.compare(run, run, progress=lambda *at: seen.append(at))

    n_bytes = 10 * 15 * 2 + 10 * 4
    assert [(0, n_bytes), (n_bytes, n_bytes)] == [seen[0], seen[-1]]


def test_memory_is_bounded_by_a_block(tmp_path: Path) -> None:
    """Two recordings of 400 MB are compared in the room of their caches and a few pieces."""
    row = np.zeros((4096, 64), np.uint16)
    with ts.create(tmp_path / "a", {"W": ts.Series(row.shape, "bfloat16")}, block_steps=64) as sink:
        for step in range(800):
            row[step % 4096] = step
            sink.append(step, W=row)
    ts.export_safetensors(tmp_path / "a", tmp_path / "b")
    tracemalloc.start()
    try:
        assert ts.compare(tmp_path / "a", tmp_path / "b").identical
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 300e6
