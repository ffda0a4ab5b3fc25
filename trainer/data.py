"""A data folder, read and checked: the tokens to train on and the tokens that are dead.

Every mismatch between the folder's files and the configuration is refused here, before anything is written.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trajectory_store.errors import RunNotFoundError, UsageError

from .config import Config
from .corpus import read_text
from .fingerprint import sha256_of
from .tokenizer import encode, load_tokenizer, strings
from .vocabulary import Masks, load_masks

CORPUS = "corpus.txt"
TOKENIZER = "tokenizer.json"
MASKS = "live_dead_tokens.safetensors"
PROVENANCE = "provenance.json"


@dataclass(frozen=True)
class TrainingData:
    """What a training reads.

    Parameters
    ----------
    tokens : Tensor
        The whole text's token ids, int64.
    masks : Masks
        The dead tokens.
    hashes : dict of str to str
        File name to SHA-256.
    strings : list of str
        Each token's string, by id.
    """

    tokens: Tensor
    masks: Masks
    hashes: dict[str, str]
    strings: list[str]

    @property
    def misplaced_count(self) -> int:
        """How many dead tokens occur in the text all the same."""
        occurring = torch.zeros_like(self.masks.dead_mask)
        occurring[self.tokens] = True
        return int((occurring & self.masks.dead_mask).sum())


def load_data(folder: Path, config: Config) -> TrainingData:
    """Read a data folder and check it against a configuration.

    Parameters
    ----------
    folder : Path
        Made by `trainer prepare`.
    config : Config
        Its vocabulary, sequence length and batch size must fit the data.

    Returns
    -------
    TrainingData
        The tokens to train on and the tokens that are dead.

    Raises
    ------
    RunNotFoundError
        The folder or a file of it is missing.
    MalformedFileError
        A file is damaged.
    UsageError
        The data does not fit the configuration.
    """
    if not folder.is_dir():
        raise RunNotFoundError(f"{folder}: no such data folder; make one with `trainer prepare {folder}`")
    tokenizer = load_tokenizer(folder / TOKENIZER)
    if tokenizer.get_vocab_size() != config.vocab_size:
        raise UsageError(
            f"{folder / TOKENIZER}: the tokenizer has {tokenizer.get_vocab_size():,} entries and vocab_size is"
            f" {config.vocab_size:,}; prepare other data, or set vocab_size={tokenizer.get_vocab_size()}"
        )
    masks = load_masks(folder / MASKS, config.vocab_size)
    tokens = encode(tokenizer, read_text(folder / CORPUS))
    if len(tokens) and tokens.max() >= config.vocab_size:
        raise UsageError(f"{folder / TOKENIZER}: token id {tokens.max()} is past its {config.vocab_size:,} entries")
    sequences = len(tokens) // config.seq_len
    if sequences < config.batch_size:
        # The notebook would loop for ever: a loader that drops the last batch has none.
        raise UsageError(
            f"{folder / CORPUS}: {len(tokens):,} tokens make {sequences:,} sequences of {config.seq_len}, fewer than"
            f" one batch of {config.batch_size}; use more text or a smaller batch_size or seq_len"
        )
    hashes = {name: sha256_of(folder / name) for name in (CORPUS, TOKENIZER, MASKS)}
    return TrainingData(torch.from_numpy(tokens), masks, hashes, strings(tokenizer))
