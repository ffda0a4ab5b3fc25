"""An imported run holds the bits of its file, says what it took for something else, or is not there at all."""

import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import trajectory_store as ts
from trajectory_store.errors import (
    LossyCastError,
    MalformedFileError,
    RunExistsError,
    SeriesNotFoundError,
    SpecError,
    UsageError,
)
from trajectory_store.importing import numpy_file

pytestmark = pytest.mark.usefixtures("no_sync")

h5py = pytest.importorskip("h5py")
from tests.harness.foreign_files import KINDS, LOSS, NOTEBOOK, RNG, W, write  # noqa: E402


def widened(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_the_notebooks_layout_comes_back_bit_for_bit(tmp_path: Path, backend: str, kind: str) -> None:
    """W as bfloat16, loss, masks; the export of the import has save_file's bytes."""
    file = write(kind, tmp_path / "file", NOTEBOOK)

    imported = ts.import_file(file, tmp_path / "run", backend=backend, block_steps=8)

    with ts.open(tmp_path / "run") as run:
        assert (set(imported.series), set(imported.static)) == ({"W", "loss"}, {"dead_mask", "dead_indices"})
        assert (imported.steps, imported.lossy, run.series["W"].dtype) == (30, (), "bfloat16")
        assert run.series["W"].dims == ("token", "dim")
        assert np.array_equal(W, run["W"].bits[...])
        assert run.attrs["imported_from"] == "file"
    save_file(NOTEBOOK, tmp_path / "reference")
    ts.export_safetensors(tmp_path / "run", tmp_path / "exported")
    assert (tmp_path / "reference").read_bytes() == (tmp_path / "exported").read_bytes()


def test_an_imported_file_compares_equal_however_its_uint16_is_taken(tmp_path: Path) -> None:
    """Bit patterns by default, said so; integers where told."""
    file = write("safetensors", tmp_path / "file", NOTEBOOK)

    as_patterns = ts.import_safetensors(file, tmp_path / "patterns")
    as_integers = ts.import_safetensors(file, tmp_path / "integers", bfloat16=())

    assert any("W: uint16 taken for bfloat16" in finding for finding in as_patterns.findings)
    assert as_integers.findings == ()
    assert ts.open(tmp_path / "integers").series["W"].dtype == "uint16"
    for run in ("patterns", "integers"):
        assert ts.compare(tmp_path / run, file).identical


@pytest.mark.parametrize("kind", KINDS)
def test_every_dtype_survives(tmp_path: Path, kind: str) -> None:
    """Series and static arrays, scalars without axes, big-endian where the format has it."""
    dtypes = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "float16", "float32", "float64"]
    arrays = {
        name: RNG.integers(0, 2, (9, 3)).astype(bool) if name == "bool" else RNG.bytes(9 * 3 * 8) for name in dtypes
    }
    arrays = {
        f"s_{name}": array if name == "bool" else np.frombuffer(array, name)[:27].reshape(9, 3).copy()
        for name, array in arrays.items()
    }
    arrays["scalar"] = np.array(3.5)
    arrays["few"] = np.arange(3, dtype=np.int32)
    stored = arrays if kind == "safetensors" else {**arrays, "s_int32": arrays["s_int32"].astype(">i4")}

    ts.import_file(write(kind, tmp_path / "file", stored), tmp_path / "run", bfloat16=())

    with ts.open(tmp_path / "run") as run:
        for name, array in arrays.items():
            found = run[name][...] if name in run else run.static[name]
            assert (array.dtype, array.shape, array.tobytes()) == (found.dtype, found.shape, found.tobytes())


@pytest.mark.parametrize("kind", ["safetensors", "npz"])
def test_saved_bfloat16_is_bfloat16(tmp_path: Path, kind: str) -> None:
    """Declared in safetensors; two bytes without a type in numpy's files."""
    arrays = {"W": W.view(ml_dtypes.bfloat16), "loss": LOSS}

    imported = ts.import_file(write(kind, tmp_path / "file", arrays), tmp_path / "run")

    run = ts.open(tmp_path / "run")
    assert (run.series["W"].dtype, imported.findings) == ("bfloat16", ())
    assert np.array_equal(W, run["W"].bits[...])


def test_a_npy_file_is_one_series(tmp_path: Path) -> None:
    """Called as the file, or as told."""
    np.save(tmp_path / "weights.npy", W)

    assert ts.import_numpy(tmp_path / "weights.npy", tmp_path / "a").series == ("weights",)
    assert ts.import_numpy(tmp_path / "weights.npy", tmp_path / "b", name="W").series == ("W",)
    assert np.array_equal(W, ts.open(tmp_path / "b")["W"].bits[...])
    with pytest.raises(SpecError, match="cannot name a series"):
        ts.import_numpy(tmp_path / "weights.npy", tmp_path / "c", name="../W")


def test_widened_float32_is_narrowed_exactly(tmp_path: Path) -> None:
    """Thimble 8's m is float32 of bfloat16 values: half the bytes, no bit lost, and an import says so."""
    file = write("safetensors", tmp_path / "file", {"m": widened(W), "loss": LOSS})

    kept = ts.import_safetensors(file, tmp_path / "kept")
    narrowed = ts.import_safetensors(file, tmp_path / "narrowed", bfloat16={"m"})

    assert "every value is a bfloat16" in kept.findings[0]
    assert "every value exactly" in narrowed.findings[0]
    assert np.array_equal(W, ts.open(tmp_path / "narrowed")["m"].bits[...])
    assert ts.compare(tmp_path / "narrowed", file).identical


def test_bits_are_lost_only_where_that_is_allowed(tmp_path: Path) -> None:
    """The first row that would lose some is named; allowed, it is rounded to nearest even and counted."""
    values = widened(W % 0x7F00).copy()
    values[17, 2, 1] = np.float32(1 + 2**-9)
    file = write("npz", tmp_path / "file", {"m": values, "loss": LOSS})

    with pytest.raises(LossyCastError, match="row 17 has values"):
        ts.import_numpy(file, tmp_path / "run", bfloat16={"m"})
    assert [file] == list(tmp_path.iterdir())

    imported = ts.import_numpy(file, tmp_path / "run", bfloat16={"m"}, allow_lossy=True)
    assert imported.lossy == ("m",)
    assert imported.findings[0].startswith("m: 1 of 840 values changed")
    assert np.array_equal(values.astype(ml_dtypes.bfloat16), ts.open(tmp_path / "run")["m"][...])


def test_float16_that_was_bfloat16_is_flagged_as_lossy(tmp_path: Path) -> None:
    """Thimble 6: no value has more than 8 significant bits, so small ones were lost before. Real float16 is not."""
    values = widened((W & 0x83FF) | 0x3C00)  # near 1, as bfloat16
    values[3] = 1e-12  # an Adam variance: zero as float16
    was_bf16, real = values.astype(np.float16), RNG.standard_normal(W.shape).astype(np.float16)
    file = write("hdf5", tmp_path / "file", {"v": was_bf16, "x": real, "loss": LOSS})

    imported = ts.import_hdf5(file, tmp_path / "run")

    assert imported.lossy == ("v",)
    assert any("v: float16 that was bfloat16" in finding for finding in imported.findings)
    assert np.array_equal(was_bf16, ts.open(tmp_path / "run")["v"][...])
    with pytest.raises(LossyCastError, match="float16"):
        ts.import_hdf5(file, tmp_path / "asked", bfloat16={"v"})
    assert ts.import_hdf5(file, tmp_path / "asked", bfloat16={"v"}, allow_lossy=True).lossy == ("v",)


def test_a_shorter_series_begins_where_it_is_said_to(tmp_path: Path, backend: str) -> None:
    """g[k] belongs to step k + 1: declared, it is read by step, and the run still equals its file."""
    gradients = W[1:] ^ 1
    file = write("safetensors", tmp_path / "file", {"W": W, "loss": LOSS, "g": gradients})

    ts.import_safetensors(file, tmp_path / "run", backend=backend, first_step={"g": 1}, block_steps=8)

    run = ts.open(tmp_path / "run")
    assert np.array_equal(gradients[4], run["g"].bits.at_step(5))
    assert ts.compare(run, file).identical
    assert ts.import_safetensors(file, tmp_path / "static").static == ("g",)


def test_groups_and_attributes_of_hdf5_come_along(tmp_path: Path) -> None:
    """Names joined with a dot, hyperparameters as attributes; text is left out and said so."""
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["optimizer/m"] = W
        file["loss"] = LOSS
        file["notes"] = "text"
        file.attrs.update({"lr": 3e-4, "seed": 42, "betas": np.array([0.9, 0.999]), "name": "Thimble", "bad": np.nan})

    imported = ts.import_hdf5(tmp_path / "file.h5", tmp_path / "run", attrs={"seed": 43})

    run = ts.open(tmp_path / "run")
    assert set(run.series) == {"optimizer.m", "loss"}
    expected = {"lr": 3e-4, "seed": 43, "betas": [0.9, 0.999], "name": "Thimble", "imported_from": "file.h5"}
    assert expected == dict(run.attrs)
    assert ["'notes'" in finding or "'bad'" in finding for finding in imported.findings][:2] == [True, True]


def test_hdf5_is_not_followed_out_of_its_file(tmp_path: Path) -> None:
    """External links, external storage and virtual datasets could name any file of the reader's."""
    secret = tmp_path / "secret"
    with h5py.File(secret, "w") as file:
        file["W"] = W
    with h5py.File(tmp_path / "file", "w") as file:
        file["loss"] = LOSS
        file["linked"] = h5py.ExternalLink(str(secret), "/W")
        layout = h5py.VirtualLayout(W.shape, W.dtype)
        layout[:] = h5py.VirtualSource(str(secret), "W", W.shape)
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("external", (30, 4), "u1", external=[(str(secret), 0, 120)])

    imported = ts.import_hdf5(tmp_path / "file", tmp_path / "run")

    assert imported.series == ("loss",)
    for name, why in (("linked", "another file, "), ("virtual", "elsewhere"), ("external", "values in another file")):
        assert any(repr(name) in finding and why in finding for finding in imported.findings)


@pytest.mark.parametrize("chunks", [(5, 7, 4), None])
def test_values_that_were_never_written_are_not_made_up(tmp_path: Path, chunks: Any) -> None:
    """HDF5 reads them as zeros: a preallocated file whose writer died."""
    with h5py.File(tmp_path / "file", "w") as file:
        created = file.create_dataset("W", W.shape, W.dtype, chunks=chunks)
        file["loss"] = LOSS
        if chunks:
            created[:20] = W[:20]

    imported = ts.import_hdf5(tmp_path / "file", tmp_path / "run")

    assert (imported.series, imported.static) == (("loss",), ())
    assert any("'W'" in finding and "never written" in finding for finding in imported.findings)


def test_an_import_without_h5py_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    file = write("hdf5", tmp_path / "file", NOTEBOOK)
    monkeypatch.setitem(sys.modules, "h5py", None)

    with pytest.raises(UsageError, match=r"trajectory-store\[hdf5\]"):
        ts.import_hdf5(file, tmp_path / "run")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    """An array of objects in an archive is left out; its code never runs."""

    class Bomb:
        def __reduce__(self) -> Any:
            return (print, ("executed",), None)

    np.savez(tmp_path / "file.npz", W=W, bad=np.array([Bomb()], dtype=object))

    imported = ts.import_numpy(tmp_path / "file.npz", tmp_path / "run")

    assert imported.series == ("W",)
    assert "never unpickled" in imported.findings[0]


def test_fortran_order_is_turned_round_in_memory_where_it_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its steps are strewn over the whole file: no stream can read them. What does not fit has a remedy."""
    arrays = {"W": np.asfortranarray(W), "v": np.asfortranarray(W[:, :, 0].astype(">f4")), "loss": LOSS}
    np.savez(tmp_path / "file.npz", **arrays)
    np.save(tmp_path / "v.npy", arrays["v"])

    assert ts.import_numpy(tmp_path / "file.npz", tmp_path / "run").series == ("W", "v", "loss")
    assert ts.import_numpy(tmp_path / "v.npy", tmp_path / "single").series == ("v",)
    assert np.array_equal(W, ts.open(tmp_path / "run")["W"].bits[...])
    for run in ("run", "single"):
        assert np.array_equal(arrays["v"], ts.open(tmp_path / run)["v"][...])
    monkeypatch.setattr(numpy_file, "MOST_HELD_BYTES", W.nbytes)
    large = ts.import_numpy(tmp_path / "file.npz", tmp_path / "large")
    assert large.series == ("W", "loss")
    assert "ascontiguousarray" in large.findings[0]
    monkeypatch.setattr(numpy_file, "MOST_HELD_BYTES", 0)
    with pytest.raises(SpecError, match="'v' is in Fortran order"):
        ts.import_numpy(tmp_path / "v.npy", tmp_path / "other")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"bfloat16": {"V"}}, SeriesNotFoundError),
        ({"first_step": {"V": 1}}, SeriesNotFoundError),
        ({"first_step": {"W": -1}}, UsageError),
        ({"first_step": {"W": 1 << 60}}, UsageError),
        ({"bfloat16": {"dead_indices"}}, UsageError),
        ({"backend": "tape"}, UsageError),
        ({"codec": "zip"}, UsageError),
        ({"block_steps": 0}, UsageError),
        ({"attrs": {"x": 1j}}, UsageError),
    ],
    ids=str,
)
def test_wrong_options_leave_nothing(tmp_path: Path, options: Any, error: type[Exception]) -> None:
    """One clear error each, and no folder."""
    file = write("safetensors", tmp_path / "file", NOTEBOOK)

    with pytest.raises(error):
        ts.import_safetensors(file, tmp_path / "run", **options)

    assert [file] == list(tmp_path.iterdir())


def test_what_is_there_is_kept_unless_overwritten(tmp_path: Path) -> None:
    """A run is replaced where told, and comes back where the import fails; what is no run never."""
    good, bad = write("npz", tmp_path / "good", NOTEBOOK), tmp_path / "bad"
    bad.write_bytes(good.read_bytes()[:-900] + bytes(900))
    ts.import_file(good, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}

    with pytest.raises(RunExistsError):
        ts.import_file(good, tmp_path / "run")
    with pytest.raises(MalformedFileError):
        ts.import_file(bad, tmp_path / "run", overwrite=True)
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(RunExistsError):
        ts.import_file(good, tmp_path / "mine", overwrite=True)

    ts.import_file(good, tmp_path / "run", overwrite=True, attrs={"again": True})
    assert ts.open(tmp_path / "run").attrs["again"]
    assert {"good", "bad", "run", "mine"} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("kind", ["safetensors", "npz", "npz compressed"])
def test_memory_is_bounded_by_a_block(tmp_path: Path, kind: str) -> None:
    """300 MB pass through in pieces."""
    rows = np.zeros((600, 4096, 64), np.uint16)
    rows[:, 0, 0] = np.arange(600)
    file = write(kind, tmp_path / "file", {"W": rows})
    del rows
    tracemalloc.start()
    try:
        ts.import_file(file, tmp_path / "run", block_steps=32)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 160e6


def test_a_chunk_larger_than_the_bound_is_read_by_rows(tmp_path: Path) -> None:
    """Thimble 7's chunks have 2 GB, uncompressed; here 260 MB in one, read by 4 MB."""
    script = f"""
        import resource, h5py, numpy as np
        import trajectory_store as ts
        from trajectory_store.importing import transfer
        path = {str(tmp_path)!r}
        with h5py.File(path + "/file", "w") as file:
            created = file.create_dataset("W", (260, 1000, 500), "u2", chunks=(260, 1000, 500))
            created.id.write_direct_chunk((0, 0, 0), bytes(260_000_000))
        transfer.PIECE_BYTES = 4 << 20
        with h5py.File(path + "/warm", "w") as file:
            file["W"] = np.zeros((8, 1000, 500), "u2")
        ts.import_hdf5(path + "/warm", path + "/warm_run", block_steps=4)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        ts.import_hdf5(path + "/file", path + "/run", block_steps=4)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)

    grown_kb = int(ran.stdout)
    assert grown_kb < 100_000 or sys.platform == "darwin"


@pytest.mark.parametrize("function", [ts.import_file, ts.import_hdf5, ts.import_numpy, ts.import_safetensors])
def test_a_wrong_option_names_the_right_ones(tmp_path: Path, function: Any) -> None:
    """Before anything is read."""
    with pytest.raises(
        UsageError, match=rf"^{function.__name__} has no option 'overwritten'; it takes .*, overwrite, "
    ):
        function(tmp_path / "nowhere", tmp_path / "run", overwritten=True)
