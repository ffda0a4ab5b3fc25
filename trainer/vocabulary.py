"""Which tokens live and which are dead: counts in the training text, masks, and who the dead are.

A token is dead if it is in the vocabulary and never in the training text. Masks and indices always agree.
"""

import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from trajectory_store.errors import MalformedFileError, RunNotFoundError, UsageError

from .tokenizer import END_OF_TEXT

SCRIPTS = ("English", "Thai", "CJK", "Hangul", "numeric", "whitespace", "punctuation", "special", "other")


@dataclass(frozen=True)
class Masks:
    """The dead tokens of a vocabulary.

    Parameters
    ----------
    dead_mask : Tensor
        Whether each token is dead, (vocab_size,) bool.
    dead_indices : Tensor
        The ids of those that are, (n_dead,) int64, increasing.
    """

    dead_mask: Tensor
    dead_indices: Tensor

    @property
    def dead_count(self) -> int:
        """How many tokens are dead."""
        return len(self.dead_indices)


def count_tokens(tokens: npt.NDArray[np.int64], vocab_size: int) -> npt.NDArray[np.int64]:
    """Count how often each token occurs.

    Parameters
    ----------
    tokens : ndarray of int64
        A text's token ids.
    vocab_size : int
        Entries of the vocabulary.

    Returns
    -------
    ndarray of int64
        Counts by id, (vocab_size,).
    """
    return np.bincount(tokens, minlength=vocab_size)


def masks_file(counts: npt.NDArray[np.int64]) -> bytes:
    """Give `live_dead_tokens.safetensors`: both masks, both lists of ids, and the counts they come from.

    Parameters
    ----------
    counts : ndarray of int64
        How often each token occurs, (vocab_size,).

    Returns
    -------
    bytes
        The file.
    """
    live = torch.from_numpy(counts > 0)
    return save(
        {
            "live_mask": live,
            "dead_mask": ~live,
            "live_indices": live.nonzero().flatten(),
            "dead_indices": (~live).nonzero().flatten(),
            "token_occurrence_counts": torch.from_numpy(counts),
        }
    )


def load_masks(path: Path, vocab_size: int) -> Masks:
    """Read the masks of `live_dead_tokens.safetensors`.

    Parameters
    ----------
    path : Path
        The file.
    vocab_size : int
        Entries of the vocabulary.

    Returns
    -------
    Masks
        Mask and ids of the dead tokens, which agree.

    Raises
    ------
    RunNotFoundError
        The file cannot be read.
    MalformedFileError
        It is no such file.
    UsageError
        It does not fit the vocabulary, contradicts itself, or has no dead token.
    """
    try:
        tensors = load_file(path)
    except safetensors.SafetensorError as error:
        raise MalformedFileError(f"{path}: not a safetensors file: {error}") from error
    except OSError as error:
        raise RunNotFoundError(f"{path}: cannot read the masks: {error.strerror or error}") from error
    for name in ("dead_mask", "dead_indices"):
        if name not in tensors:
            raise MalformedFileError(f"{path}: holds no tensor {name!r}")
        if tensors[name].ndim != 1 or tensors[name].dtype.is_floating_point:
            raise MalformedFileError(f"{path}: {name} is not a list of {'flags' if name == 'dead_mask' else 'ids'}")
    dead_mask, dead_indices = tensors["dead_mask"].bool(), tensors["dead_indices"].long()
    if len(dead_mask) != vocab_size:
        raise UsageError(f"{path}: dead_mask has {len(dead_mask):,} entries and the vocabulary {vocab_size:,}")
    if not dead_mask.any():
        raise UsageError(f"{path}: no token is dead, so there is nothing to record; use a larger vocabulary")
    if not torch.equal(dead_mask.nonzero().flatten(), dead_indices):
        raise UsageError(f"{path}: dead_indices are not the increasing positions that dead_mask marks")
    return Masks(dead_mask, dead_indices)


def script_of(token: str) -> str:
    """Tell the script of a token by its first telling character.

    Parameters
    ----------
    token : str
        Its string.

    Returns
    -------
    str
        One of SCRIPTS.
    """
    if token == END_OF_TEXT:
        return "special"
    if not token.strip():
        return "whitespace"
    for letter in token:
        code = ord(letter)
        if 0x0E00 <= code < 0x0E80:
            return "Thai"
        if 0x4E00 <= code < 0xA000 or 0x3400 <= code < 0x4DC0 or 0x20000 <= code < 0x32000:
            return "CJK"
        if 0xAC00 <= code < 0xD7B0 or 0x1100 <= code < 0x1200 or 0x3130 <= code < 0x3190:
            return "Hangul"
        if letter.isascii() and letter.isalpha():
            return "English"
    kinds = {unicodedata.category(letter)[0] for letter in token}
    if kinds == {"N"}:
        return "numeric"
    return "punctuation" if kinds <= {"P", "S"} and token.isascii() else "other"


def demographics(vocabulary: dict[str, int], counts: npt.NDArray[np.int64]) -> dict[str, dict[str, int]]:
    """Count the entries of each script, and the dead ones among them.

    Parameters
    ----------
    vocabulary : dict of str to int
        Each entry's string and id.
    counts : ndarray of int64
        How often each token occurs, (vocab_size,).

    Returns
    -------
    dict of str to dict of str to int
        "entries" and "dead" of each of SCRIPTS.
    """
    table = {script: {"entries": 0, "dead": 0} for script in SCRIPTS}
    for token, number in vocabulary.items():
        row = table[script_of(token)]
        row["entries"] += 1
        row["dead"] += int(counts[number] == 0)
    return table
