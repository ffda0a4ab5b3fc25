"""A tiny training: two layers of eight, a vocabulary of 300, six batches an epoch, so that a run is a blink."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner, Result

from tests.harness.notebook_reference import run_notebook
from trainer.cli import main
from trainer.prepare import prepare

VOCAB_SIZE = 300
SEQ_LEN = 16
BATCH_SIZE = 4
BATCHES_PER_EPOCH = 6
TOTAL_STEPS = 2 * BATCHES_PER_EPOCH + 3
SETTINGS = {
    "total_steps": TOTAL_STEPS,
    "vocab_size": VOCAB_SIZE,
    "seq_len": SEQ_LEN,
    "batch_size": BATCH_SIZE,
    "hidden_dim": 8,
    "learning_rate": 1e-2,  # large enough for bf16 weights to move at every step
    "num_threads": 1,  # more of them only wait for each other at this size
}


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A corpus of made-up words and a tokenizer corpus with more words and other scripts."""
    folder = tmp_path_factory.mktemp("texts")
    generator = random.Random(7)
    words = ["".join(generator.choices("abcdefghijklmnopqrst", k=generator.randint(2, 7))) for _ in range(120)]
    corpus = " ".join(generator.choices(words, k=180))
    more = " ".join(generator.choices([*words, *(word.upper() for word in words)], k=2_000))
    corpus_file, tokenizer_file = folder / "corpus.txt", folder / "tokenizer.txt"
    corpus_file.write_text(corpus, encoding="utf-8")
    tokenizer_file.write_text(f"{more}\nกขฃคฅฆง 一丁丂 가각", encoding="utf-8")
    return SimpleNamespace(corpus=corpus_file, tokenizer=tokenizer_file)


@pytest.fixture(scope="session")
def data(texts: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data folder."""
    folder = tmp_path_factory.mktemp("prepared") / "data"
    prepare(folder, corpus_file=texts.corpus, tokenizer_corpus_files=[texts.tokenizer], vocab_size=VOCAB_SIZE)
    return folder


@pytest.fixture(scope="session")
def constants() -> SimpleNamespace:
    """The notebook's constants for the tiny training."""
    return SimpleNamespace(
        TOTAL_STEPS=TOTAL_STEPS,
        BATCH_SIZE=BATCH_SIZE,
        SEQ_LEN=SEQ_LEN,
        LEARNING_RATE=1e-2,
        WEIGHT_DECAY=0.1,
        BETA1=0.9,
        BETA2=0.999,
        EPSILON=1e-8,
        VOCAB_SIZE=VOCAB_SIZE,
        HIDDEN_DIM=8,
        NUM_LAYERS=2,
        NUM_HEADS=2,
        RANDOM_SEED=42,
    )


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def notebook(data: Path, constants: SimpleNamespace) -> SimpleNamespace:
    """What the notebook itself computes."""
    with pytest.warns(UserWarning, match="enable_nested_tensor"):
        return run_notebook(data, constants)


@pytest.fixture
def trainer() -> Callable[..., Result]:
    """The command line: `trainer("run", …)`."""

    def call(*arguments: object) -> Result:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def set_options(**changes: object) -> Sequence[str]:
    """`--set` for the tiny training, with these keys over it."""
    return [part for key, value in (SETTINGS | changes).items() for part in ("--set", f"{key}={value}")]


@pytest.fixture
def run_tiny(trainer: Callable[..., Result], data: Path) -> Callable[..., Result]:
    """`trainer run --preset thimble-9` of the tiny training into a folder."""

    def call(out: Path, *options: object, **changes: object) -> Result:
        arguments = ("run", "--preset", "thimble-9", "--data", data, "--out", out)
        return trainer(*arguments, *set_options(**changes), *options)

    return call


@pytest.fixture(autouse=True)
def no_leaks() -> None:
    """What these tests open ends when it is collected, so nothing is counted after each of them."""
