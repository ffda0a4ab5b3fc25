"""The trainer's modules import one way, and of the store only what is public."""

import ast
from pathlib import Path

import pytest

import trainer

FOLDER = Path(trainer.__file__).parent
# A module may import those before it.
ORDER = [
    *(
        "config",
        "presets",
        "model",
        "batches",
        "corpus",
        "tokenizer",
        "vocabulary",
        "canonical",
        "fingerprint",
        "interruption",
    ),
    *(
        "data",
        "prepare",
        "state",
        "rows",
        "ring",
        "capture",
        "recorder",
        "checkpoint",
        "output",
        "removal",
        "resume",
        "budget",
        "metadata",
        "loop",
        "plan",
        "run_folder",
        "verify",
    ),
    *("cli", "__main__"),
]
STORE: dict[str, set[str]] = {
    "trajectory_store": {"atomic", "conventions", "files", "folders"},
    "trajectory_store.blocks.layout": {"block_steps_for"},
    "trajectory_store.commands": {"terminal"},
    "trajectory_store.commands.terminal": {"JSON", "PATH"},
    "trajectory_store.plain_text": {"printable"},
    "trajectory_store.sizes": {"format_bytes"},
}
"""Of the store's inside: durable calls, what names mean, how large a block is, and how a command of ours behaves."""


def imports(path: Path) -> list[tuple[str, set[str]]]:
    """Every `from … import …` and `import …`, relative ones with their dot."""
    found: list[tuple[str, set[str]]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found.append(("." * node.level + (node.module or ""), {alias.name for alias in node.names}))
        elif isinstance(node, ast.Import):
            found += [(alias.name, set()) for alias in node.names]
    return found


def test_every_module_has_its_place() -> None:
    """A new module is put into the order above."""
    assert {path.stem for path in FOLDER.glob("*.py")} == {*ORDER, "__init__"}


@pytest.mark.parametrize("module", ORDER)
def test_modules_import_only_earlier_ones(module: str) -> None:
    """No cycle and no upward import, lazy ones included."""
    before = set(ORDER[: ORDER.index(module)])

    for source, names in imports(FOLDER / f"{module}.py"):
        if source == ".":
            assert names <= before
        elif source.startswith("."):
            assert source[1:] in before


def test_of_the_store_only_what_is_named() -> None:
    """The trainer could be anybody's: it uses what the store offers everybody, and a few things that are listed."""
    used: dict[str, set[str]] = {}
    for module in ORDER:
        for source, names in imports(FOLDER / f"{module}.py"):
            is_public = source == "trajectory_store.errors" or (source == "trajectory_store" and not names)
            if source.startswith("trajectory_store") and not is_public:
                used.setdefault(source, set()).update(names)
    assert used == STORE
