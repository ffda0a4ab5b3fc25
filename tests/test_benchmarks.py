"""The benchmarks run, so that they cannot rot; their figures are not looked at."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import trajectory_store as ts
from benchmarks import codec, findings, full_length
from benchmarks.__main__ import COLUMNS, main
from benchmarks.workloads import SHAPES, drifting
from trajectory_store.codec import kernels


def recording(folder: Path) -> Path:
    """A run of the smallest size."""
    rows = drifting(SHAPES["tiny"], np.random.default_rng(0))
    with ts.create(folder / "run", {"W": ts.Series(rows.shape[1:], "bfloat16")}, steps=len(rows)) as sink:
        for step, row in enumerate(rows):
            sink.append(step, W=row)
    return folder / "run"


@pytest.mark.parametrize("workload", ["drifting", "random"])
def test_every_installed_peer_is_measured(workload: str, tmp_path: Path) -> None:
    """Each peer reads back what it was given; the table has a row for each."""
    output = tmp_path / "figures.json"
    arguments = [
        "--workload",
        workload,
        "--size",
        "tiny",
        "--repeats",
        "1",
        "--step-ms",
        "0.1",
        "--output",
        str(output),
    ]
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
    monkeypatch.setattr("sys.argv", ["findings", str(recording(tmp_path))])
    findings.main()
    assert "one pass over 40 steps" in capsys.readouterr().out


def test_every_way_of_coding_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row a block; what the writer chooses is at least as small as any way, but for what its sample misses."""
    monkeypatch.setattr(kernels, "WARM_UP_BYTES", kernels.WARM_UP_BYTES)  # the command sets it
    monkeypatch.setattr("sys.argv", ["codec", str(recording(tmp_path)), "0"])
    codec.main()
    head, _, row = capsys.readouterr().out.splitlines()
    figures = dict(zip(head.split("|")[1:-1], row.split("|")[1:-1], strict=True))
    assert figures[" block "] == " 0 "
    chosen = float(figures[" 64 tokens "])
    assert chosen >= 0.9 * max(float(figures[f" {way} "]) for way in codec.WAYS)


def test_an_order_0_bound_is_the_entropy() -> None:
    """Four symbols as frequent as each other take two bits; knowing the context, none."""
    symbols = np.tile(np.arange(4), 100)
    assert codec.entropy(symbols) == pytest.approx(2)
    assert codec.entropy(symbols, symbols) == pytest.approx(0)


def test_a_recording_is_written_anew_with_more_rows(tmp_path: Path) -> None:
    result = CliRunner().invoke(full_length.main, [str(recording(tmp_path)), "--rows", "100", "--step-ms", "0.1"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.output)
    assert figures["rows"] == 100
    assert figures["raw_gb"] == pytest.approx(40 * 100 * 16 * 2 / 1e9, abs=1e-4)


def test_the_optimizer_follows_from_the_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """torch's own AdamW in bfloat16, recorded: every value follows, and from wrong hyperparameters not."""
    torch = pytest.importorskip("torch")
    from benchmarks import optimizer

    config = {"learning_rate": 3e-4, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    weight = torch.nn.Parameter(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)).bfloat16())
    adamw = torch.optim.AdamW([weight], lr=3e-4, weight_decay=0.1, foreach=False)
    series = {name: ts.Series((5, 8), "bfloat16") for name in ("W", "m", "v", "g")}
    nothing = torch.zeros_like(weight)
    with ts.create(tmp_path / "run", series, steps=20, attrs={"config": config}) as sink:
        sink.append(0, W=weight, m=nothing, v=nothing, g=nothing)
        for step in range(1, 20):
            weight.grad = torch.randn(5, 8, generator=torch.Generator().manual_seed(step)).bfloat16()
            adamw.step()
            state = adamw.state[weight]
            sink.append(step, W=weight, m=state["exp_avg"], v=state["exp_avg_sq"], g=weight.grad)
    monkeypatch.setattr("sys.argv", ["optimizer", str(tmp_path / "run"), "1"])
    optimizer.main()
    assert "m 100.00%, v 100.00%, W 100.00%" in capsys.readouterr().out
    with ts.open(tmp_path / "run") as run:
        wrong = optimizer.shares(run, 1, optimizer.AdamW(1e-3, 0.1, 0.8, 0.99, 1e-8))
    assert max(wrong.values()) < 0.9
