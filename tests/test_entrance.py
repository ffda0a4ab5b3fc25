"""What a contributor reads and runs first agrees with the project: paths, commands, versions, hooks and CI."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import trajectory_store as ts

ROOT = Path(__file__).parents[1]
PAGES = ("CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "RELEASE.md", "SECURITY.md")
MADE_BY_A_COMMAND = {"dist/", ".venv/bin/activate"}

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def commands(script: str) -> list[str]:
    """The lines of a script of .ci/ that run something, after its `cd`."""
    lines = (ROOT / ".ci" / script).read_text().split('/.."\n', 1)[1].splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def paths_on(page: str) -> set[str]:
    """Every path that a page names: in backticks, in a command, or as a link's target."""
    text = (ROOT / page).read_text()
    spelled = re.findall(
        r"(?<![\w/:.-])(?:(?:\.ci|\.github|benchmarks|docs|examples|tests|trainer|trajectory_store)/[\w./-]*)", text
    )
    linked = [target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    return {path.rstrip(".") for path in (*spelled, *linked)} - {""}


@pytest.mark.parametrize("page", PAGES)
def test_every_path_on_a_page_exists(page: str) -> None:
    """A file that moves takes the page along; a name in capitals stands for one to be written."""
    named = {path for path in paths_on(page) - MADE_BY_A_COMMAND if not re.search(r"/[A-Z]+(_file\.py|\.py|/)$", path)}

    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_the_contributing_page_names_paths() -> None:
    """The test above has something to look at."""
    assert {"tests/test_architecture.py", "trajectory_store/files.py", "docs/design.md"} <= paths_on("CONTRIBUTING.md")


def test_the_hooks_run_what_ci_checks() -> None:
    """Whoever commits with the hooks is not told something else by CI."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    checked = {" ".join(line.removesuffix(" .").replace(" --check", "").split()) for line in commands("check")}
    run = {" ".join(word for word in hook["entry"].split() if not word.startswith("--")) for hook in hooks}

    assert checked == {"ruff check", "ruff format", "mypy", "codespell"}
    assert checked <= run
    assert {"local"} == {repo["repo"] for repo in config["repos"]}
    for test in re.findall(r"tests/\S+", " ".join(hook["entry"] for hook in hooks)):
        assert (ROOT / test).exists()


def test_ci_runs_the_scripts_that_contributors_run() -> None:
    """The workflow has no list of checks of its own, may write nothing, and tests the oldest promised Python."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    pythons = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]

    assert [step["run"] for step in steps if "run" in step] == ["bash .ci/run", "bash .ci/package"]
    assert "bash .ci/check" in commands("run")
    assert workflow["permissions"] == {"contents": "read"}
    assert PROJECT["requires-python"] == f">={pythons[0]}"


def test_the_citation_is_of_this_version() -> None:
    """CITATION.cff and the package say the same, and the authors are the licence's."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    authors = [author["name"] for author in citation["authors"]]

    assert (PROJECT["name"], ts.__version__) == (citation["title"], citation["version"])
    assert PROJECT["license"] == citation["license"]
    assert f"Copyright (c) 2026 {authors[0]}" in (ROOT / "LICENSE").read_text()


def test_the_changelog_begins_with_what_is_unreleased() -> None:
    """Later sections are versions with their dates, newest first."""
    heads = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)

    assert heads[0] == "Unreleased"
    for head in heads[1:]:
        assert re.fullmatch(r"\d+\.\d+\.\d+, \d{4}-\d{2}-\d{2}", head)
