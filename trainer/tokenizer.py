"""The character-level BPE tokenizer: train one, load one, encode a text.

Law: the same text, alphabet and size give the same tokenizer. Ids come from `tokenizers`, unchanged.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.trainers import BpeTrainer

from trajectory_store.errors import MalformedFileError, RunNotFoundError, UsageError

END_OF_TEXT = "<|endoftext|>"


def train_tokenizer(text: str, *, vocab_size: int, letters: Iterable[str] = ()) -> Tokenizer:
    """Make a BPE tokenizer of exactly so many entries: the special token, the alphabet, then merges.

    Parameters
    ----------
    text : str
        What the merges are counted in; each of its characters is in the alphabet.
    vocab_size : int
        Entries.
    letters : Iterable of str, optional
        More characters of the alphabet.

    Returns
    -------
    Tokenizer
        The same for the same arguments.

    Raises
    ------
    UsageError
        The alphabet is larger than that, or the text too small for so many merges.
    """
    alphabet = sorted({*text, *letters})
    if len(alphabet) + 1 > vocab_size:
        raise UsageError(
            f"vocabulary size {vocab_size:,}: the alphabet alone has {len(alphabet):,} characters and there is one"
            " special token; ask for a larger vocabulary"
        )
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = Whitespace()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    # Words never cross a line, so lines give the counts that the whole text would, in less memory.
    tokenizer.train_from_iterator(text.split("\n"), trainer)
    found = tokenizer.get_vocab_size()
    if found != vocab_size:
        raise UsageError(
            f"vocabulary size {vocab_size:,}: the tokenizer corpus is too small, only {found:,} entries could be made;"
            " give more text or ask for a smaller vocabulary"
        )
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Read the tokenizer of a `tokenizer.json`.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    Tokenizer
        The tokenizer.

    Raises
    ------
    RunNotFoundError
        The file cannot be read.
    MalformedFileError
        It holds no tokenizer.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunNotFoundError(f"{path}: cannot read the tokenizer: {getattr(error, 'strerror', error)}") from error
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # `tokenizers` raises bare Exception on everything
        raise MalformedFileError(f"{path}: not a tokenizer: {error}") from error


def strings(tokenizer: Tokenizer) -> list[str]:
    """Give each entry's string.

    Parameters
    ----------
    tokenizer : Tokenizer
        The tokenizer.

    Returns
    -------
    list of str
        By id; empty if an id has none.
    """
    return [tokenizer.id_to_token(number) or "" for number in range(tokenizer.get_vocab_size())]


def encode(tokenizer: Tokenizer, text: str) -> npt.NDArray[np.int64]:
    """Encode a text in one piece, as the notebook does.

    Parameters
    ----------
    tokenizer : Tokenizer
        The tokenizer.
    text : str
        All of it.

    Returns
    -------
    ndarray of int64
        The id of each token, (n_tokens,).
    """
    return np.asarray(tokenizer.encode(text).ids, dtype=np.int64)
