"""What is accepted at the beginning can end: limits are met before the first step, or before anything suffers."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trajectory_store as ts
from tests.harness import contracts
from trajectory_store.backends import growth, manifest
from trajectory_store.errors import UsageError
from trajectory_store.series_spec import MAX_STEPS
from trajectory_store.spec import MAX_SERIES

pytestmark = pytest.mark.usefixtures("no_sync")

SERIES = {"x": ts.Series((), "float32"), "y": ts.Series((3,), "float16", steps=2)}


def append(sink: Any, step: int) -> None:
    sink.append(step, **{"x": float(step), **({"y": np.full(3, step, np.float16)} if step % 2 == 0 else {})})


def assert_whole(path: Path, n_steps: int) -> None:
    """The run holds so many steps, each with its own row, and nothing is wrong with it."""
    with ts.open(path) as run:
        assert run["x"][...].tolist() == list(range(n_steps))
        assert run["y"][:, 0].tolist() == list(range(0, n_steps, 2))
    assert list(ts.check(path)) == []


@pytest.mark.parametrize("block_steps", [1, 3])
def test_attrs_that_are_accepted_leave_room(block_steps: int, backend: str, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """The largest attrs that `create` takes; every step is sealed, resumed and read."""
    monkeypatch.setattr(growth, "MAX_DECLARED_BYTES", 3000)
    monkeypatch.setattr(growth, "MAX_BYTES", 6000)
    monkeypatch.setattr(manifest, "MAX_BYTES", 6000)

    def create(n: int) -> Any:
        return ts.create(tmp_path / "run", SERIES, steps=40, block_steps=block_steps, backend=backend,
                         attrs={"t": "a" * n}, overwrite=True)  # fmt: skip

    accepted, refused = 0, 3000
    while refused - accepted > 1:
        n = (accepted + refused) // 2
        try:
            create(n).close()
            accepted = n
        except UsageError as error:
            assert "above the limit" in str(error)  # noqa: PT017
            refused = n
    with create(accepted) as sink:
        for step in range(10):
            append(sink, step)
    with ts.resume(tmp_path / "run") as sink:
        for step in range(10, 40):
            append(sink, step)
            sink.flush()
    assert_whole(tmp_path / "run", 40)


@pytest.mark.parametrize("block_steps", [1, 4])
def test_a_run_of_unknown_length_ends_whole(block_steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no more blocks fit the next step is refused, before anything is written; what is recorded goes on."""
    monkeypatch.setattr(growth, "MAX_BYTES", 2500)
    monkeypatch.setattr(manifest, "MAX_BYTES", 2500)
    path, step = tmp_path / "run", 0
    with ts.create(path, SERIES, block_steps=block_steps, attrs={"t": "a" * 500}) as sink:
        while growth.room_until(manifest.load(path)) > step:
            append(sink, step)
            step += 1
        with pytest.raises(UsageError, match="no room for the blocks from step"):
            append(sink, step)
        assert sink.next_step == step
        assert sink.flush() == step - 1
        with pytest.raises(UsageError, match="what is recorded stays"):
            append(sink, step)
    assert step > 10
    assert_whole(path, step)
    with ts.resume(path) as sink, pytest.raises(UsageError, match="no room"):
        append(sink, step)
    assert_whole(path, step)


def test_the_bound_of_a_manifest_is_close(tmp_path: Path) -> None:
    """It is never less than what the file takes, and not much more."""
    path = tmp_path / "run"
    with ts.create(path, SERIES, steps=100, block_steps=1) as sink:
        for step in range(100):
            append(sink, step)
    loaded = manifest.load(path)
    bound = growth._declared_bytes(loaded) + growth._block_bytes(loaded, 100)
    assert loaded.file_bytes == (path / "manifest.json").stat().st_size
    assert loaded.file_bytes <= bound <= loaded.file_bytes + 100 * 2 * 4 + 20


def test_room_ends_at_a_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every step before it fits, and the next one does not."""
    ts.create(tmp_path / "run", SERIES, block_steps=3).close()
    loaded = manifest.load(tmp_path / "run")
    for limit in range(1000, 2000, 37):
        monkeypatch.setattr(growth, "MAX_BYTES", limit)
        until = growth.room_until(loaded)
        own = growth._declared_bytes(loaded)
        assert own + growth._block_bytes(loaded, until) <= limit < own + growth._block_bytes(loaded, until + 1)


@pytest.mark.parametrize(
    ("series", "options", "words"),
    [
        ({"x": ts.Series((), "float32")}, {"steps": 10**9, "block_steps": 1}, "larger block_steps"),
        ({"x": ts.Series((2**20,), "float32")}, {"steps": MAX_STEPS, "backend": "memmap"}, "one file"),
        (dict.fromkeys((f"x{n}" for n in range(MAX_SERIES + 1)), ts.Series((), "bool")), {}, "stack some"),
    ],
)
def test_what_could_not_end_is_refused(series: Any, options: Any, words: str, tmp_path: Path) -> None:
    """At the beginning, in one sentence, and nothing is left."""
    with pytest.raises(UsageError, match=words):
        ts.create(tmp_path / "run", series, **options)
    assert list(tmp_path.iterdir()) == []


def test_attrs_are_not_nested_deeper_than_can_be_read_anywhere(tmp_path: Path) -> None:
    """What fits where a run is created fits where it is sealed, opened and checked, however deep the caller is."""

    def nested(depth: int) -> dict[str, Any]:
        value: Any = 1
        for n in range(depth):
            value = [value] if n % 2 else {"a": value}
        return {"a": value}

    def deep(n: int, what: Any) -> Any:
        return what() if n == 0 else deep(n - 1, what)

    with pytest.raises(UsageError, match="deep"):
        ts.create(tmp_path / "run", SERIES, attrs=nested(101))
    with ts.create(tmp_path / "run", SERIES, block_steps=1, attrs=nested(99)) as sink:
        deep(300, lambda: append(sink, 0))
    deep(300, lambda: ts.resume(tmp_path / "run").close())
    assert deep(300, lambda: list(ts.check(tmp_path / "run"))) == []
    assert deep(300, lambda: ts.open(tmp_path / "run").attrs) == nested(99)


def test_a_path_that_blocks_would_outgrow(tmp_path: Path) -> None:
    """The files of blocks have longer paths than those of a new run: that is known before the first step."""
    series = {"x" * 50: ts.Series((1,) * 30, "float32")}
    deep = tmp_path
    while len(str(deep)) < 3700:
        deep = deep / ("d" * 100)
    deep.mkdir(parents=True)
    accepted, refused = 20, 220
    while refused - accepted > 1:
        n = (accepted + refused) // 2
        try:
            ts.create(deep / ("r" * n), series, steps=1000, block_steps=1).close()
            accepted = n
        except UsageError as error:
            assert "shorter path" in str(error)  # noqa: PT017
            refused = n
    path = deep / ("r" * accepted)
    with ts.resume(path) as sink:
        for step in range(12):
            sink.append(step, **{"x" * 50: np.zeros((1,) * 30, np.float32)})
    assert list(ts.check(path)) == []


def test_steps_of_more_digits_than_a_segments_name(tmp_path: Path) -> None:
    """A frame of step 10¹² and more is found in the journal after a crash."""
    steps = (3, 10**11, 10**12, 10**12 + 1, 2**48)
    path = tmp_path / "run"
    sink = ts.create(path, {"x": ts.Series((), "float64", steps=steps)}, block_steps=8)
    for step in steps:
        sink.append(step, x=float(step))
        sink.flush()
    contracts.abandon(sink)
    with ts.open(path) as run:
        assert run["x"][...].tolist() == list(map(float, steps))
    assert list(ts.check(path)) == []
    ts.resume(path).close()
    with ts.open(path) as run:
        assert run["x"].steps.tolist() == list(steps)


def test_the_last_step_there_can_be(tmp_path: Path) -> None:
    """Of a series that is due at every 2⁴⁸-th step; the one after it is refused."""
    path = tmp_path / "run"
    with ts.create(path, {"x": ts.Series((), "float64", steps=MAX_STEPS)}) as sink:
        for step in (0, MAX_STEPS):
            sink.append(step, x=float(step))
        with pytest.raises(UsageError):
            sink.append(2 * MAX_STEPS, x=0.0)
    with ts.open(path) as run:
        assert run["x"][...].tolist() == [0.0, float(MAX_STEPS)]
    assert list(ts.check(path)) == []


def test_reads_that_give_less_than_was_asked_for(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call of the system gives 2 GiB at most, or what a network file system likes; files may be larger."""
    path = contracts.record(tmp_path / "run", backend, stop=6, close=False)
    pread = os.pread

    read = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, size: read(descriptor, min(size, 7)))
    monkeypatch.setattr(os, "pread", lambda descriptor, size, offset: pread(descriptor, min(size, 7), offset))
    contracts.check_run(path, 6)
    ts.resume(path).close()
    contracts.check_run(path, 6)
