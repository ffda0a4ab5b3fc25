"""The benchmarks run, so that they cannot rot; their figures are not looked at."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import trajectory_store as ts
from benchmarks import findings
from benchmarks.__main__ import COLUMNS, main
from benchmarks.workloads import SHAPES, drifting


@pytest.mark.parametrize("workload", ["drifting", "random"])
def test_every_installed_peer_is_measured(workload: str, tmp_path: Path) -> None:
    """Each peer reads back what it was given; the table has a row for each."""
    output = tmp_path / "figures.json"
    arguments = ["--workload", workload, "--size", "tiny", "--repeats", "1", "--output", str(output)]
    result = CliRunner().invoke(main, [*arguments, "--peer", "trajectory_store", "--peer", "zarr default"])

    assert result.exit_code == 0, result.output
    peers = json.loads(output.read_text())["peers"]
    assert set(peers) == {"trajectory_store", "zarr default"}
    assert all(set(figures) == set(COLUMNS) for figures in peers.values())
    assert "| trajectory_store |" in result.output


def test_both_ways_of_finding_the_freeze_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The notebooks' way and ours, each in its process, find the same steps; the benchmark fails otherwise."""
    pytest.importorskip("torch")
    rows = drifting(SHAPES["tiny"], np.random.default_rng(0))
    with ts.create(tmp_path / "run", {"W": ts.Series(rows.shape[1:], "bfloat16")}, steps=len(rows)) as sink:
        for step, row in enumerate(rows):
            sink.append(step, W=row)
    monkeypatch.setattr("sys.argv", ["findings", str(tmp_path / "run")])
    findings.main()
    assert "one pass over 40 steps" in capsys.readouterr().out
