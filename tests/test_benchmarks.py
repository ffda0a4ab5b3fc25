"""The benchmarks run, so that they cannot rot; their figures are not looked at."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import COLUMNS, main


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
