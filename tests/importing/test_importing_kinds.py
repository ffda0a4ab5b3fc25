"""Files as others write them: what is sound in them is imported, and a finding says why of all the rest."""

import fcntl
import gzip
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import trajectory_store as ts
from trajectory_store.errors import (
    BusyError,
    MalformedFileError,
    RunNotFoundError,
    SeriesNotFoundError,
    SpecError,
    UsageError,
)
from trajectory_store.importing import importer, plan
from trajectory_store.importing.hdf5_file import ForeignHdf5, opened_with_cache

pytestmark = pytest.mark.usefixtures("no_sync")

h5py = pytest.importorskip("h5py")
from tests.harness.foreign_files import LOSS, RNG, W, write  # noqa: E402

V = RNG.standard_normal((30, 5)).astype(np.float32)


def said(imported: ts.Imported, name: str, why: str) -> bool:
    """Whether a finding says why an array was left out."""
    return any(f"left out: {name!r}" in finding and why in finding for finding in imported.findings)


def check_rest(path: Path, imported: ts.Imported, series: tuple[str, ...] = ("V",)) -> None:
    """V and nothing else is there, bit for bit."""
    assert imported.series == series
    assert np.array_equal(V, ts.open(path)["V"][...])
    assert list(ts.check(path)) == []


# What a file is


def legacy_torch() -> bytes:
    return pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + pickle.dumps(1001, protocol=2)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (bytes(4096), "unknown kind"),
        (b"step,loss\n0,1\n", "unknown kind"),
        (bytes(range(256)) * 64, "unknown kind"),
        (gzip.compress(bytes(99), mtime=0), "gzip"),
        (b"CDF\x01" + bytes(99), "netCDF-4"),
        (b"CDF\x05" + bytes(99), "netCDF-4"),
        (b"MATLAB 5.0 MAT-file".ljust(128), "-v7.3"),
        (pickle.dumps({"W": 1}), "never unpickled"),
        (legacy_torch(), "torch.save it again"),
        (b"PAR1" + bytes(99), "Parquet"),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_an_unknown_file_is_called_unknown(tmp_path: Path, content: bytes, words: str) -> None:
    """Not a broken file of a kind that it never was."""
    (tmp_path / "file.safetensors").write_bytes(content)

    with pytest.raises(UsageError, match=words):
        ts.import_file(tmp_path / "file.safetensors", tmp_path / "run")
    assert [tmp_path / "file.safetensors"] == list(tmp_path.iterdir())


@pytest.mark.parametrize("userblock", [0, 512, 1024, 8192])
def test_hdf5_behind_a_block_of_the_users(tmp_path: Path, userblock: int) -> None:
    """Wherever the standard lets its signature stand, whatever is before it."""
    with h5py.File(tmp_path / "run.mat", "w", userblock_size=userblock) as file:
        file["V"] = V
    with (tmp_path / "run.mat").open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(userblock)[:userblock])

    check_rest(tmp_path / "run", ts.import_file(tmp_path / "run.mat", tmp_path / "run"))


# safetensors


def safetensors_file(path: Path, entries: list[tuple[str, str, list[int], bytes]]) -> Path:
    """Tensors as (name, dtype code, shape, bytes), whatever the library thinks of them."""
    header: dict[str, Any] = {}
    at = 0
    for name, code, shape, data in entries:
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for *_, data in entries))
    return path


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    ("code", "n_bytes"),
    [("F8_E4M3", 90), ("F8_E5M2", 90), ("F8_E8M0", 90), ("F4", 45), ("F6_E2M3", 68), ("C64", 720), ("NEW", 7)],
)
def test_a_tensor_of_a_dtype_that_no_series_has(tmp_path: Path, code: str, n_bytes: int, place: int) -> None:
    """Wherever it lies, the others are imported, and readable where they are."""
    tensors = [("V", "F32", [30, 5], V.tobytes()), ("loss", "F32", [30], LOSS.tobytes())]
    tensors.insert(place, ("scale", code, [30, 3], bytes(n_bytes)))
    path = safetensors_file(tmp_path / "file", tensors)

    imported = ts.import_file(path, tmp_path / "run")

    check_rest(tmp_path / "run", imported, imported.series)
    assert set(imported.series) == {"V", "loss"}
    assert said(imported, "scale", code)
    with ts.open(path) as run:
        assert (set(run), set(run.static)) == ({"V", "loss"}, set())
        assert np.array_equal(V, run["V"][...])
    assert ts.compare(tmp_path / "run", path).identical


def test_a_file_of_nothing_else_says_why(tmp_path: Path) -> None:
    """For each."""
    tensors = [("a", "F8_E4M3", [30, 3], bytes(90)), ("b", "F32", [1] * 40, bytes(4)), ("c", "I8", [30, 0], b"")]
    path = safetensors_file(tmp_path / "file", tensors)

    with pytest.raises(SpecError, match=r"'a' has dtype F8_E4M3.*'b' has 40 axes.*'c' of shape \(30, 0\) is empty"):
        ts.import_file(path, tmp_path / "run")
    with pytest.raises(MalformedFileError, match=r"'a' has dtype F8_E4M3"):
        ts.open(path)


def test_a_tensor_without_entries_and_too_large_for_numpy(tmp_path: Path) -> None:
    """Its bytes are none, as its header says; numpy has no array of such a shape."""
    huge = [("V", "F32", [30, 5], V.tobytes()), ("huge", "F32", [0, 1 << 61, 1 << 61], b"")]
    path = safetensors_file(tmp_path / "file", huge)

    imported = ts.import_file(path, tmp_path / "run")

    check_rest(tmp_path / "run", imported)
    assert said(imported, "huge", "no array can have")
    with ts.open(path) as run:
        assert set(run.static) == set()


@pytest.mark.parametrize("backend", ["zarr", "memmap"])
def test_rows_of_as_many_axes_as_a_series_has(tmp_path: Path, backend: str) -> None:
    """With that of the steps they are one more, in an export, and come back."""
    shape = (2,) + (1,) * 29
    with ts.create(tmp_path / "run", {"V": ts.Series(shape, "float32")}, steps=2, backend=backend) as sink:
        for step in range(2):
            sink.append(step, V=np.full(shape, step, np.float32))
    ts.export_safetensors(tmp_path / "run", tmp_path / "exported")

    assert ts.import_file(tmp_path / "exported", tmp_path / "again").series == ("V",)
    assert ts.compare(tmp_path / "run", tmp_path / "again").identical
    assert ts.compare(tmp_path / "run", tmp_path / "exported").identical


def test_a_header_that_lies_is_still_refused(tmp_path: Path) -> None:
    """Of a dtype that is known, of one that is not, and of no dtype at all."""
    for code, shape, data in (("F32", [30, 5], V.tobytes()[:-4]), (["F32"], [1], bytes(4)), ("NEW", [-1], bytes(4))):
        path = safetensors_file(tmp_path / "file", [("V", code, shape, data)])
        with pytest.raises(MalformedFileError):
            ts.import_file(path, tmp_path / "run")
    path = safetensors_file(tmp_path / "file", [("V", "NEW", [3], bytes(4))])
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(MalformedFileError, match="its header describes"):
        ts.open(path)


def test_tensors_of_any_name_are_read_where_they_are(tmp_path: Path) -> None:
    """Under the names that an import gives them, so that run and file compare equal."""
    names = ["0.weight", "model/W", "a b", "a_b", "__x", "step", "x" * 400, "ä"]
    save_file({name: V + n for n, name in enumerate(names)}, tmp_path / "file")

    imported = ts.import_file(tmp_path / "file", tmp_path / "run")

    with ts.open(tmp_path / "file") as run:
        assert set(run) == set(imported.series) >= {"0.weight", "model.W", "a_b", "a_b_2", "_x", "step", "_"}
        assert np.array_equal(V + 2, run["a_b_2"][...])
        assert np.array_equal(V + 3, run["a_b"][...])
    assert ts.compare(tmp_path / "run", tmp_path / "file").identical


# HDF5


def custom_float(size: int, exponent: int, mantissa: int, bias: int) -> Any:
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(size * 8 - 1, mantissa, exponent, 0, mantissa)
    kind.set_size(size)
    kind.set_ebias(bias)
    return kind


def put(file: Any, name: str, kind: Any, values: np.ndarray, dcpl: Any = None) -> None:
    space = h5py.h5s.create_simple(values.shape)
    h5py.h5d.create(file.id, name.encode(), kind, space, dcpl).write(h5py.h5s.ALL, h5py.h5s.ALL, values)


@pytest.mark.parametrize("chunks", [None, (7, 5)])
@pytest.mark.parametrize("kind", [(2, 8, 7, 127), (2, 5, 10, 15), (1, 4, 3, 7), (3, 8, 15, 127)])
def test_number_types_of_hdf5s_own(tmp_path: Path, kind: tuple[int, int, int, int], chunks: Any) -> None:
    """bfloat16, half, 8 and 24 bits: they are whole, although they have other sizes in memory."""
    values = np.arange(150, dtype=np.float32).reshape(30, 5) % 16
    dcpl = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if chunks:
        dcpl.set_chunk(chunks)
    with h5py.File(tmp_path / "file", "w") as file:
        put(file, "V", custom_float(*kind), values, dcpl)

    assert ts.import_file(tmp_path / "file", tmp_path / "run").series == ("V",)
    assert np.array_equal(values, ts.open(tmp_path / "run")["V"][...].astype(np.float32))


def test_integers_enums_and_flags_of_hdf5(tmp_path: Path) -> None:
    """Big-endian, a bool that h5py writes as an enum, colours."""
    with h5py.File(tmp_path / "file", "w") as file:
        file["V"] = V
        file["be"] = V.astype(">i4")
        file["flag"] = V > 0
        put(file, "bits", h5py.h5t.NATIVE_B8, (V > 0).astype(np.uint8))
        file.create_dataset("colour", data=np.arange(30) % 3, dtype=h5py.enum_dtype({"r": 0, "g": 1, "b": 2}, "i1"))

    imported = ts.import_file(tmp_path / "file", tmp_path / "run")

    run = ts.open(tmp_path / "run")
    assert {name: one.dtype for name, one in run.series.items()} == {
        "V": "float32",
        "be": "int32",
        "bits": "uint8",
        "colour": "int8",
        "flag": "bool",
    }
    assert np.array_equal(V.astype(np.int32), run["be"][...])
    assert np.array_equal(V > 0, run["flag"][...])
    assert imported.findings == ()


def odd_datasets(file: Any, folder: Path) -> dict[str, str]:
    """Datasets that cannot be imported → what the finding says."""
    text = h5py.string_dtype()
    file.create_dataset("text", data=["a"] * 30, dtype=text)
    file["fixed"] = np.array([b"abc"] * 30)
    file["records"] = np.zeros(30, dtype=[("a", "f4"), ("b", "i8")])
    file["complex"] = np.zeros((30, 2), np.complex64)
    file.create_dataset("ragged", (30,), h5py.vlen_dtype("f4"))
    file.create_dataset("reference", (30,), h5py.ref_dtype)
    file["opaque"] = np.zeros(30, "V7")
    file.create_dataset("items", (30,), np.dtype(("f4", (3,))))
    file["nothing"] = h5py.Empty("f4")
    file["empty"] = np.zeros((30, 0))
    file.create_dataset("unwritten", (30, 5), "f8")
    file.create_dataset("partly", (30, 5), "f8", chunks=(10, 5))[:10] = 1
    file["soft"] = h5py.SoftLink("/V")
    file["dangling"] = h5py.SoftLink("/nowhere")
    file["outside"] = h5py.ExternalLink("missing.h5", "/W")
    file["z_again"] = file["V"]
    loop = file.create_group("loop")
    loop["self"] = loop
    file.create_dataset("external", (30, 4), "u1", external=[(str(folder / "missing"), 0, 120)])
    layout = h5py.VirtualLayout((30, 5), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "missing.h5"), "W", (30, 5))
    file.create_virtual_dataset("virtual", layout)
    scale = file.create_dataset("x", (5,), ">f4")
    scale.make_scale("This is a netCDF dimension but not a netCDF variable.         5")
    file["V"].dims[1].attach_scale(scale)
    dcpl = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    dcpl.set_chunk((30, 5))
    dcpl.set_filter(32_999, h5py.h5z.FLAG_OPTIONAL, (1,))
    dataset = h5py.h5d.create(file.id, b"filtered", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((30, 5)), dcpl)
    dataset.write_direct_chunk((0, 0), bytes(99))
    return {
        "text": "holds text",
        "fixed": "holds text",
        "records": "records",
        "complex": "records",
        "ragged": "different lengths",
        "reference": "references",
        "opaque": "without a number type",
        "items": "arrays as items",
        "nothing": "no values",
        "empty": "is empty",
        "unwritten": "never written",
        "partly": "2 of its 3 chunks",
        "soft": "a link to '/V'",
        "dangling": "a link to '/nowhere'",
        "outside": "missing.h5",
        "z_again": "another name of 'V'",
        "loop/self": "another name of 'loop'",
        "external": "in another file",
        "virtual": "elsewhere",
        "x": "netCDF dimension",
        "filtered": "filter 32999",
    }


def test_one_dataset_never_refuses_the_others(tmp_path: Path) -> None:
    """Each kind that HDF5 has, with its reason."""
    with h5py.File(tmp_path / "file", "w") as file:
        file["V"] = V
        reasons = odd_datasets(file, tmp_path)

    imported = ts.import_file(tmp_path / "file", tmp_path / "run")

    check_rest(tmp_path / "run", imported)
    assert imported.static == ()
    for name, why in reasons.items():
        assert said(imported, name, why), (name, imported.findings)
    assert len(imported.findings) == len(reasons)


def test_a_file_of_odd_datasets_alone_says_why(tmp_path: Path) -> None:
    """The first twenty, and how many more."""
    with h5py.File(tmp_path / "file", "w") as file:
        file["V"] = V
        n = len(odd_datasets(file, tmp_path))
        del file["V"], file["z_again"], file["soft"]

    with pytest.raises(SpecError, match=rf"'records' holds records.*and {n - 2 - 20} more|'records' holds records"):
        ts.import_file(tmp_path / "file", tmp_path / "run")
    assert [tmp_path / "file"] == list(tmp_path.iterdir())


def test_groups_of_any_depth(tmp_path: Path) -> None:
    """Their path is the name, shortened where no folder could have it."""
    with h5py.File(tmp_path / "file", "w") as file:
        group = file
        for _ in range(1500):
            group = group.create_group("deep")
        group["V"] = V
        file["a/b"] = V
        file["a.b"] = V + 1

    imported = ts.import_file(tmp_path / "file", tmp_path / "run")

    assert set(imported.series) > {"a.b", "a.b_2"}
    run = ts.open(tmp_path / "run")
    (deep,) = set(run) - {"a.b", "a.b_2"}
    assert len(deep) == 230
    assert np.array_equal(V, run[deep][...])
    assert np.array_equal(V + 1, run["a.b"][...])
    assert np.array_equal(V, run["a.b_2"][...])


def test_many_broken_datasets_are_found_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The import begins again once for all series, and once for all static arrays: not once for each."""
    with h5py.File(tmp_path / "file", "w") as file:
        file["V"] = V
        offsets = []
        for n in range(40):
            created = file.create_dataset(f"b{n}", data=V if n % 2 else V[:7], chunks=(7, 5), fletcher32=True)
            offsets.append(created.id.get_chunk_info(0).byte_offset)
    content = bytearray((tmp_path / "file").read_bytes())
    for offset in offsets:
        content[offset] ^= 1
    (tmp_path / "file").write_bytes(content)
    opened: list[Path] = []
    monkeypatch.setattr(importer, "ForeignHdf5", lambda path: opened.append(path) or ForeignHdf5(path))

    imported = ts.import_file(tmp_path / "file", tmp_path / "run")

    check_rest(tmp_path / "run", imported)
    assert (len(opened), len(imported.findings)) == (3, 40)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """HDF5's names are bytes, of datasets, groups and attributes."""
    with h5py.File(tmp_path / "file", "w") as file:
        file[b"na\xffme"] = V
        file.create_group(b"gr\xfe")[b"x"] = V
        file.attrs[b"lr\xff"] = 0.1

    imported = ts.import_file(tmp_path / "file", tmp_path / "run")

    assert set(imported.series) == {"na_me", "gr_.x"}
    assert sum("in the file; choose another name" in finding for finding in imported.findings) == 2
    assert list(ts.open(tmp_path / "run").attrs.values()) == ["file", 0.1]


def test_a_broken_chunk_leaves_out_its_dataset(tmp_path: Path) -> None:
    """Found when it is read, in a series and in a static array."""
    with h5py.File(tmp_path / "file", "w") as file:
        file["V"] = V
        offsets = []
        for name in ("broken", "mask"):
            data = V if name == "broken" else V[:7]
            created = file.create_dataset(name, data=data, chunks=(7, 5), fletcher32=True)
            offsets.append(created.id.get_chunk_info(created.id.get_num_chunks() - 1).byte_offset)
    content = bytearray((tmp_path / "file").read_bytes())
    for offset in offsets:
        content[offset] ^= 1
    (tmp_path / "file").write_bytes(content)

    imported = ts.import_file(tmp_path / "file", tmp_path / "run")

    check_rest(tmp_path / "run", imported)
    assert [("'broken'" in one, "'mask'" in one) for one in imported.findings] == [(False, True), (True, False)]
    assert {"file", "run"} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [((1, 1000), 2000), ((10, 300), 4 * 6000), ((64, 1000), 128_000), ((100, 1), 1000 * 200), (None, None)],
)
def test_a_cache_holds_the_chunks_that_some_rows_are_in(tmp_path: Path, chunks: Any, expected: int | None) -> None:
    """Smaller, and a chunk would be decoded once for every read; larger, and many datasets would take all memory."""
    with h5py.File(tmp_path / "file", "w") as file:
        file.create_dataset("W", (100, 1000), "u2", chunks=chunks, compression=chunks and "gzip")
    with h5py.File(tmp_path / "file", "r") as file:
        usual = h5py.h5p.create(h5py.h5p.DATASET_ACCESS).get_chunk_cache()[1]
        dataset = opened_with_cache(file["/"], b"W")

        assert dataset.id.get_access_plist().get_chunk_cache()[1] == (expected or usual)


def test_matlabs_own_things(tmp_path: Path) -> None:
    """Text, cells and empty arrays are left out, and that axes are reversed is said."""
    with h5py.File(tmp_path / "file", "w") as file:
        file["V"] = V
        file["name"] = np.frombuffer("thirty characters of a title!!".encode("utf-16-le"), "u2").reshape(30, 1)
        file["none"] = np.zeros(2, "u8")
        file["#refs#/a"] = V
        for name, kind in (("V", "single"), ("name", "char"), ("none", "double")):
            file[name].attrs["MATLAB_class"] = np.bytes_(kind)
        file["none"].attrs["MATLAB_empty"] = np.uint8(1)

    imported = ts.import_file(tmp_path / "file", tmp_path / "run")

    check_rest(tmp_path / "run", imported)
    assert said(imported, "name", "text")
    assert said(imported, "none", "empty")
    assert said(imported, "#refs#", "cells")
    assert any("size(V) there is (5, 30)" in finding for finding in imported.findings)


def test_packed_values_are_said_to_be(tmp_path: Path) -> None:
    """netCDF stores ints for what is scaled and shifted; they are imported, and a finding says what they mean."""
    with h5py.File(tmp_path / "file", "w") as file:
        for name, attrs in (
            ("both", {"scale_factor": 0.5, "add_offset": np.array([20.0])}),
            ("one", {"add_offset": 3}),
        ):
            file[name] = np.arange(30, dtype=np.int16)
            file[name].attrs.update(attrs)
        file["plain"] = V
        file["plain"].attrs["scale_factor"] = "none"

    imported = ts.import_file(tmp_path / "file", tmp_path / "run")

    packed = [finding for finding in imported.findings if "packed" in finding]
    assert [finding.partition(";")[0] for finding in packed] == [
        "both: packed, with scale_factor=0.5 and add_offset=20.0",
        "one: packed, with add_offset=3.0",
    ]


def test_attributes_that_no_manifest_has_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finding, not the end of the import."""
    monkeypatch.setattr(plan, "LARGEST_ATTRS_BYTES", 1000)
    with h5py.File(tmp_path / "file", "w") as file:
        file["V"] = V
        file.attrs["history"] = "x" * 990
        file.attrs["lr"] = 0.1

    imported = ts.import_file(tmp_path / "file", tmp_path / "run")

    assert imported.findings == ("left out: attribute 'history' is too large",)
    assert ts.open(tmp_path / "run").attrs["lr"] == 0.1


def test_a_file_that_is_being_written(tmp_path: Path) -> None:
    """It is busy, not broken."""
    path = write("hdf5", tmp_path / "file", {"V": V})
    with path.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="open for writing"):
            ts.import_file(path, tmp_path / "run")


# numpy


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def saved(array: np.ndarray, *, pickled: bool = False) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=pickled)
    return out.getvalue()


ODD_MEMBERS: dict[str, tuple[bytes, str]] = {
    "axes": (npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {(1,) * 100}}}", bytes(4)), "100 axes"),
    "axes of fortran": (npy(f"{{'descr': '<f4', 'fortran_order': True, 'shape': {(1,) * 65}}}", bytes(4)), "65 axes"),
    "complex": (saved(np.zeros((30, 2), np.complex64)), "complex64"),
    "text": (saved(np.array(["a"] * 30)), "<U1"),
    "bytes": (saved(np.array([b"a"] * 30)), "|S1"),
    "records": (saved(np.zeros(30, [("a", "f4"), ("b", "f4")])), "('a', '<f4')"),
    "dates": (saved(np.zeros(30, "M8[s]")), "datetime64"),
    "long": (saved(np.zeros((30, 2), np.longdouble)), "float128"),
    "objects": (saved(np.array([None] * 30), pickled=True), "never unpickled"),
    "empty": (saved(np.zeros((30, 0))), "is empty"),
    "empty and huge": (
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (30, 9999999999999999999, 0)}"),
        "is empty",
    ),
    "shorter": (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (30, 5)}", bytes(599)), "599 bytes"),
    "longer": (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (30, 5)}", bytes(601)), "601 bytes"),
    "overflow": (npy(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({1 << 62}, {1 << 62})}}"), "0 bytes"),
    "negative": (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -4)}", bytes(16)), "shape"),
    "not numpy": (b"hello", "magic"),
    "nothing": (b"", "magic"),
    "header": (npy("__import__('os')"), "header"),
    "descr": (npy("{'descr': 'zzz', 'fortran_order': False, 'shape': (30,)}", bytes(30)), "descr"),
    "version": (b"\x93NUMPY\x09\x00" + bytes(99), "version (9, 0)"),
}


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def test_one_array_of_an_archive_never_refuses_the_others(tmp_path: Path) -> None:
    """Each way to be no array that a run can have, with its reason; nothing is allocated by what a header claims."""
    members = {"V": saved(V), **{name: content for name, (content, _) in ODD_MEMBERS.items()}}

    imported = ts.import_file(archive(tmp_path / "file", members), tmp_path / "run")

    check_rest(tmp_path / "run", imported)
    assert imported.static == ()
    for name, (_, why) in ODD_MEMBERS.items():
        assert said(imported, name, why), (name, imported.findings)


@pytest.mark.parametrize("name", ODD_MEMBERS)
def test_an_odd_array_alone_is_one_sentence(tmp_path: Path, name: str) -> None:
    """As a .npy file too."""
    content, why = ODD_MEMBERS[name]
    archive(tmp_path / "file", {name: content})
    (tmp_path / "file.npy").write_bytes(content)

    for file in ("file", "file.npy"):
        with pytest.raises((SpecError, MalformedFileError, UsageError)) as raised:
            ts.import_numpy(tmp_path / file, tmp_path / "run")
        assert why.replace("magic", "") in str(raised.value)
    assert {"file", "file.npy"} == {path.name for path in tmp_path.iterdir()}


def test_a_static_array_of_thirty_axes_is_the_most(tmp_path: Path) -> None:
    """One more is left out, in a run's own words."""
    arrays = {"V": V, "thirty": np.ones((1,) * 30), "more": np.ones((1,) * 31), "many": np.ones((1,) * 64)}
    np.savez(tmp_path / "file.npz", **arrays)

    imported = ts.import_file(tmp_path / "file.npz", tmp_path / "run")

    check_rest(tmp_path / "run", imported)
    assert imported.static == ("thirty",)
    assert said(imported, "more", "31 axes")
    assert said(imported, "many", "64 axes")


def test_scalars_big_endian_and_empty_names(tmp_path: Path) -> None:
    """What numpy writes without a second thought."""
    np.savez(tmp_path / "file.npz", V=V.astype(">f4"), lr=np.array(0.1), **{"layer 1/W": V, "": V})

    imported = ts.import_file(tmp_path / "file.npz", tmp_path / "run", first_step={"layer 1/W": 1, "layer_1.W": 1})

    run = ts.open(tmp_path / "run")
    assert set(run) == {"V", "layer_1.W", "_"}
    assert float(run.static["lr"]) == 0.1
    assert np.array_equal(V, run["V"][...])
    assert run["layer_1.W"].steps[0] == 1
    assert any("layer_1.W: called 'layer 1/W' in the file" in finding for finding in imported.findings)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_broken_members_of_an_archive(tmp_path: Path) -> None:
    """A wrong checksum, a method of compression that nobody has, a name that two arrays have, a folder."""
    with zipfile.ZipFile(tmp_path / "file", "w") as file:
        for name in ("V.npy", "crc.npy", "method.npy", "twice.npy", "twice.npy", "both.npy", "both"):
            file.writestr(name, saved(V))
        file.writestr("late.npy", saved(np.zeros((30, 5000), np.float32)))
        file.mkdir("folder")
        offsets = {info.filename: info.header_offset for info in file.infolist()}
    content = bytearray((tmp_path / "file").read_bytes())
    for at in (content.index(b"crc.npy") + 500, content.index(b"late.npy") + 590_000):
        content[at] ^= 1
    for at in (offsets["method.npy"] + 8, content.rindex(b"method.npy") - 36):
        content[at : at + 2] = (77).to_bytes(2, "little")
    (tmp_path / "file").write_bytes(content)

    imported = ts.import_file(tmp_path / "file", tmp_path / "run")

    check_rest(tmp_path / "run", imported)
    assert said(imported, "crc", "Bad CRC")
    assert any("'late' cannot be read from row 0: Bad CRC" in finding for finding in imported.findings)
    assert said(imported, "method", "compression")
    assert said(imported, "twice", "two arrays of this name")
    assert said(imported, "both", "two arrays of this name")


# What becomes a series


@pytest.mark.parametrize("kind", ["safetensors", "npz", "hdf5"])
def test_a_state_before_the_first_update(tmp_path: Path, kind: str) -> None:
    """W has a row more than the loss: both are series, and a finding says how they were laid beside each other."""
    arrays = {"W": V[:21], "loss": LOSS[:20], "mask": np.arange(21), "lr": LOSS[:20]}
    path = write(kind, tmp_path / "file", arrays)

    imported = ts.import_file(path, tmp_path / "run")

    run = ts.open(tmp_path / "run")
    assert {name: len(run[name]) for name in run} == {"W": 21, "loss": 20, "mask": 21, "lr": 20}
    assert run["loss"].steps.tolist() == list(range(20))
    assert any("loss" in finding and "first_step={'loss': 1}" in finding for finding in imported.findings)
    if kind == "safetensors":
        assert ts.compare(run, path).identical
        with ts.open(path) as opened:
            assert {name: len(opened[name]) for name in opened} == {"W": 21, "loss": 20, "mask": 21, "lr": 20}
    later = ts.import_file(path, tmp_path / "later", first_step={"loss": 1, "lr": 1})
    assert (later.steps, later.findings) == (21, ())


@pytest.mark.parametrize(("rows", "is_said"), [(29, True), (12, True), (31, False)])
def test_the_largest_array_is_never_silently_static(tmp_path: Path, rows: int, is_said: bool) -> None:
    """A finding says that it is, and how it becomes a series."""
    np.savez(tmp_path / "file.npz", V=np.zeros((rows, 500)), loss=LOSS)

    imported = ts.import_file(tmp_path / "file.npz", tmp_path / "run")

    assert (
        any("V: a static array" in finding and "first_step={'V'" in finding for finding in imported.findings) == is_said
    )
    assert ("V" in imported.series) == (not is_said)


def test_what_no_series_or_static_array_has_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left out with what to do, while the rest is imported."""
    monkeypatch.setattr(plan, "LARGEST_STATIC_BYTES", 1000)
    np.savez(tmp_path / "file.npz", V=V, big=np.zeros((40, 4)), loss=LOSS)
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["V"] = V
        file.create_dataset("wide", (30, 1 << 28), "f8", chunks=(30, 1 << 20), compression="gzip")

    assert said(ts.import_file(tmp_path / "file.npz", tmp_path / "run"), "big", "first_step={'big': 1}")
    check_rest(tmp_path / "other", ts.import_file(tmp_path / "file.h5", tmp_path / "other"))


# Names


def test_renaming(tmp_path: Path) -> None:
    """By the file's own name, for any array; another array does not get a name that was asked for."""
    file = write("npz", tmp_path / "file.npz", {"a b": V, "W": V + 1, "x": V[:, 0], "loss": LOSS})

    imported = ts.import_file(file, tmp_path / "run", rename={"a b": "W", "x": "0.bias"}, bfloat16=())

    run = ts.open(tmp_path / "run")
    assert set(imported.series) == {"W", "W_2", "0.bias", "loss"}
    assert np.array_equal(V, run["W"][...])
    assert np.array_equal(V + 1, run["W_2"][...])
    assert [finding for finding in imported.findings if "called" in finding] == [
        "W_2: called 'W' in the file; choose another name with rename={'W': …}"
    ]


@pytest.mark.parametrize(
    ("rename", "error"),
    [
        ({"nothing": "a"}, SeriesNotFoundError),
        ({"W": "a b"}, SpecError),
        ({"W": "static"}, SpecError),
        ({"W": "__x"}, SpecError),
        ({"W": "V", "loss": "V"}, UsageError),
        ({"W": 3}, SpecError),
        (["W", "V"], UsageError),
        ("W=V", UsageError),
    ],
    ids=str,
)
def test_wrong_renaming(tmp_path: Path, rename: Any, error: type[Exception]) -> None:
    """One sentence, and nothing is left."""
    file = write("npz", tmp_path / "file", {"W": W, "loss": LOSS})

    with pytest.raises(error):
        ts.import_file(file, tmp_path / "run", rename=rename)
    assert [file] == list(tmp_path.iterdir())


def test_a_first_step_of_any_integer(tmp_path: Path) -> None:
    """numpy's too; a list of names is refused in one sentence."""
    file = write("npz", tmp_path / "file", {"V": V, "loss": LOSS})

    ts.import_file(file, tmp_path / "run", first_step={"V": np.int64(2)})

    assert ts.open(tmp_path / "run")["V"].steps[0] == 2
    with pytest.raises(UsageError, match="give a mapping"):
        ts.import_file(file, tmp_path / "other", first_step=["V"])


def test_an_option_that_names_what_was_left_out_says_why(tmp_path: Path) -> None:
    """Not only that it is not there."""
    file = write("npz", tmp_path / "file", {"W": W, "c": np.zeros(30, np.complex64)})

    for options in ({"first_step": {"c": 1}}, {"bfloat16": ["c"]}):
        with pytest.raises(SeriesNotFoundError, match="complex64"):
            ts.import_file(file, tmp_path / "run", **options)


# torch


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def test_tensors_of_a_saved_object(tmp_path: Path, torch: Any) -> None:
    """Nested, at half precision, strided, as parameters, numpy's too; plain values are attributes."""
    bits = torch.from_numpy(W.view(np.int16)).view(torch.bfloat16)
    saved_object = {
        "W": bits,
        "loss": torch.from_numpy(LOSS),
        "optimizer": {"state": {0: {"exp_avg": torch.from_numpy(np.ascontiguousarray(V.T)).T}}},
        "history": [np.arange(30), torch.nn.Parameter(torch.ones(30, 2))],
        "step": 29,
        "name": "Thimble",
        "nan": float("nan"),
        "lr": np.float64(0.5),
        "none": None,
    }
    torch.save(saved_object, tmp_path / "file.pt")

    imported = ts.import_file(tmp_path / "file.pt", tmp_path / "run")

    run = ts.open(tmp_path / "run")
    assert set(run) == {"W", "loss", "optimizer.state.0.exp_avg", "history.0", "history.1"}
    assert run.series["W"].dtype == "bfloat16"
    assert np.array_equal(W, run["W"].bits[...])
    assert np.array_equal(V, run["optimizer.state.0.exp_avg"][...])
    assert run["history.0"][...].tolist() == list(range(30))
    assert dict(run.attrs) == {"imported_from": "file.pt", "step": 29, "name": "Thimble", "lr": 0.5}
    assert imported.findings[0] == "left out: 'nan' is a float, which is no array"


def test_one_tensor_has_the_files_name(tmp_path: Path, torch: Any) -> None:
    """Or the one that is given."""
    torch.save(torch.from_numpy(V), tmp_path / "my weights.pth")

    assert ts.import_file(tmp_path / "my weights.pth", tmp_path / "a").series == ("my_weights",)
    check_rest(tmp_path / "b", ts.import_torch(tmp_path / "my weights.pth", tmp_path / "b", name="V"))


def odd_tensors(torch: Any) -> dict[str, Any]:
    return {
        "float8": torch.zeros(30, 2).to(torch.float8_e4m3fn),
        "complex": torch.zeros(30, 2, dtype=torch.complex64),
        "conj": torch.zeros(30, 2, dtype=torch.complex64).conj(),
        "sparse": torch.eye(30).to_sparse(),
        "csr": torch.eye(30).to_sparse_csr(),
        "meta": torch.zeros(30, 2, device="meta"),
        "repeated": torch.zeros(1, 2).expand(30, 2),
        "empty": torch.zeros(30, 0),
        "axes": torch.zeros((1,) * 40),
        "text": np.array(["a"] * 30),
        "objects": np.array([None] * 30),
        "dates": np.zeros(30, "M8[s]"),
    }


@pytest.mark.filterwarnings("ignore:Sparse")
def test_one_tensor_never_refuses_the_others(tmp_path: Path, torch: Any) -> None:
    """Each kind that numpy has not."""
    odd = odd_tensors(torch)
    torch.save({"V": torch.from_numpy(V), **odd}, tmp_path / "file")

    imported = ts.import_file(tmp_path / "file", tmp_path / "run")

    check_rest(tmp_path / "run", imported)
    assert imported.static == ()
    for name in odd:
        assert said(imported, name, ""), (name, imported.findings)


def test_two_tensors_of_one_path_are_both_kept(tmp_path: Path, torch: Any) -> None:
    """A key may have a slash in it, and 3 and "3" are two keys."""
    ones, twos = torch.ones(30), torch.full((30,), 2.0)
    torch.save({"a": {"b": ones}, "a/b": twos, 3: ones, "3": twos, "V": torch.from_numpy(V)}, tmp_path / "file")

    imported = ts.import_file(tmp_path / "file", tmp_path / "run")

    run = ts.open(tmp_path / "run")
    assert {name: float(run[name][0]) for name in set(run) - {"V"}} == {"a.b": 1, "a.b_2": 2, "3": 1, "3_2": 2}
    assert sum("one more array at" in finding for finding in imported.findings) == 2


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return Path("bombed").touch, ()  # type: ignore[return-value]


def test_no_code_of_a_file_is_run(tmp_path: Path, torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch refuses the whole file, and the error says what to save instead; a whole module is such a file too."""
    monkeypatch.chdir(tmp_path)
    for number, saved_object in enumerate(({"V": torch.from_numpy(V), "x": Bomb()}, torch.nn.Linear(2, 2))):
        torch.save(saved_object, tmp_path / f"{number}.pt")
        with pytest.raises(UsageError, match=r"such as [\w.]+, which .*state_dict"):
            ts.import_file(tmp_path / f"{number}.pt", tmp_path / "run")
    assert {"0.pt", "1.pt"} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.filterwarnings("ignore")
def test_a_program_of_torchs_is_called_one(tmp_path: Path, torch: Any) -> None:
    """TorchScript archives are zip files of torch too."""
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "file.pt")

    for read in (ts.import_file, ts.import_torch):
        with pytest.raises(UsageError, match="TorchScript"):
            read(tmp_path / "file.pt", tmp_path / "run")


def test_files_of_torch_that_cannot_be_imported(tmp_path: Path, torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The format before 1.6, a file that is cut or whose pickle is broken, a file that is not there, and no torch."""
    torch.save({"V": torch.from_numpy(V)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(UsageError, match=r"torch\.save it again"):
        ts.import_file(tmp_path / "old.pt", tmp_path / "run")
    torch.save({"V": torch.from_numpy(V)}, tmp_path / "file.pt")
    content = (tmp_path / "file.pt").read_bytes()
    for broken in (content[:-200], content.replace(b"ctorch._utils", b"ctorch._xtils"), content[:300]):
        (tmp_path / "broken.pt").write_bytes(broken)
        for read in (ts.import_file, ts.import_torch):
            with pytest.raises((MalformedFileError, UsageError)):
                read(tmp_path / "broken.pt", tmp_path / "run")
    with pytest.raises(RunNotFoundError):
        ts.import_torch(tmp_path / "nowhere.pt", tmp_path / "run")
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(UsageError, match="needs torch"):
        ts.import_file(tmp_path / "file.pt", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_bfloat16_of_numpy_beside_torchs(tmp_path: Path) -> None:
    """Two bytes without a type, as numpy.save writes ml_dtypes' bfloat16, in an archive whose rest is odd."""
    members = {"W": saved(W.view(ml_dtypes.bfloat16)), "readme": b"hello"}

    imported = ts.import_file(archive(tmp_path / "file", members), tmp_path / "run")

    assert imported.series == ("W",)
    assert np.array_equal(W, ts.open(tmp_path / "run")["W"].bits[...])
