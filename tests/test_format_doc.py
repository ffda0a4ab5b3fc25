"""docs/format.md is enough to read runs by, and runs of every version of it stay readable."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import trajectory_store as ts
from tests.golden import regenerate
from tests.harness import format_reader

TESTS = Path(__file__).parent
KINDS = ["temporal", "portable", "journal", "memmap"]
VERSIONS = ["v1"]


def bits(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_reader_written_from_the_document_reads_the_goldens(version: str, kind: str) -> None:
    """The document says enough: a reader that shares no code with the package finds every value."""
    rows, static = format_reader.read(TESTS / "golden" / version / kind)

    for name, series in regenerate.SERIES.items():
        expected = {s: bits(regenerate.values(s)[name]) for s in range(regenerate.n_steps(kind)) if series.is_due(s)}
        assert expected == {step: bits(row) for step, row in rows[name].items()}
    assert {name: bits(a) for name, a in regenerate.STATIC.items()} == {name: bits(a) for name, a in static.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_goldens_of_every_version_stay_readable(version: str, kind: str) -> None:
    """The package reads what it wrote when the version was new."""
    with ts.open(TESTS / "golden" / version / kind) as run:
        for name, series in regenerate.SERIES.items():
            steps = [step for step in range(regenerate.n_steps(kind)) if series.is_due(step)]
            assert steps == run[name].steps.tolist()
            for step in steps:
                assert bits(regenerate.values(step)[name]) == bits(run[name].bits.at_step(step))
        for name, array in regenerate.STATIC.items():
            assert bits(array) == bits(run.static[name])
        assert run.attrs["golden"] == kind


@pytest.mark.parametrize("kind", ["temporal", "portable", "memmap"])
def test_the_writer_still_writes_the_newest_goldens_bytes(kind: str, tmp_path: Path) -> None:
    """Same frames, same files: a change of the bytes is a change of the version, made on purpose."""
    subprocess.run([sys.executable, TESTS / "golden" / "regenerate.py", tmp_path], check=True)

    golden = TESTS / "golden" / VERSIONS[-1] / kind
    assert contents(golden) == contents(tmp_path / kind)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "lock"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_golden_can_be_gone_on_with(kind: str, tmp_path: Path) -> None:
    """A run of an older writer is resumed: the replayed steps agree with it."""
    shutil.copytree(TESTS / "golden" / VERSIONS[-1] / kind, tmp_path / "run")
    with ts.resume(tmp_path / "run", from_step=4) as sink:
        for step in range(5, regenerate.STEPS):
            sink.append(step, **regenerate.values(step))

    rows, _ = format_reader.read(tmp_path / "run")
    assert bits(regenerate.values(10)["W"]) == bits(rows["W"][10])
