"""Other readers as oracles: zarr-python, xarray, TensorStore and zarrs read what we write, and the other way round."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trajectory_store as ts
from tests.harness import contracts
from tests.harness.contracts import SERIES, STATIC, STEPS, bits, record, values
from trajectory_store.backends import manifest
from trajectory_store.backends.zarr.metadata import zarr_metadata
from trajectory_store.blocks.layout import BlockPlace
from trajectory_store.blocks.loaded_block import LoadedBlock
from trajectory_store.checksum import crc32c

zarr = pytest.importorskip("zarr")

pytestmark = [
    pytest.mark.usefixtures("no_sync"),
    pytest.mark.filterwarnings("ignore:Object at .* is not recognized as a component of a Zarr hierarchy"),
    pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part"),
]

DTYPES = ["bfloat16", "float16", "float32", "float64", "int8", "int16", "int32", "int64"]
DTYPES += ["uint8", "uint16", "uint32", "uint64", "bool"]


@pytest.fixture(params=["temporal", "portable"])
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def expected(name: str, n_steps: int = STEPS) -> np.ndarray:
    """A whole series as it is stored: bfloat16 as its bits."""
    rows = [values(step)[name] for step in range(n_steps) if SERIES[name].is_due(step)]
    return np.array(rows).view(SERIES[name].storage_dtype)


def test_zarr_reads_every_series(codec: str, tmp_path: Path) -> None:
    """Plain `zarr.open_group`, with nothing of ours imported by the caller."""
    path = record(tmp_path / "run", "zarr", codec=codec)
    group = zarr.open_group(path, mode="r")

    for name, series in SERIES.items():
        array = group[name]
        assert array.shape == (len(expected(name)), *series.shape)
        assert bits(array[...]) == bits(expected(name))
        assert bits(array[2:3]) == bits(expected(name)[2:3])
        assert array.attrs["logical_dtype"] == series.dtype
    for name, static in STATIC.items():
        assert bits(group[f"static/{name}"][...]) == bits(static)
    assert group.attrs["experiment"] == contracts.ATTRS["experiment"]


def test_zarr_follows_a_run_that_grows(tmp_path: Path) -> None:
    """Between seals a plain reader sees whole blocks, never half of one."""
    sink = contracts.create(tmp_path / "run", "zarr")
    for step in range(STEPS):
        sink.append(step, **values(step))
        array = zarr.open_group(tmp_path / "run", mode="r")["W"]
        n_sealed = STEPS if step == STEPS - 1 else (step + 1) // contracts.BLOCK_STEPS * contracts.BLOCK_STEPS
        assert array.shape[0] == n_sealed
        assert bits(array[...]) == bits(expected("W", n_sealed))
    sink.close()


@pytest.mark.filterwarnings("ignore")
def test_xarray_reads_every_series(codec: str, tmp_path: Path) -> None:
    """With the dimensions' names."""
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("dask")
    path = record(tmp_path / "run", "zarr", codec=codec)

    with xarray.open_zarr(path, consolidated=None, mask_and_scale=False) as dataset:
        assert dataset["W"].dims == ("step", "token", "dim")
        assert dataset["g"].dims[0] == "g_step"
        for name in SERIES:
            assert bits(dataset[name].values) == bits(expected(name))


@pytest.mark.parametrize("name", SERIES)
def test_tensorstore_reads_a_portable_run(name: str, tmp_path: Path) -> None:
    """An implementation that shares no code with ours, or with zarr-python."""
    tensorstore = pytest.importorskip("tensorstore")
    path = record(tmp_path / "run", "zarr", codec="portable")

    array = tensorstore.open({"driver": "zarr3", "kvstore": f"file://{path / name}/"}, read=True).result()

    assert bits(array.read().result()) == bits(expected(name))
    assert array.domain.labels[1:] == SERIES[name].dims if SERIES[name].dims else True


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.filterwarnings("ignore")
def test_zarrs_reads_a_portable_run(name: str, tmp_path: Path) -> None:
    """Through its codec pipeline for zarr-python, in Rust."""
    pytest.importorskip("zarrs")
    path = record(tmp_path / "run", "zarr", codec="portable")

    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True}):
        assert bits(zarr.open_group(path, mode="r")[name][...]) == bits(expected(name))


def one_series(path: Path, series: ts.Series, rows: np.ndarray, codec: str, *, block_steps: int) -> Path:
    with ts.create(path, {"x": series}, codec=codec, block_steps=block_steps) as sink:
        for step, row in enumerate(rows):
            sink.append(step, x=row)
    return path


def random_rows(series: ts.Series, n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    if series.dtype == "bool":
        return rng.integers(0, 2, (n, *series.shape)).astype(bool)
    raw = rng.integers(0, 256, (n, *series.shape, series.storage_dtype.itemsize), dtype=np.uint8)
    return raw.view(series.storage_dtype)[..., 0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (130, 33)])
def test_arrays_that_zarr_writes_with_our_metadata_are_ours(
    dtype: str, shape: tuple[int, ...], codec: str, tmp_path: Path
) -> None:
    """Both directions: zarr-python reads our shards, and we read those it writes from our zarr.json."""
    series = ts.Series(shape, dtype)
    rows = random_rows(series, 11)
    path = one_series(tmp_path / "run", series, rows, codec, block_steps=4)
    assert bits(zarr.open_group(path, mode="r")["x"][...]) == bits(rows)

    theirs = tmp_path / "theirs"
    shutil.copytree(path, theirs)
    shutil.rmtree(theirs / "x" / "c")
    with zarr.config.set({"array.write_empty_chunks": True}):
        array = zarr.open_array(theirs / "x", mode="r+")
    padded = [rows[first : first + 4] for first in range(0, 11, 4)]
    for block, part in enumerate(padded):
        array[4 * block : 4 * block + len(part)] = part

    loaded = manifest.load(theirs)
    layout = loaded.layout("x")
    blocks = tuple(LoadedBlock(BlockPlace(theirs, layout, block)).committed for block in range(3))
    for block in range(3):
        assert len(LoadedBlock(BlockPlace(theirs, layout, block)).index()) == layout.n_tiles
    dataclasses.replace(loaded, blocks={"x": blocks}).store(theirs)
    with ts.open(theirs) as run:
        assert bits(run["x"].bits[...]) == bits(rows)


def test_our_metadata_is_what_zarr_would_write(codec: str, tmp_path: Path) -> None:
    """zarr-python parses our zarr.json into the same document, nothing added and nothing lost."""
    path = record(tmp_path / "run", "zarr", codec=codec)
    for relative in zarr_metadata(manifest.load(path)):
        ours = json.loads((path / relative).read_bytes())
        if ours["node_type"] == "array":
            theirs: Any = zarr.open_array((path / relative).parent, mode="r").metadata.to_dict()
            theirs = json.loads(json.dumps(theirs, default=str))
            for key in ("shape", "data_type", "chunk_grid", "fill_value", "dimension_names", "attributes"):
                found = theirs[key]
                assert found == ours[key] or (key == "dimension_names" and list(found) == ours[key]), key


def test_crc32c_is_zarrs() -> None:
    """The check value of the polynomial, and chained pieces."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"456789", crc32c(b"123")) == 0xE3069283
    assert crc32c(np.frombuffer(b"123456789", np.uint8).copy()) == 0xE3069283
