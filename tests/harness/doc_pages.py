"""The pages of the documentation as a list of blocks, and how a block is run."""

import ast
import contextlib
import io
import re
import shlex
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from trajectory_store.cli import main as trajectory_store_command

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = {"python", "console", "bash", "text", "json", "toml"}
"""python and console blocks are run; text right behind Python is what it prints; bash is not run."""

_BLOCK = re.compile(
    r"^<!-- setup\n(?P<setup>.*?)^-->$"
    r"|^<!-- not run: (?P<reason>[^\n]+) -->\n"
    r"|^(?P<fence>`{3,}|~{3,})(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fence or hidden comment of a page.

    Attributes
    ----------
    line : int
        Where it begins, from 1.
    language : str
        As the fence says; "setup" for a hidden comment.
    reason : str
        Why it is not run; empty if it is.
    output : str or None
        What the page says that it prints.
    """

    page: Path
    line: int
    language: str
    code: str
    reason: str = ""
    output: str | None = None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Every block of a page in order; a text block with nothing before it but a block that runs is its output."""
    text = page.read_text()
    found: list[Block] = []
    reason, end = "", 0
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        follows = not text[end : match.start()].strip()
        end = match.end()
        if match["reason"]:
            reason = match["reason"]
            continue
        language = "setup" if match["setup"] is not None else match["language"].strip()
        code = match["setup"] if match["setup"] is not None else match["code"]
        if language.startswith("{"):  # a directive of the site, not code
            continue
        if language == "text" and follows and found and found[-1].language == "python":
            last = found.pop()
            found.append(Block(page, last.line, last.language, last.code, last.reason, code))
            continue
        found.append(Block(page, line, language, code, reason))
        reason = ""
    return found


def run_python(block: Block, namespace: dict[str, Any]) -> None:
    """Run a block, and compare what it shows: `# → repr` behind a statement, and a text block behind it all."""
    shown = _shown_values(block.code)
    tree = ast.parse(block.code, filename=str(block))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for statement in tree.body:
            value = _run(statement, namespace, str(block))
            if statement.end_lineno in shown:
                _compare(f"{block}, {ast.unparse(statement)}", repr(value), shown[statement.end_lineno])
    if block.output is not None:
        _compare(str(block), printed.getvalue(), block.output)


def _shown_values(code: str) -> dict[int, str]:
    """Line → what the comment behind its code says the value is."""
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    comments = {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}
    return {line: text.removeprefix("# → ") for line, text in comments.items() if text.startswith("# → ")}


def _run(statement: ast.stmt, namespace: dict[str, Any], name: str) -> Any:
    if isinstance(statement, ast.Expr):
        return eval(compile(ast.Expression(statement.value), name, "eval"), namespace)
    exec(compile(ast.Module([statement], []), name, "exec"), namespace)
    target = statement.targets[0] if isinstance(statement, ast.Assign) else None
    return namespace[target.id] if isinstance(target, ast.Name) else None


def run_console(block: Block) -> None:
    """Run each `$ trajectory-store …` line; the lines behind it are what it prints."""
    for part in re.split(r"^\$ ", block.code, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        program, *arguments = shlex.split(command, comments=True)
        assert program == "trajectory-store", f"{block}: {command!r} is not run, so its block is bash"
        result = CliRunner().invoke(trajectory_store_command, arguments)
        assert result.exit_code in (0, 1), f"{block}: {command}\n{result.output}"
        _compare(f"{block}, {command}", result.output, expected)


def _compare(what: str, found: str, expected: str) -> None:
    """Equal, where "…" in what is expected stands for anything."""
    pattern = ".*?".join(re.escape(part) for part in expected.strip().split("…"))
    assert not expected.strip() or re.fullmatch(pattern, found.strip(), re.DOTALL), (
        f"{what}: the page shows\n{expected}\nand it is\n{found}"
    )
