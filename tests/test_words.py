"""The words of options: each list is written once, and a word that is not on it is one sentence with those that are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import trajectory_store as ts
from tests.harness import contracts
from trainer.cli import main as trainer
from trajectory_store import comparison, words
from trajectory_store.analysis.catalogue import SCHEMES
from trajectory_store.backends.finding import KINDS, Kind
from trajectory_store.backends.table import BACKENDS
from trajectory_store.errors import UsageError
from trajectory_store.report import renderer

SERIES = {"W": ts.Series((2, 2), "bfloat16")}


def test_tables_have_the_words_of_their_types() -> None:
    """What a type checker lets through is what there is, and all of it."""
    relations = [value for name, value in vars(comparison).items() if name.isupper() and isinstance(value, str)]

    assert get_args(Kind) == tuple(KINDS)
    assert get_args(ts.Backend) == tuple(BACKENDS) == contracts.BACKENDS
    assert get_args(ts.Durability) == contracts.DURABILITIES
    assert get_args(words.PhaseScheme) == tuple(SCHEMES)
    assert get_args(comparison.Relation) == tuple(relations)


def test_the_trainers_choices_are_the_stores() -> None:
    """It spells them out, so that its help needs nothing of the store."""
    options = {option.name: option for option in trainer.commands["run"].params}

    assert tuple(options["backend"].type.choices) == get_args(ts.Backend)
    assert tuple(options["durability"].type.choices) == get_args(ts.Durability)


@pytest.mark.parametrize(
    ("call", "alias"),
    [
        (lambda path, word: ts.create(path / "new", SERIES, backend=word), ts.Backend),
        (lambda path, word: ts.create(path / "new", SERIES, durability=word), ts.Durability),
        (lambda path, word: ts.create(path / "new", SERIES, codec=word), ts.Codec),
        (lambda path, word: ts.resume(path / "run", durability=word), ts.Durability),
        (lambda path, word: ts.export_safetensors(path / "run", path / "out", dtype=word), words.DeclaredAs),
        (lambda path, word: ts.open(path / "run").to_xarray(bf16=word), words.Bf16Form),
        (lambda _, word: renderer(word), words.FigureForm),
        (lambda path, word: ts.Finding(word, path, "message"), Kind),
    ],
)
@pytest.mark.parametrize("word", ["nonsense", "", None, np.float32, ["zarr"]])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_another_word_is_one_sentence(call: Callable[[Path, Any], Any], alias: Any, word: Any, tmp_path: Path) -> None:
    """It says what was found, and every word that there is; nothing is written."""
    with ts.create(tmp_path / "run", SERIES, steps=1) as sink:
        sink.append(0, W=np.zeros((2, 2), np.uint16))
    before = contracts.contents(tmp_path)
    with pytest.raises(UsageError, match="is unknown; choose from") as found:
        call(tmp_path, word)
    for known in get_args(alias):
        assert repr(known) in str(found.value)
    assert repr(word) in str(found.value)
    assert before == contracts.contents(tmp_path)
