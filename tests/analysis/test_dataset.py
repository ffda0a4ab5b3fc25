"""A run as an xarray Dataset: lazy, in the right coordinates, the recorded bits."""

import pickle

import numpy as np
import pytest

import trajectory_store as ts
from tests.harness import recordings
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


MEETINGS = {
    "token": {"token": ts.Series((), "int64"), "W": ts.Series((4,), "float32", dims=("token",))},
    "step": {"step": ts.Series((), "float32"), "loss": ts.Series((), "float32")},
    "step of four": {"step": ts.Series((4,), "float32", dims=("token",))},
    "sparse step": {"step": ts.Series((4,), "float32", steps=2), "loss": ts.Series((), "float32")},
    "step of a sparse one": {"W": ts.Series((4,), "float32", steps=2), "W_step": ts.Series((), "int64")},
    "own step": {"W": ts.Series((4,), "float32", dims=("W_step",), steps=2)},
    "another's step": {"W": ts.Series((4,), "int8", steps=2), "V": ts.Series((3,), "int8", dims=("W_step",))},
    "axis": {"W": ts.Series((4,), "float32"), "W_dim_0": ts.Series((), "int8")},
    "token_id": {"token_id": ts.Series((), "int64"), "W": ts.Series((4,), "float32", dims=("token",))},
    "dimension token_id": {"W": ts.Series((4, 3), "float32", dims=("token", "token_id"))},
    "its own dimension": {"W": ts.Series((4,), "float32", dims=("W",))},
    "renamed already": {
        "token": ts.Series((), "int8"),
        "token_series": ts.Series((), "int16"),
        "W": ts.Series((4,), "float32", dims=("token",)),
    },
    "parameters": {"0.weight": ts.Series((4, 3), "bfloat16"), "0.bias": ts.Series((4,), "bfloat16", steps=2)},
}
"""Names of series that meet names which a dataset makes."""
STATIC_MEETINGS = {
    "of coordinates": {"token": np.arange(4), "step": np.arange(9), "token_id": np.eye(2)},
    "of ids": {"captured_indices": np.arange(4) * 7, "token_id": np.arange(3), "token_id_static": np.arange(2)},
    "of dimensions": {"x": np.arange(3), "x_dim_0": np.arange(5), "W_step": np.arange(2), "W_dim_0": np.arange(6)},
}


def recorded(path, series, static):
    """A run of seven steps whose every value is its own."""
    rng = np.random.default_rng(1)
    with ts.create(path, series, static=static, steps=7) as sink:
        for step in range(7):
            due = {name: one for name, one in series.items() if one.is_due(step)}
            frame = {name: rng.integers(0, 99, one.shape).astype(one.storage_dtype) for name, one in due.items()}
            if frame:
                sink.append(step, **frame)
    return ts.open(path)


@pytest.mark.parametrize("static", STATIC_MEETINGS)
@pytest.mark.parametrize("series", MEETINGS)
def test_names_that_meet_are_both_kept(tmp_path, series, static):
    """Every series and static array is in the dataset, whole, under its name or one that says so."""
    arrays = {name: array for name, array in STATIC_MEETINGS[static].items() if name not in MEETINGS[series]}
    with recorded(tmp_path / "run", MEETINGS[series], arrays) as run:
        dataset = run.to_xarray()

        found = {variable.attrs.get("recorded_as", name): variable for name, variable in dataset.data_vars.items()}
        in_coordinates = {"captured_indices"} & arrays.keys() if "token" in dataset.coords else set()
        assert found.keys() == {*run, *run.static} - in_coordinates
        for name in run:
            expected = run[name].bits if run[name].spec.dtype == "bfloat16" else run[name]
            assert found[name].values.tolist() == expected[...].tolist()
            assert dataset[found[name].dims[0]].values.tolist() == run[name].steps.tolist()
        for name in arrays.keys() - in_coordinates:
            assert found[name].values.tolist() == arrays[name].tolist()
        assert dataset.step.values.tolist() == run.steps.tolist()


def test_a_name_that_meets_none_is_kept(tmp_path):
    """And what is renamed is told from what is not."""
    with recorded(tmp_path / "run", MEETINGS["renamed already"], {}) as run:
        dataset = run.to_xarray()

        assert set(dataset.data_vars) == {"token_series_2", "token_series", "W"}
        assert dataset.token_series_2.attrs == {"logical_dtype": "int8", "recorded_as": "token"}
        assert dataset.token_series.attrs == {"logical_dtype": "int16"}


@pytest.mark.parametrize(
    ("chunks", "said"),
    [
        ({"stepp": 5}, "'stepp'; choose from 'step', 'token', 'dim'"),
        ({"dead_mask_dim_0": 5}, "'dead_mask_dim_0'; choose from"),
        ({3: 5}, "no series has a dimension 3"),
        ({"step": 0}, "chunks of 0"),
        ({"token": -2}, "chunks of -2"),
        ({"step": True}, "chunks of True"),
        ({"step": 2.0}, r"chunks of 2\.0"),
        ({"step": "many"}, "chunks of 'many'"),
        ({"step": (3, 3)}, r"chunks of \(3, 3\)"),
        ({"step": None}, "chunks of None"),
        (5, "sizes by dimension"),
        ("auto", "sizes by dimension"),
    ],
)
def test_wrong_chunks_are_refused(run, chunks, said):
    """A misspelled dimension too: ignored, it would make other chunks than were meant."""
    with pytest.raises(UsageError, match=said):
        run.to_xarray(chunks=chunks)


def test_chunks_of_any_integer(run, bits):
    """numpy's too; −1 is the whole axis, and more than there is is all there is."""
    dataset = run.to_xarray(chunks={"step": np.int64(7), "token": -1, "dim": 10**12})

    assert set(dataset.W.chunksizes["step"][:-1]) == {7}
    assert dataset.W.chunksizes["token"] == (150,)
    assert dataset.W.chunksizes["dim"] == (bits.shape[2],)
    assert np.array_equal(dataset.W.values, bits)


def test_runs_of_other_tokens_are_aligned_by_their_ids(tmp_path):
    """As the docstring says: by place, token 5 would lie beside token 7."""
    series = {"W": ts.Series((2,), "float32", dims=("token",))}
    with (
        recorded(tmp_path / "a", series, {"captured_indices": np.array([3, 5])}) as a,
        recorded(tmp_path / "b", series, {"captured_indices": np.array([5, 7])}) as b,
    ):
        by_id = [run.to_xarray().swap_dims(token="token_id") for run in (a, b)]
        both = xarray.concat(by_id, "run", join="outer", coords="minimal", compat="override")

        assert both.token_id.values.tolist() == [3, 5, 7]
        assert both.W.sel(token_id=5).values.tolist() == [a["W"][:, 1].tolist(), b["W"][:, 0].tolist()]
        assert np.isnan(both.W.sel(run=1, token_id=3)).all()


def test_wrong_use(run, monkeypatch):
    """An unknown form of bfloat16, and no xarray: one sentence each."""
    import sys

    with pytest.raises(UsageError, match="bf16 'float16' is unknown; choose from 'bits', 'float32'"):
        run.to_xarray(bf16="float16")
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(UsageError, match=r'install "trajectory-store\[analysis\]"'):
        run.to_xarray()
