"""What torch, numpy, pandas and dask make of a lazy series, and what a notebook shows."""

import subprocess
import sys

import numpy as np
import pytest

import trajectory_store as ts
from tests.harness import recordings
from trajectory_store.errors import UsageError


@pytest.fixture
def run(tmp_path):
    bits = recordings.adversarial()
    loss = np.arange(len(bits), dtype=np.float32)
    with recordings.record(tmp_path / "<run>", bits, others={"loss": loss}, attrs={"note": "<b>"}) as run:
        yield run


def test_to_torch_gives_the_bits(run):
    """bfloat16 as torch's, whole, by rows and by tokens; other dtypes as their own."""
    torch = pytest.importorskip("torch")
    bits = run["W"].bits[...]
    for key, expected in [((), bits), ((slice(2, 9),), bits[2:9]), ((5,), bits[5]), (([1, 7],), bits[[1, 7]])]:
        tensor = run["W"].to_torch(*key)
        assert tensor.dtype == torch.bfloat16
        assert np.array_equal(tensor.view(torch.int16).numpy().view(np.uint16), expected)
    assert np.array_equal(run["W"].to_torch(tokens=3).view(torch.int16).numpy().view(np.uint16), bits[:, 3])
    assert run["W"].to_torch(4, [1, 2]).shape == (2, 64)
    assert run["W"].bits.to_torch(4).dtype == torch.uint16
    assert run["loss"].to_torch().tolist() == list(range(len(bits)))
    assert run["loss"].to_torch(3).item() == 3


def test_to_torch_does_not_copy(run, monkeypatch):
    """The tensor's memory is the array that was read."""
    torch = pytest.importorskip("torch")
    read = []
    original = run.source.read
    monkeypatch.setattr(run.source, "read", lambda *args: read.append(original(*args)) or read[-1])
    tensor = run["W"].to_torch(slice(0, 5))
    tensor.view(torch.int16)[2, 3, 4] = 77

    assert read[0][2, 3, 4] == 77


def test_to_torch_without_torch(run, monkeypatch):
    """One sentence that names the extra."""
    monkeypatch.setitem(sys.modules, "torch", None)

    with pytest.raises(UsageError, match=r'to_torch needs torch; install "trajectory-store\[train\]"'):
        run["W"].to_torch(0)


def test_numpy_pandas_and_dask_take_a_series(run):
    """As an array, a column, and a lazy array."""
    dask_array = pytest.importorskip("dask.array")
    pandas = pytest.importorskip("pandas")
    loss = list(range(23))

    assert np.mean(run["loss"]) == np.mean(loss)
    assert np.asarray(run["W"]).dtype == ts.bf16.BFLOAT16
    assert np.array_equal(run["loss"], loss)
    assert pandas.Series(run["loss"]).tolist() == loss
    assert pandas.DataFrame({"loss": run["loss"]}, index=run["loss"].steps)["loss"].tolist() == loss
    lazy = dask_array.from_array(run["W"].bits, chunks=(7, 64, 64))
    assert np.array_equal(lazy[3:9, ::5].compute(), run["W"].bits[3:9, ::5])


def test_a_notebook_shows_tables(run):
    """Path, series and attributes, with nothing of them taken as HTML."""
    html = run._repr_html_()

    assert "&lt;run&gt;" in html
    assert "<run>" not in html
    assert "&lt;b&gt;" in html
    assert "step: 23, token: 150, dim: 64" in html
    assert "bfloat16" in run["W"]._repr_html_()
    assert "uint16" in run["W"].bits._repr_html_()


def test_analyses_import_no_torch_xarray_or_matplotlib():
    """The base install has none of them."""
    heavy = "{'torch', 'xarray', 'dask', 'matplotlib', 'pandas', 'scipy'}"
    code = f"import sys, trajectory_store.analysis; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
