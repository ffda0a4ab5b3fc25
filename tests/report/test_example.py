"""The worked example: the script and the notebook are the same cells, and those go from a training to its figures."""

import json
import random
import re
import runpy
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

import trajectory_store as ts
from tests.harness.report_runs import record, walking_bits
from trajectory_store import analysis

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = {
    "total_steps": 30,
    "vocab_size": 300,
    "seq_len": 16,
    "batch_size": 4,
    "hidden_dim": 8,
    "num_threads": 1,
    "learning_rate": 1e-2,
}


def cells_of_notebook():
    """(kind, text) of each cell."""
    notebook = json.loads((EXAMPLES / "findings.ipynb").read_text())
    return [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]


def cells_of_script():
    """The same, a cell beginning at each `# %%`, a text's lines behind `# `."""
    cells = []
    for part in re.split(r"^# %%", (EXAMPLES / "findings.py").read_text(), flags=re.MULTILINE)[1:]:
        head, _, text = part.partition("\n")
        is_text = "markdown" in head
        text = re.sub("^# ?", "", text, flags=re.MULTILINE) if is_text else text
        cells.append(("markdown" if is_text else "code", text.strip()))
    return cells


def test_script_and_notebook_are_the_same_cells():
    """Made with `jupytext --to ipynb examples/findings.py`, and no outputs kept."""
    assert cells_of_notebook() == cells_of_script()
    assert '"output_type"' not in (EXAMPLES / "findings.ipynb").read_text()


@pytest.fixture
def data(tmp_path):
    """A data folder of made-up words, where the example looks for one."""
    prepare = pytest.importorskip("trainer.prepare").prepare
    words = ["".join(random.Random(seed).choices("abcdefghijklmnopqrst", k=5)) for seed in range(120)]
    corpus, more = tmp_path / "corpus.txt", tmp_path / "more.txt"
    corpus.write_text(" ".join(random.Random(7).choices(words[:60], k=300)))
    more.write_text(" ".join(words * 9))
    prepare(tmp_path / "demo" / "findings" / "data", corpus_file=corpus, tokenizer_corpus_files=[more], vocab_size=300)


@pytest.mark.slow
@pytest.mark.usefixtures("data")
def test_cells_go_from_a_training_to_its_figures(tmp_path, monkeypatch, capsys):
    """One after the other in an empty folder, with a training of a blink."""
    pytest.importorskip("resvg_py")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for text in [text for kind, text in cells_of_notebook() if kind == "code"]:
        exec(text, names)
        if "settings" in text and "folder" in text:
            names["settings"] = TINY
    with ts.open(tmp_path / "demo" / "findings" / "run" / "trajectory") as run:
        assert run["W"].shape[0] == 31
        assert f"the last move was at {names['onset'].max()}" in capsys.readouterr().out
    assert (tmp_path / "demo" / "findings" / "report.html").stat().st_size > 50_000
    assert len(list((tmp_path / "demo" / "findings" / "figures").glob("*.png"))) == 13
    names["run"].close()


def test_freezing_of_several_runs_is_compared(tmp_path, monkeypatch, capsys):
    """A line of the table and a curve for each run, under the name it was given."""
    for n_steps in (40, 60):
        record(tmp_path / f"run-{n_steps}", walking_bits(n_steps, 40))
    figure = tmp_path / "freezing.svg"
    runs = [f"{n_steps} <steps>={tmp_path / f'run-{n_steps}'}" for n_steps in (40, 60)]
    monkeypatch.setattr(sys, "argv", ["compare_freezing.py", *runs, "-o", str(figure)])
    runpy.run_path(str(EXAMPLES / "compare_freezing.py"), run_name="__main__")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]

    assert [line[0] for line in lines[2:]] == ["40 <steps>", "60 <steps>"]
    for line, n_steps in zip(lines[2:], (40, 60), strict=True):
        onset = np.sort(analysis.freeze_onset(walking_bits(n_steps, 40)))
        assert [int(cell) for cell in line[1:6]] == [onset[0], onset[3], onset[19], onset[35], onset[39]]
    drawn = ElementTree.fromstring(figure.read_text())
    assert [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text") if "<" in text.text] == [
        "40 <steps>",
        "60 <steps>",
    ]
