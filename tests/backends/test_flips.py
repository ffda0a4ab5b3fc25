"""Bytes of a recording of real size changed, one at a time: each is found, and none is read as data.

The folder of a recording in the variable TRAJECTORY_STORE_RECORDING is attacked as a copy, beside those made here.
"""

import contextlib
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import trajectory_store as ts
from tests.harness.contracts import bits
from trajectory_store import Finding
from trajectory_store.errors import DamageError, TrajectoryError

TOKENS, DIM = 1024, 64
STEPS = {"zarr": 700, "memmap": 100}
MADE = tuple(STEPS)
GIVEN = "TRAJECTORY_STORE_RECORDING"


def make(path: Path, backend: str) -> None:
    """Weights that all move at first and then fewer and fewer, several MB stored."""
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((TOKENS, DIM), np.float32).view(np.uint32) >> 16).astype(np.uint16)
    series = {"W": ts.Series(rows.shape, "bfloat16", dims=("token", "dim")), "loss": ts.Series((), "float32")}
    static = {"dead_indices": np.arange(TOKENS)}
    with ts.create(path, series, steps=STEPS[backend], backend=backend, static=static, durability="none") as sink:
        for step in range(STEPS[backend]):
            sink.append(step, W=rows, loss=np.float32(1 / (step + 1)))
            rows = rows + (rng.random(rows.shape) < 40 / (40 + step)) * rng.choice((-1, 1), DIM).astype(np.uint16)


@pytest.fixture(scope="module", params=["given", *MADE])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording that may be changed."""
    target = tmp_path_factory.mktemp("flips") / "run"
    if request.param in MADE:
        make(target, request.param)
        return target
    if GIVEN not in os.environ:
        pytest.skip(f"no recording is given in {GIVEN}")
    shutil.copytree(os.environ[GIVEN], target)
    try:
        with ts.open(target) as run:
            run["W"][0]
    except TrajectoryError as error:
        pytest.skip(f"the recording in {GIVEN} cannot be read by this version: {error}")
    return target


@contextlib.contextmanager
def changed(file: Path, offset: int, by: int) -> Iterator[None]:
    """One byte of a file is another one, in place, until the block ends."""
    with file.open("r+b", buffering=0) as handle:
        (byte,) = os.pread(handle.fileno(), 1, offset)
        os.pwrite(handle.fileno(), bytes([byte ^ by]), offset)
        try:
            yield
        finally:
            os.pwrite(handle.fileno(), bytes([byte]), offset)


def places(path: Path, n: int) -> Iterator[tuple[Path, int]]:
    """Random bytes of a run: every other one of all its bytes, the others each in a random file, small ones too."""
    chance = random.Random(n)
    paths = sorted(file for file in path.rglob("*") if file.is_file() and file.name != "lock")
    sizes = [file.stat().st_size for file in paths]
    for number in range(n):
        (file,) = chance.choices(paths, sizes if number % 2 else None)
        yield file, chance.randrange(file.stat().st_size)


Place = tuple[str, int, slice | int]
"""A series, a step, and some of its tokens where it has any."""


def places_to_read(findings: list[Finding], run: ts.Run, chance: random.Random) -> list[Place]:
    """What a finding says is lost, at one of its steps, and an entry anywhere in the run."""
    lost = [finding for finding in findings if finding.series in run.series and finding.steps]
    wanted = [(f.series, chance.choice(f.steps), slice(f.tokens.start, f.tokens.stop) if f.tokens else 0) for f in lost]
    return [*wanted, ("W", chance.randrange(len(run.steps)), chance.randrange(run.series["W"].shape[0]))]


def read(path: Path, place: Place) -> bytes | None:
    """The bits at a place, read by a new reader; None where that raises DamageError."""
    name, step, tokens = place
    try:
        with ts.open(path) as run:
            return bits(run[name].bits[(step, tokens)[: 1 + len(run.series[name].shape[:1])]])
    except DamageError:
        return None


def is_lost(place: Place, findings: list[Finding]) -> bool:
    """Whether a finding says that a place cannot be read."""
    return any(f.series in (None, place[0]) and (f.steps is None or place[1] in f.steps) for f in findings)


@pytest.mark.parametrize(
    "n", [pytest.param(20, id="some", marks=pytest.mark.slow), pytest.param(1500, id="many", marks=pytest.mark.long)]
)
def test_a_changed_byte_is_found_and_never_read(n: int, path: Path) -> None:
    """`check` names the file, a read gives the right bits or DamageError, and the right ones where nothing is lost."""
    chance = random.Random(n)
    assert list(ts.check(path)) == []
    n_right = n_refused = 0
    with ts.open(path) as sound:
        for file, offset in places(path, n):
            with changed(file, offset, chance.randrange(1, 256)):
                findings = list(ts.check(path))
                assert file in [finding.path for finding in findings], f"byte {offset} of {file}"
                found = [(place, read(path, place)) for place in places_to_read(findings, sound, chance)]
            for place, values in found:
                if values is None:
                    assert is_lost(place, findings), f"byte {offset} of {file}: {place}"
                    n_refused += 1
                else:
                    assert values == read(path, place), f"byte {offset} of {file}: {place}"
                    n_right += 1
    assert list(ts.check(path)) == []
    print(f"{n:,} bytes changed, all found; {n_refused:,} reads refused, {n_right:,} right, none wrong")
