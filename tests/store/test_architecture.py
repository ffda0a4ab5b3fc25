"""The layers: a module imports only lower ones, the store knows neither torch nor the trainer, the door is in order."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import trajectory_store as ts

PACKAGE = Path(ts.__file__).parent

LAYERS: list[set[str]] = [
    {"bf16", "bit_planes", "buffers", "checksum", "errors", "finding", "progress", "recovery"},
    {"files", "motion", "selection", "spec", "zstd"},
    {"compiled"},
    {"kernels"},
    {"temporal"},
    {"record", "safetensors_format", "sink", "source", "spare", "tiles", "writer_lock", "zarr_codec"},
    {"chunks", "segment", "tile_cache"},
    {"complete_segment", "journal", "journal_writer", "safetensors_source", "static", "tile_job", "whole_block"},
    {"block_file", "conversion", "foreign", "manifest", "memmap_file"},
    {"commit_log"},
    {"check_memmap", "foreign_hdf5", "foreign_numpy", "memmap_sink", "memmap_source", "zarr_metadata", "zarr_source"},
    {"zarr_sink"},
    {"check_zarr", "run"},
    {"checking", "comparison", "dataset", "export", "notebook", "recording", "reopening", "tensors"},
    {"analysis", "importing"},
    {"report"},
    {"commands"},
    {"cli"},
]
"""From the bottom up; a package below the package counts as one module. docs/design.md has the drawing."""

LATE = {("run", "dataset"), ("run", "notebook"), ("run", "reopening"), ("run", "tensors")}
"""What a function may import from a higher layer: methods that only open a door to code that needs more."""

FOREIGN = {"torch", "trainer"}
HEAVY = ("torch", "trainer", "zarr", "xarray", "dask", "numba", "h5py", "matplotlib", "tqdm")
"""What `import trajectory_store` must not import: half of a second and more, or not installed."""


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        name = relative.parts[0].removesuffix(".py")
        yield name, ast.parse(path.read_text(), str(relative))


def imports(tree: ast.AST, package_depth: int, *, in_functions: bool = False) -> Iterator[tuple[str, bool]]:
    """(module, whether a function imports it) of everything from this package, and the names of all else."""
    for node in ast.iter_child_nodes(tree):
        is_annotation = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        is_inside = in_functions or is_annotation or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if isinstance(node, ast.Import):
            yield from ((alias.name, is_inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                yield from ((name, is_inside) for name in (names if node.module == PACKAGE.name else [node.module]))
            elif node.level > package_depth:  # from the package's root
                names = [node.module] if node.module else [alias.name for alias in node.names]
                yield from ((f"trajectory_store.{name}", is_inside) for name in names)
        else:
            yield from imports(node, package_depth, in_functions=is_inside)


def depth(name: str) -> int:
    return 1 if (PACKAGE / name).is_dir() else 0


def edges() -> Iterator[tuple[str, str, bool]]:
    """(importing module, imported module, whether a function imports it) inside of the package."""
    for name, tree in sources():
        for module, is_inside in imports(tree, depth(name)):
            if module.startswith("trajectory_store"):
                yield name, [*module.split("."), "__init__"][1], is_inside


def test_every_module_has_a_layer() -> None:
    """The table is complete, and names nothing that is gone."""
    listed = [name for layer in LAYERS for name in layer]
    assert sorted({name for name, _ in sources()} - {"__init__"}) == sorted(listed)


def test_a_module_imports_only_lower_layers() -> None:
    """No sideways and no upward import, inside of functions neither, but for the doors that are listed."""
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer} | {"__init__": len(LAYERS)}
    doors = set()
    for name, imported, is_inside in edges():
        if name == imported or level[imported] < level[name] or (name == "commands" and is_inside):
            continue  # commands import everything late, so that --help answers at once
        assert is_inside, f"{name} imports {imported}"
        doors.add((name, imported))
    assert doors == LATE


def test_the_store_knows_neither_torch_nor_the_trainer() -> None:
    """But in functions that are given a torch tensor, or asked for one."""
    for name, tree in sources():
        for module, is_inside in imports(tree, depth(name)):
            if module.split(".")[0] in FOREIGN:
                assert module.split(".")[0] == "torch", name
                assert is_inside, name
                assert name in ("tensors", "run"), name


def test_only_the_seam_changes_files() -> None:
    """fsync, rename, truncate and unlink are called in `files` alone, so that tests can break all of them."""
    calls = {"fsync", "fdatasync", "rename", "replace", "ftruncate", "truncate", "pwrite", "pwritev", "flock"}
    for name, tree in sources():
        if name in ("files", "writer_lock"):
            continue
        others = calls - {"flock"} if name == "spare" else calls  # a lock changes nothing on disk
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
    assert "zarr" in modules_after("import trajectory_store.zarr_codec")


@pytest.mark.parametrize("package", [ts])
def test_all_is_sorted_and_complete(package: object) -> None:
    """`__all__` has every public name that the package binds, and no other."""
    exported = package.__all__
    assert exported == sorted(exported)
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    relative = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    assert {alias.asname or alias.name for node in relative for alias in node.names} == set(exported)
    assert dir(package) == exported
    checked = {node.module: node for node in tree.body if isinstance(node, ast.If) for node in node.body}
    late = {module: tuple(alias.name for alias in node.names) for module, node in checked.items()}
    assert late == package._LATE
    for name in exported:
        assert getattr(package, name) is not None
