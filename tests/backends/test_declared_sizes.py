"""A small run that says it is huge: every use of it takes time and memory by the bytes that are there."""

import json
import os
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import trajectory_store as ts
from trajectory_store.backends.memmap.commit_log import COMMITS
from trajectory_store.checksum import crc32c
from trajectory_store.errors import TrajectoryError
from trajectory_store.journal.segment import segment_path
from trajectory_store.spec import RunSpec

pytestmark = [pytest.mark.usefixtures("no_sync"), pytest.mark.slow]

MOST_SECONDS = 60.0
"""What one use may take of a processor."""
MOST_BYTES = 2 << 30
"""What one use may reserve beyond what the process has."""
SPARSE = {"start": 0, "stop": 10**14, "step": 1}


def put_manifest(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change a run's manifest and give it the right checksum."""
    file = path / "manifest.json"
    content = json.loads(file.read_text())["manifest"]
    change(content)
    body = json.dumps(content, separators=(",", ":")).encode()
    file.write_bytes(b'{"crc32c":"%08x","manifest":' % crc32c(body) + body + b"}\n")
    return path


@pytest.fixture
def bounded() -> Iterator[Callable[[str, Callable[[], Any]], None]]:
    """Runs one use within the bounds; only our errors, or too little memory for what was asked, may end it."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)

    def use(what: str, reader: Callable[[], Any]) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, hard))
        started = time.process_time()
        try:
            reader()
        except (TrajectoryError, MemoryError):
            pass
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        assert time.process_time() - started < MOST_SECONDS, what

    yield use
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def uses(path: Path) -> dict[str, Callable[[], Any]]:
    """Everything that one does with a run, by commands and in Python."""
    out = path.with_name("out")

    def command(*arguments: object) -> Callable[[], Any]:
        from click.testing import CliRunner

        from trajectory_store.cli import main

        def run() -> None:
            result = CliRunner().invoke(main, list(map(str, arguments)))
            assert result.exit_code in (0, 1, 2), result.exception
            assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
            assert "Traceback" not in result.output

        return run

    def read() -> None:
        with ts.open(path) as run:
            for name in run:
                run[name][-1:]
                run[name][0]

    return {
        "info": command("info", path),
        "info --json": command("info", path, "--json"),
        "slice": command("slice", path, "x"),
        "slice -1": command("slice", path, "x", "-1"),
        "slice --json": command("slice", path, "x", "--json"),
        "slice -o csv": command("slice", path, "x", "-o", f"{out}.csv"),
        "slice -o npy": command("slice", path, "x", "-o", f"{out}.npy"),
        "slice -o safetensors": command("slice", path, "x", "-o", f"{out}.safetensors"),
        "check": command("check", path),
        "repair": command("check", "--repair", path),
        "compare": command("compare", path, path),
        "export --steps": command("export", path, out, "--steps", "::1000000000"),
        "export": command("export", path, out),
        "analyze": command("analyze", path, "displacement", "--series", "x"),
        "report": command("report", path, "--series", "x", "-o", f"{out}.html"),
        "repr": lambda: (repr(ts.open(path)), ts.open(path)._repr_html_()),
        "read": read,
        "to_xarray": lambda: ts.open(path).to_xarray(),
        "steps": lambda: ts.open(path).steps,
        "resume": lambda: ts.resume(path).close(),
    }


def use_all(bounded: Any, path: Path, *, but: tuple[str, ...] = (), opens: bool = True) -> None:
    """Each of them in turn, on a run that can be opened."""
    if opens:
        ts.open(path).close()
    for what, reader in uses(path).items():
        if what not in but:
            bounded(what, reader)


def small(path: Path, series: Any, backend: str = "zarr", **options: Any) -> Path:
    with ts.create(path, series, backend=backend, **options) as sink:
        while sink.next_step is not None and sink.next_step < 4:
            step = sink.next_step
            due = {name: one for name, one in sink.spec.series.items() if one.is_due(step)}
            sink.append(step, **{name: np.zeros(one.shape, one.storage_dtype) for name, one in due.items()})
    return path


BFLOAT16 = {"x": ts.Series((2, 2), "bfloat16")}


def claim(content: dict[str, Any], steps: int, block_steps: int) -> None:
    """Say that so many steps are sealed, in blocks of no bytes."""
    n_blocks = -(-steps // block_steps)
    content.update(sealed_until=steps, block_steps=block_steps)
    content["blocks"] = {name: [[0, "0", "0"]] * n_blocks for name in content["spec"]["series"]}


def test_a_manifest_that_declares_all_steps_sealed(tmp_path: Path, bounded: Any) -> None:
    """2·10¹⁰ of them, in 240 kB; and ten times as many for what was slowest."""
    path = put_manifest(small(tmp_path / "run", BFLOAT16), lambda content: claim(content, 2 * 10**10, 1 << 20))
    use_all(bounded, path)
    put_manifest(path, lambda content: claim(content, 2 * 10**11, 1 << 20))
    for what in ("info", "slice", "check"):
        bounded(what, uses(path)[what])


@pytest.mark.parametrize("steps", [3, SPARSE])
def test_sparse_series_that_declare_all_steps(steps: Any, tmp_path: Path, bounded: Any) -> None:
    """None of them at every step, and each at its own."""

    def change(content: dict[str, Any]) -> None:
        series = content["spec"]["series"]
        series["y"]["steps"] = 7
        series["x"]["steps"] = steps
        claim(content, 10**10, 1 << 20)
        for name, n_rows in (("x", -(-(10**10) // 3) if steps == 3 else 10**10), ("y", -(-(10**10) // 7))):
            block_rows = min(1 << 20, (16 << 20) // 8)
            content["blocks"][name] = [[0, "0", "0"]] * -(-n_rows // block_rows)

    series = {"x": ts.Series((2, 2), "bfloat16", steps=3), "y": ts.Series((2, 2), "bfloat16", steps=7)}
    use_all(bounded, put_manifest(small(tmp_path / "run", series), change))


def test_a_row_that_is_declared_huge(tmp_path: Path, bounded: Any) -> None:
    """2 GiB of one, with no more behind it."""
    path = small(tmp_path / "run", {"x": ts.Series((2,), "uint8"), "y": ts.Series((), "uint8")}, block_steps=1)

    def change(content: dict[str, Any]) -> None:
        content["spec"]["series"]["x"]["shape"] = [2**31]

    use_all(bounded, put_manifest(path, change))


def test_a_block_that_is_begun_and_long(tmp_path: Path) -> None:
    """One flipped byte in any zarr.json, where the next seal may end at any of a million steps."""
    path = small(
        tmp_path / "run", {"x": ts.Series((2, 2), "bfloat16"), "y": ts.Series((), "float32")}, block_steps=65536
    )
    for file in sorted(path.rglob("zarr.json")):
        content = file.read_bytes()
        file.write_bytes(content[:-10] + bytes([content[-10] ^ 1]) + content[-9:])
        started = time.process_time()
        assert [finding.kind for finding in ts.check(path)] == ["metadata"]
        assert time.process_time() - started < MOST_SECONDS / 2
        file.write_bytes(content)


def test_a_seal_that_had_come_to_its_metadata_is_no_finding(tmp_path: Path) -> None:
    """Whatever step it ended at: the block and the metadata are newer than the manifest."""
    path = tmp_path / "run"
    series = {"x": ts.Series((3,), "float32"), "g": ts.Series((), "int8", steps=3)}
    for stop in (1, 3, 4, 7):
        with ts.create(path, series, block_steps=8, overwrite=True) as sink:
            sink.append(0, x=np.zeros(3, np.float32), g=1)
        before = (path / "manifest.json").read_bytes()
        with ts.resume(path) as sink:
            for step in range(1, stop + 1):
                sink.append(step, x=np.full(3, step, np.float32), **({"g": step} if step % 3 == 0 else {}))
        (path / "manifest.json").write_bytes(before)
        assert [str(finding) for finding in ts.check(path) if finding.kind != "journal"] == []


def frame_head(step: int, synced: int, n_rows: int) -> bytes:
    head = struct.pack("<4sHHqq", b"TJr1", 1, n_rows, step, synced) + bytes(4 * n_rows)
    return head + struct.pack("<I", crc32c(head))


def test_a_segment_far_ahead(tmp_path: Path, bounded: Any) -> None:
    """Its records say that all steps before it were synced, and none of them is there."""
    path = small(tmp_path / "run", {"x": ts.Series((), "uint8")}, block_steps=8)
    step = 8 * 10**11
    zero = struct.pack("<I", crc32c(b"\0"))
    head = struct.pack("<4sHHqq", b"TJr1", 1, 1, step + 1, step) + zero
    record = head + struct.pack("<I", crc32c(head)) + b"\0"
    head = struct.pack("<4sHHqq", b"TJr1", 1, 1, step, -1) + zero
    (segment_path(path / "journal", step)).write_bytes(head + struct.pack("<I", crc32c(head)) + b"\0" + record)
    use_all(bounded, path, opens=False)


def test_a_memmap_run_that_declares_all_steps(tmp_path: Path, bounded: Any) -> None:
    """Committed in the manifest, or by one header far ahead; the rows' file may have holes."""
    series = {"x": ts.Series((), "uint8")}
    for n, steps in enumerate((10**8, 2**27)):
        path = small(tmp_path / f"run{n}", series, "memmap", steps=100, attrs={"n": n})

        def change(content: dict[str, Any], steps: int = steps) -> None:
            content["spec"]["steps"] = steps
            content["sealed_until"] = steps

        put_manifest(path, change)
        header = json.dumps({"x": {"dtype": "U8", "shape": [steps], "data_offsets": [0, steps]}},
                            separators=(",", ":")).encode()  # fmt: skip
        header += b" " * (-len(header) % 8)
        rows = path / "frames.safetensors"
        rows.write_bytes(len(header).to_bytes(8, "little") + header)
        os.truncate(rows, 8 + len(header) + steps)
        use_all(bounded, path, but=("export",))
        log = path / COMMITS
        log.write_bytes(log.read_bytes() + frame_head(steps - 1, steps - 2, 1))
        use_all(bounded, path, but=("export",))
        put_manifest(path, lambda content: content.update(sealed_until=0))
        use_all(bounded, path, but=("export",))


def test_a_safetensors_file_of_empty_axes(tmp_path: Path, bounded: Any) -> None:
    """Shapes of 2⁴⁰ entries that take no byte, zero entries, and tensors over each other."""
    path = tmp_path / "file"
    for shape in ([2**40, 0], [0, 2**40], [0], [2**61, 0, 7], [1, 0]):
        header = json.dumps(
            {
                "x": {"dtype": "BF16", "shape": shape, "data_offsets": [0, 0]},
                "loss": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            }
        ).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
        use_all(bounded, path, but=("resume",))
    save_file({"x": np.zeros((4, 2, 2), np.float32)}, path)
    use_all(bounded, path, but=("resume",))


def test_many_series(tmp_path: Path, bounded: Any) -> None:
    """Five thousand, each with a flaw in its zarr.json."""

    def change(content: dict[str, Any]) -> None:
        one, blocks = content["spec"]["series"]["x"], content["blocks"]["x"]
        content["spec"]["series"] = {f"x{n}" if n else "x": one | {"dims": []} for n in range(5000)}
        content["blocks"] = dict.fromkeys(content["spec"]["series"], blocks)

    path = small(tmp_path / "run", BFLOAT16)
    layout = json.loads((path / "x" / "zarr.json").read_text())
    put_manifest(path, change)
    for n in range(1, 5000):
        (path / f"x{n}").mkdir()
        (path / f"x{n}" / "zarr.json").write_text(json.dumps(layout | {"shape": [5, 2, 2]}))
    bounded("check", lambda: list(ts.check(path)))
    bounded("info", uses(path)["info"])


def test_the_command_itself_within_a_limit_of_memory(tmp_path: Path) -> None:
    """In a process of its own, as a user meets it: one sentence, or an answer, and no traceback."""
    path = put_manifest(small(tmp_path / "run", BFLOAT16), lambda content: claim(content, 2 * 10**11, 1 << 20))
    for arguments in (["info"], ["slice", "x"], ["analyze", "displacement", "--series", "x"]):
        ran = subprocess.run(
            [sys.executable, "-c", "from trajectory_store.cli import main; main()", arguments[0], path, *arguments[1:]],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30)),
            capture_output=True,
            timeout=60,
            text=True,
            check=False,
        )
        assert "Traceback" not in ran.stderr
        assert ran.returncode == (0 if arguments == ["info"] else 2), ran.stderr


def test_what_is_counted_agrees_with_what_is_listed() -> None:
    """Numbers and places of steps, computed, are those of the list of steps."""
    schedules: list[Any] = [None, 1, 2, 5, range(3, 40, 4), (0, 3, 17, 31)]
    for first in schedules:
        for second in schedules:
            spec = RunSpec({"a": ts.Series((), "int8", steps=first), "b": ts.Series((), "int8", steps=second)})
            for step in (1, 2, 7, 32, 60):
                listed = spec.steps_before(step)
                assert len(listed) == spec.n_steps_before(step)
                assert (listed[-1] if len(listed) else None) == spec.last_due_before(step)
        series = ts.Series((), "int8", steps=first)
        n = series.rows_before(31)
        assert series.steps_of(0, n).tolist() == series.steps_at(range(n)).tolist()
        assert list(series.step_range(0, n)) == list(
            range(int(series.steps_of(0, 1)[0]), int(series.steps_of(n - 1, n)[0]) + 1)
        )


def test_an_export_takes_the_rows_that_are_asked_for() -> None:
    """Rows at evenly spaced steps, computed, are those that a search finds."""
    from trajectory_store.export import _rows_at

    for declared in (None, 2, 3, range(5, 90, 6), (1, 4, 10, 22)):
        series = ts.Series((), "int8", steps=declared)
        every = series.steps_of(0, series.rows_before(90)).tolist()
        for steps in (range(0, 90), range(3, 80, 2), range(4, 90, 9), range(7, 8), range(1, 90, 60), range(2, 50, 6)):
            assert [every[row] for row in _rows_at(series, steps)] == [step for step in every if step in steps]
