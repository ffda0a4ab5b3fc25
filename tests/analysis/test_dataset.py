"""A run as an xarray Dataset: lazy, in the right coordinates, the recorded bits."""

import pickle

import numpy as np
import pytest
import recordings

import trajectory_store as ts
from trajectory_store.bf16 import to_float32
from trajectory_store.errors import UsageError

xarray = pytest.importorskip("xarray")


@pytest.fixture
def bits():
    return recordings.walk()


@pytest.fixture(params=["zarr", "memmap"])
def run(request, tmp_path, bits):
    ids = np.arange(0, 300, 2)
    static = {"dead_indices": ids, "dead_mask": np.arange(400) % 2 == 0}
    others = {"m": np.arange(bits.size, dtype=np.float32).reshape(bits.shape), "loss": np.arange(len(bits)) / 2}
    with recordings.record(
        tmp_path / "run", bits, backend=request.param, others=others, static=static, attrs={"experiment": "x"}
    ) as run:
        yield run


def test_variables_coordinates_and_attributes(run, bits):
    """Series are lazy variables, static arrays plain ones, and steps and tokens are labelled."""
    dataset = run.to_xarray()

    assert set(dataset.data_vars) == {"W", "m", "loss", "dead_mask"}
    assert dataset.W.dims == ("step", "token", "dim")
    assert dataset.W.dtype == np.uint16
    assert dataset.W.attrs == {"logical_dtype": "bfloat16"}
    assert dataset.step.values.tolist() == list(range(len(bits)))
    assert dataset.token.values.tolist() == list(range(150))
    assert dataset.token_id.dims == ("token",)
    assert dataset.token_id.values.tolist() == list(range(0, 300, 2))
    assert dataset.attrs == {"experiment": "x"}
    assert dataset.dead_mask.values.sum() == 200


def test_values_are_the_recorded_bits(run, bits):
    """All of them, a step, a token, a list of tokens, another dtype."""
    dataset = run.to_xarray()

    assert np.array_equal(dataset.W.values, bits)
    assert np.array_equal(dataset.W.sel(step=9).values, bits[9])
    assert np.array_equal(dataset.W.sel(token=[3, 77]).values, bits[:, [3, 77]])
    assert np.array_equal(dataset.W[::-3, 5:60:7, 2].values, bits[::-3, 5:60:7, 2])
    assert dataset.m.dtype == np.float32
    assert dataset.m.values.tolist() == np.asarray(run["m"]).tolist()
    assert dataset.loss.values.tolist() == [step / 2 for step in range(len(bits))]


def test_bfloat16_as_float32(run, bits):
    """Widened exactly, where it is computed; other dtypes stay."""
    dataset = run.to_xarray(bf16="float32")

    assert dataset.W.dtype == np.float32
    assert np.array_equal(dataset.W.values, to_float32(bits))
    assert dataset.loss.dtype == np.float64
    assert float(dataset.W.mean()) == pytest.approx(to_float32(bits).mean(), rel=1e-4)


def test_chunks_are_blocks_and_tiles(run):
    """A chunk never cuts a block or a tile, and can be chosen."""
    dataset = run.to_xarray()

    assert set(dataset.W.chunksizes["step"][:-1]) <= {run["W"].block_rows}
    assert dataset.W.chunksizes["token"] == (150,)
    assert run.to_xarray(chunks={"token": 64}).W.chunksizes["token"] == (64, 64, 22)


def test_a_dataset_is_picklable(run, bits):
    """It travels as a path; what is computed at the other end is the same."""
    dataset = pickle.loads(pickle.dumps(run.to_xarray()))

    assert np.array_equal(dataset.W.values, bits)


def test_series_and_runs_are_picklable(run, bits):
    """They open the run again; a series of an array in memory takes it along."""
    from trajectory_store.analysis.arrays import as_series

    again = pickle.loads(pickle.dumps(run))
    series = pickle.loads(pickle.dumps(run["W"].bits))

    assert np.array_equal(again["W"].bits[...], bits)
    assert np.array_equal(series[...], bits)
    assert series.dtype == np.uint16
    assert np.array_equal(pickle.loads(pickle.dumps(as_series(bits, "W")))[...], bits)
    again.close()


def test_a_series_with_steps_of_its_own(tmp_path):
    """It has its own step dimension and coordinate; unnamed axes have no token coordinate."""
    series = {"loss": ts.Series((), "float32"), "g": ts.Series((3, 2), "bfloat16", steps=10)}
    with ts.create(tmp_path / "run", series, steps=25) as sink:
        for step in range(25):
            sink.append(step, loss=step, **({"g": np.full((3, 2), step, np.uint16)} if step % 10 == 0 else {}))
    run = ts.open(tmp_path / "run")
    dataset = run.to_xarray()

    assert dataset.g.dims == ("g_step", "g_dim_0", "g_dim_1")
    assert dataset.g_step.values.tolist() == [0, 10, 20]
    assert dataset.g.sel(g_step=20).values.tolist() == [[20, 20]] * 3
    assert "token" not in dataset.coords
    run.close()


def test_a_dataset_of_a_growing_run_keeps_its_length(tmp_path):
    """Steps recorded later are not in it, also after a refresh; negative indices count from its own end."""
    with ts.create(tmp_path / "run", {"loss": ts.Series((), "float32")}) as sink:
        sink.append(0, loss=0.0)
        sink.append(1, loss=1.0)
        sink.flush()
        run = ts.open(tmp_path / "run")
        dataset = run.to_xarray()
        series = pickle.dumps(run["loss"])
        assert len(pickle.loads(series)) == 2
        sink.append(2, loss=2.0)
        sink.flush()
        run.refresh()
        later = pickle.dumps(run["loss"])

        assert dataset.loss.values.tolist() == [0, 1]
        assert dataset.loss[-1].values == 1
        assert pickle.loads(later)[2] == 2
        run.close()


def test_wrong_use(run, monkeypatch):
    """An unknown form of bfloat16, and no xarray: one sentence each."""
    import sys

    with pytest.raises(UsageError, match="bf16='float16' is unknown; choose from 'bits', 'float32'"):
        run.to_xarray(bf16="float16")
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(UsageError, match=r'install "trajectory-store\[analysis\]"'):
        run.to_xarray()
