"""What tokens are called: their strings, if the run or a tokenizer says them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import conventions
from ..errors import MalformedFileError, RunNotFoundError, UsageError
from ..files import plain_file
from ..plain_text import printable
from ..run import Run

_MAX_BYTES = 1 << 28


def token_names(run: Run, series: str, ids: npt.NDArray[np.int64], tokenizer: Path | None) -> list[str] | None:
    """The string of each row's token: the tokenizer's if one is given, else the run's own. None without either.

    Raises what `read_vocabulary` raises.
    """
    if tokenizer is None:
        return conventions.token_texts(run.attrs, len(ids), series=series)
    strings = read_vocabulary(tokenizer, run)
    return [strings.get(token, "") for token in ids.tolist()]


def read_vocabulary(path: Path, run: Run) -> dict[int, str]:
    """Token id → string of a `tokenizer.json`.

    Raises RunNotFoundError if there is no such file, MalformedFileError if it is no tokenizer, and UsageError if the
    run says that it was trained with another one, because strings of the wrong tokens would look right.
    """
    text = _read(path)
    found = hashlib.sha256(text).hexdigest()
    expected = conventions.tokenizer_sha256(run.attrs)
    if expected is not None and found != expected:
        raise UsageError(
            f"{path}: not the tokenizer this run was trained with: its SHA-256 begins {found[:12]}, the run's"
            f" attributes say {expected[:12]}"
        )
    try:
        return _strings(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise MalformedFileError(f"{path}: not a tokenizer.json with a model and its vocabulary") from error


def visible(text: str) -> str:
    """A token's string with what cannot be seen made visible: spaces as ␣, the rest as its escape."""
    return printable(text).replace(" ", "␣")


def shortened(text: str, most: int = 12) -> str:
    """At most so many characters of a string."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _read(path: Path) -> bytes:
    try:
        with plain_file(path) as file:
            text = file.read(_MAX_BYTES + 1) or b""
    except FileNotFoundError as error:
        raise RunNotFoundError(f"{path}: no readable tokenizer.json there: {error.strerror or error}") from error
    if len(text) > _MAX_BYTES:
        raise MalformedFileError(f"{path}: larger than any tokenizer.json")
    return text


def _strings(tokenizer: Any) -> dict[int, str]:
    vocabulary = tokenizer["model"]["vocab"]
    if isinstance(vocabulary, list):  # Unigram's: [string, score] in the order of ids
        strings = {index: str(entry[0]) for index, entry in enumerate(vocabulary)}
    else:
        strings = {int(index): str(string) for string, index in vocabulary.items()}
    for token in tokenizer.get("added_tokens") or []:
        strings[int(token["id"])] = str(token["content"])
    return strings
