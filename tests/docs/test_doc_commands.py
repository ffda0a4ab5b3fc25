"""Every command that the documentation shows exists, with its options, presets, keys and files."""

import re
import shlex
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import click
import pytest

from benchmarks.__main__ import main as benchmark_command
from benchmarks.full_length import main as full_length_command
from tests.harness.doc_pages import PAGES, ROOT, blocks_of
from trajectory_store.analysis.catalogue import NAMES
from trajectory_store.cli import main as trajectory_store_command

INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
PLACEHOLDER = re.compile(r"[\[\]…]")


def trainer_command() -> click.Group:
    """The trainer's group; it imports torch only when a command runs."""
    from trainer.cli import main

    return main


def shown_commands(page: Path) -> list[str]:
    """What a page shows as a command, in blocks and in running text, with what a shell would hand on."""
    blocks = [block for block in blocks_of(page) if block.language in ("bash", "console", "text")]
    lines = [line.removeprefix("$ ") for block in blocks for line in block.code.splitlines()]
    spans = [" ".join(span.split()) for span in INLINE.findall(page.read_text())]
    return [
        line
        for line in (*lines, *spans)
        if re.match(r"(trajectory-store|trainer|pytest|python -m benchmarks)\b(?! \()", line)
    ]


def words_of(line: str) -> list[str]:
    """A shown command's words; what a help line says behind two spaces is no part of it."""
    try:
        return shlex.split(PLACEHOLDER.sub(" ", re.split(r"\s{2,}", line)[0]))
    except ValueError:
        return PLACEHOLDER.sub(" ", line).split()


def command_of(words: list[str]) -> tuple[click.Command, list[str]] | None:
    """The click command that words call, and its arguments; None for a group alone, and for other programs."""
    if words[:2] == ["python", "-m"]:
        program = {"benchmarks": benchmark_command, "benchmarks.full_length": full_length_command}.get(words[2])
        return None if program is None else (program, words[3:])
    if words[0] not in ("trajectory-store", "trainer"):
        return None
    group = trajectory_store_command if words[0] == "trajectory-store" else trainer_command()
    if len(words) == 1 or words[1].startswith("-"):
        return None
    assert words[1] in group.commands, f"{' '.join(words)}: no such command"
    return group.commands[words[1]], words[2:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_exist(page: Path) -> None:
    """Every command, option, choice, preset, configuration key and analysis that is shown can be given."""
    from trainer.config import Config
    from trainer.presets import PRESETS

    keys = {field.name for field in fields(Config)}
    for line in shown_commands(page):
        called = command_of(words_of(line))
        if called is None:
            continue
        command, arguments = called
        options = {name: parameter for parameter in command.params for name in parameter.opts}
        for word, following in pairwise([*arguments, ""]):
            if not word.startswith("-") or re.fullmatch(r"-\d+", word):
                continue
            assert word in {*options, "--help", "-h"}, f"{line}: no option {word}"
            kind = getattr(options.get(word), "type", None)
            if isinstance(kind, click.Choice) and following not in ("", "W", "S"):  # letters that stand for any
                assert following in kind.choices, f"{line}: {following!r}"
            if word == "--set" and following != "key=value":
                assert following.partition("=")[0] in keys, f"{line}: no key {following!r}"
            if word == "--preset":
                assert following in {*PRESETS, "NAME"}, f"{line}: no preset {following!r}"
        if command.name == "analyze":
            named = {word for word in arguments[1:] if re.fullmatch(r"[a-z_]+", word)}
            assert named <= {*NAMES, "csv", "json"}, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_files_that_commands_name_exist(page: Path) -> None:
    """Tests, examples and modules of the benchmarks."""
    text = page.read_text()
    named = set(re.findall(r"\b(?:tests|examples|benchmarks)/[\w/]+\.\w+", text))
    named |= {f"benchmarks/{module}.py" for module in re.findall(r"python -m benchmarks\.(\w+)", text)}

    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_a_command_that_does_not_exist_is_found() -> None:
    """The tests above read what they should: blocks, running text and help lines."""
    shown = {page.name: shown_commands(page) for page in PAGES}

    assert "trajectory-store check RUN --repair" in shown["resume.md"]
    assert "trainer run --preset thimble-9 --data DATA --out OUT --resume" in shown["resume.md"]
    assert words_of('trajectory-store slice RUN W "100:200:10, [1,5]" a slice, printed')[4] == "100:200:10,  1,5 "
    assert words_of("trajectory-store check RUN                  every byte") == ["trajectory-store", "check", "RUN"]
    with pytest.raises(AssertionError, match="no such command"):
        command_of(["trajectory-store", "verify"])


def test_the_readme_lists_every_command() -> None:
    """Its section "Command line" has a line for each."""
    section = (ROOT / "README.md").read_text().partition("## Command line")[2].partition("\n## ")[0]
    listed = set(re.findall(r"^(trajectory-store|trainer) (\w+)", section, re.MULTILINE))

    assert listed == {("trajectory-store", name) for name in trajectory_store_command.commands} | {
        ("trainer", name) for name in trainer_command().commands
    }
