"""The house: imports go down docs/design.md's drawing, no file is in a circle, the store knows neither torch nor the
trainer, and the door is in order."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import trajectory_store as ts
from trajectory_store import moved

PACKAGE = Path(ts.__file__).parent
DESIGN = PACKAGE.parent / "docs" / "design.md"

FOREIGN = {"torch", "trainer"}
KNOWS_TORCH = {"importing.torch_file", "run.series", "run.tensors"}
"""Modules that are given a torch tensor, or asked for one."""
HEAVY = ("torch", "trainer", "zarr", "xarray", "dask", "numba", "h5py", "matplotlib", "tqdm")
"""What `import trajectory_store` must not import: half of a second and more, or not installed."""


def drawing() -> list[list[str]]:
    """The lines of docs/design.md's drawing, from the top: a package with a slash and its modules, or flat modules."""
    text = DESIGN.read_text()
    lines: list[list[str]] = []
    for line in text[text.index("<!-- layers -->") : text.index("<!-- /layers -->")].splitlines()[2:-1]:
        if line[0].isspace():
            lines[-1] += line.split()
        else:
            lines.append(line.split())
    return lines


@cache
def modules() -> dict[str, ast.Module]:
    """Every file of the package, by its dotted name below the package; "" is the package's own face."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name] = ast.parse(path.read_text(), str(path))
    return found


def is_package(name: str) -> bool:
    return not name or (PACKAGE / Path(*name.split("."))).is_dir()


def imports(name: str, tree: ast.AST, *, late: bool = False) -> Iterator[tuple[str, bool]]:
    """(what is imported, whether late) by a module; names of the package without `trajectory_store`.

    Late is what a function imports, or what is imported for annotations only.
    """
    for node in ast.iter_child_nodes(tree):
        is_annotation = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        is_late = late or is_annotation or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if isinstance(node, ast.Import):
            yield from ((alias.name, is_late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((f"{node.module}.{alias.name}", is_late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = node.level - 1 if is_package(name) else node.level
            parts = name.split(".") if name else []
            base = ["trajectory_store", *parts[: len(parts) - above], *([node.module] if node.module else [])]
            yield from ((".".join([*base, alias.name]), is_late) for alias in node.names)
        else:
            yield from imports(name, node, late=is_late)


def edges() -> Iterator[tuple[str, str, bool]]:
    """(importing module, imported module, whether late) inside of the package; both dotted."""
    for name, tree in modules().items():
        for imported, is_late in imports(name, tree):
            parts = imported.split(".")
            if parts[0] != "trajectory_store":
                continue
            target = ".".join(parts[1:])
            yield name, target if target in modules() else ".".join(parts[1:-1]), is_late


def room(name: str) -> str:
    """The name on the drawing that a module belongs to."""
    return name.split(".")[0]


def test_the_drawing_has_every_module() -> None:
    """docs/design.md draws what there is, and nothing else: every package with its modules, and every flat module."""
    drawn: list[str] = []
    for first, *others in drawing():
        drawn += [first + other for other in others] if first.endswith("/") else [first, *others]
    assert sorted(drawn) == sorted(name.replace(".", "/") for name in modules() if not is_package(name))


def test_imports_go_down_the_drawing() -> None:
    """No module imports one that is drawn on its line or above it, inside of functions neither."""
    level = {"": -1}
    for number, names in enumerate(drawing()):
        for name in names[:1] if names[0].endswith("/") else names:
            level[name.rstrip("/")] = number
    for name, imported, is_late in edges():
        if room(name) == room(imported):
            continue
        if room(imported) == "" and room(name) == "commands" and is_late:
            continue  # a command is a user of the public names; it imports late, so that --help answers at once
        assert level[room(imported)] > level[room(name)], f"{name} imports {imported}"


def test_no_file_is_in_a_circle() -> None:
    """Following imports, those of functions and of annotations included, never leads back."""
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for name, imported, _ in edges():
        if imported:
            graph[name].add(imported)
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join([*path[path.index(name) :], name])
        if name not in done:
            for imported in sorted(graph[name]):
                visit(imported, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_store_knows_neither_torch_nor_the_trainer() -> None:
    """But in functions that are given a torch tensor, or asked for one."""
    for name, tree in modules().items():
        for imported, is_late in imports(name, tree):
            if imported.split(".")[0] in FOREIGN:
                assert imported.split(".")[0] == "torch", name
                assert is_late, name
                assert name in KNOWS_TORCH, name


def test_only_the_seam_changes_files() -> None:
    """fsync, rename, truncate and unlink are called in `files` alone, so that tests can break all of them."""
    calls = {"fsync", "fdatasync", "rename", "replace", "ftruncate", "truncate", "pwrite", "pwritev", "flock"}
    for name, tree in modules().items():
        if name in ("files", "backends.writer_lock"):
            continue
        others = calls - {"flock"} if name == "journal.spare" else calls  # a lock changes nothing on disk
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in others:
                owner = ast.unparse(node.func.value)
                assert owner not in ("os", "fcntl", "shutil"), f"{name}: {owner}.{node.func.attr}"


def modules_after(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_import_is_light() -> None:
    """`import trajectory_store` imports nothing heavy; and this test would see it."""
    assert modules_after("import trajectory_store").isdisjoint(HEAVY)
    assert "zarr" in modules_after("import trajectory_store.codec.zarr_plugin")


@pytest.mark.parametrize("package", [ts, ts.analysis, ts.report], ids=lambda package: package.__name__)
def test_all_is_sorted_and_complete(package: ModuleType) -> None:
    """`__all__` has every public name that a package binds, and no other, and each can be had."""
    exported = package.__all__
    assert exported == sorted(exported)
    tree = ast.parse(Path(package.__file__).read_text())
    relative = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    assigned = {node.targets[0].id for node in tree.body if isinstance(node, ast.Assign)}
    public = {name for name in assigned - {"__all__"} if name.startswith("__") or not name.startswith("_")}
    bound = {alias.asname or alias.name for node in relative for alias in node.names} | public
    assert {name for name in bound if not name.startswith("_") or name in exported} == set(exported)
    for name in exported:
        assert getattr(package, name) is not None


def test_what_comes_late_is_what_type_checkers_see() -> None:
    """The names that are imported when they are asked for are the same in both places, and `dir` knows them before."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    checked = [node for block in tree.body if isinstance(block, ast.If) for node in block.body]
    late = {node.module: tuple(alias.name for alias in node.names) for node in checked}
    assert late.pop(None) == ts._LATE_MODULES
    assert late == ts._LATE
    assert dir(ts) == ts.__all__
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        ts.nonsense  # noqa: B018


def test_a_late_module_is_not_imported_before_it_is_asked_for() -> None:
    """After `import trajectory_store as ts`, `ts.analysis` and `ts.report` are there, and cost nothing until then."""
    seen = "print(*('trajectory_store.' + name in sys.modules for name in ts._LATE_MODULES))"
    script = f"import sys, trajectory_store as ts; {seen}; ts.analysis.scan, ts.report.page, ts.notebook.bar; {seen}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False False False", "True True True"]


def test_old_names_of_modules_lead_to_their_places() -> None:
    """A script that was written against the flat package goes on, warned: the module is the same one, not a copy."""
    for name, place in moved.PLACES.items():
        assert not (PACKAGE / f"{name}.py").exists()
        with pytest.warns(DeprecationWarning, match=f"is trajectory_store.{place} now"):
            found = importlib.import_module(f"trajectory_store.{name}")
        here = importlib.import_module(f"trajectory_store.{place}")
        assert found is here
        assert here.__spec__ is not None
        assert here.__spec__.name == f"trajectory_store.{place}"
        del sys.modules[f"trajectory_store.{name}"]
    with pytest.raises(ModuleNotFoundError, match="No module named"):
        importlib.import_module("trajectory_store.nowhere")


def test_names_that_have_left_the_module_of_runs_are_still_there() -> None:
    """Scripts take them from where they were."""
    from trajectory_store import dtypes, series_spec, spec

    assert (spec.BFLOAT16, spec.dtype_name, spec.storage_dtype) == (
        dtypes.BFLOAT16,
        dtypes.dtype_name,
        dtypes.storage_dtype,
    )
    assert spec.MAX_AXES == series_spec.MAX_AXES
