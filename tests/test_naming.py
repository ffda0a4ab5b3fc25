"""Names: what torch calls its parameters can be a series, and nothing that no folder or no Zarr reader should have."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import zarr
from safetensors.numpy import save_file

import trajectory_store as ts
from tests.harness import format_reader
from trajectory_store import naming
from trajectory_store.backends.zarr import sink as zarr_sink
from trajectory_store.errors import SpecError
from trajectory_store.spec import check_name, check_new_names

pytestmark = pytest.mark.usefixtures("no_sync")

PARAMETERS = [
    "0.weight",
    "module.layers.10.attn.q_proj.weight",
    "_orig_mod.parametrizations.weight.original0",
    "transformer." + ".".join(f"_fsdp_wrapped_module.block_{n}" for n in range(7)) + ".weight",
    "step",
    "token",
    "c",
    "0",
]
"""What torch calls parameters, and words that mean something elsewhere in a run."""


@pytest.mark.parametrize("name", ["W", "a.b", "h_mean", "_", "x-1", "X" * 230, "1a", *PARAMETERS])
def test_names(name: str) -> None:
    """Each can be a series of a new run, with dimensions of its own, and comes back from JSON."""
    spec = ts.RunSpec({name: ts.Series((2, 3), "int8")})
    check_new_names([name])

    assert ts.RunSpec.from_json(spec.to_json()) == spec


WRONG_NAMES = [
    "",
    ".",
    "..",
    ".a",
    "a/b",
    "a\\b",
    "/a",
    " a",
    "a b",
    "-a",
    "ä",
    "a\n",
    "a\0",
    "a:b",
    "X" * 231,
    "\udcff",
]
OTHERS_NAMES = ["static", "lock", "journal", "zarr.json", "manifest.json", "__metadata__"]
RESERVED_LATER = ["__x", "__", "Lock", "STATIC", "Zarr.json"]


@pytest.mark.parametrize("name", [*WRONG_NAMES, *OTHERS_NAMES, 3, None, b"W"])
def test_names_that_no_run_has(name: Any) -> None:
    """Neither does one begin nor is one read with them; the error offers a name like it."""
    with pytest.raises(SpecError, match="cannot name a series"):
        check_name(name)
    with pytest.raises(SpecError, match="would do" if isinstance(name, str) else "cannot name"):
        check_new_names(["W", name])


@pytest.mark.parametrize("name", RESERVED_LATER)
def test_names_that_no_new_run_has(name: str) -> None:
    """Runs that have them stay readable."""
    check_name(name)
    with pytest.raises(SpecError, match="would do"):
        check_new_names([name])


@pytest.mark.parametrize("text", [*PARAMETERS, *WRONG_NAMES, *OTHERS_NAMES, *RESERVED_LATER, "X" * 5000, "../../x"])
def test_the_nearest_name_is_a_name(text: str) -> None:
    """Of a new run, not one that is taken, always the same, and the text itself where that is one."""
    near = naming.nearest_name(text)
    check_new_names([near])

    assert (near == text) == naming.can_name_in_new_run(text)
    assert near == naming.nearest_name(text)
    other = naming.free_name(near, {near})
    check_new_names([other])
    assert other not in (near, naming.free_name(near, {near, other}))


def test_long_names_that_begin_alike_stay_apart() -> None:
    """What is cut off counts."""
    assert naming.nearest_name("x" * 500 + "a") != naming.nearest_name("x" * 500 + "b")


def test_names_of_many_texts() -> None:
    """Each has one of its own: what is a name keeps it, a name that is chosen is left to whom it is for."""
    texts = ["a b", "a_b", "a/b", "a.b", *(f"x {n % 7}/{n}" for n in range(300)), "é", "ä", "_"]
    names = naming.names_for(texts, {"a_b": "W", "a.b": "a_b_2"})

    assert list(names) == texts
    assert len(set(names.values())) == len(texts)
    check_new_names(names.values())
    assert (names["a_b"], names["a.b"], names["a b"], names["a/b"]) == ("W", "a_b_2", "a_b", "a.b")
    assert (names["_"], names["é"], names["ä"]) == ("_", "_2", "_3")
    alike = naming.names_for(map(chr, range(0x4E00, 0x9000)))  # a file may have any number of them
    assert len(set(alike.values())) == len(alike)


@pytest.fixture(params=["temporal", "portable", "memmap"])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """How a run is stored."""
    return {"backend": "memmap"} if request.param == "memmap" else {"codec": request.param}


def rows(step: int) -> dict[str, np.ndarray]:
    """A frame of every name, some of them sparse."""
    every = {name: np.full((2, 3), step + number, np.float32) for number, name in enumerate(PARAMETERS)}
    return every if step % 2 == 0 else {name: row for name, row in every.items() if "weight" in name}


def test_a_run_of_odd_names(tmp_path: Path, options: dict[str, Any]) -> None:
    """Recorded, resumed, checked, exported; read by us, and by a reader written from the document alone."""
    series = {name: ts.Series((2, 3), "float32", steps=None if "weight" in name else 2) for name in PARAMETERS}
    static = {f"{number}.{word}": np.arange(3) for number, word in enumerate(("step", "lock", "W" * 200))}
    with ts.create(tmp_path / "run", series, steps=9, static=static, block_steps=3, **options) as sink:
        for step in range(5):
            sink.append(step, **rows(step))
    with ts.resume(tmp_path / "run", from_step=3) as sink:
        for step in range(4, 9):
            sink.append(step, **rows(step))

    assert list(ts.check(tmp_path / "run")) == []
    run = ts.open(tmp_path / "run")
    found, found_static = format_reader.read(tmp_path / "run")
    for name in PARAMETERS:
        expected = {step: rows(step)[name].tobytes() for step in range(9) if name in rows(step)}
        assert expected == {step: run[name].at_step(step).tobytes() for step in run[name].steps.tolist()}
        assert expected == {step: row.tobytes() for step, row in found[name].items()}
    assert static.keys() == run.static.keys() == found_static.keys()
    if options.get("codec") == "portable":
        group = zarr.open_group(tmp_path / "run", mode="r")
        assert {name: group[name][...].tobytes() for name in PARAMETERS} == {n: run[n][...].tobytes() for n in run}
    ts.export_safetensors(run, tmp_path / "exported")
    save_file({name: run[name][...] for name in PARAMETERS} | dict(static), tmp_path / "reference")
    assert (tmp_path / "reference").read_bytes() == (tmp_path / "exported").read_bytes()
    assert ts.compare(run, tmp_path / "exported").identical


def test_the_parameters_of_a_module(tmp_path: Path) -> None:
    """As `named_parameters` gives them, at half precision too."""
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ModuleDict({"q-proj": torch.nn.Linear(2, 1)}))
    model = model.to(torch.bfloat16)
    series = {name: ts.Series(tuple(one.shape), "bfloat16") for name, one in model.named_parameters()}
    with ts.create(tmp_path / "run", series) as sink:
        sink.append(0, **dict(model.named_parameters()))

    run = ts.open(tmp_path / "run")
    assert list(run) == ["0.weight", "0.bias", "1.q-proj.weight", "1.q-proj.bias"]
    for name, parameter in model.named_parameters():
        assert run[name][0].dtype == ml_dtypes.bfloat16
        assert run[name][0].tolist() == parameter.tolist()


def test_a_file_system_that_takes_two_names_for_one(tmp_path: Path) -> None:
    """Two series would write each other's blocks: the run does not begin."""
    series = {name: ts.Series((), "int8") for name in ("W", "w")}
    with ts.create(tmp_path / "run", series) as sink:
        sink.append(0, W=1, w=2)
    assert (ts.open(tmp_path / "run")["W"][0], ts.open(tmp_path / "run")["w"][0]) == (1, 2)
    manifest = zarr_sink.manifests.load(tmp_path / "run")
    for first, second in (("W", "w"), ("static/x", "static/X")):
        folder = tmp_path / second.replace("/", "_")
        (folder / second).parent.mkdir(parents=True)
        (folder / second).symlink_to(folder / first)
        arrays = {"x": np.zeros(2), "X": np.zeros(2)} if "x" in first else {}

        with pytest.raises(SpecError, match="capital letters"):
            zarr_sink.create(folder, manifest, arrays)
