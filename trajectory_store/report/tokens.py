"""What tokens are called: their ids, and their strings where the run or a tokenizer says them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import MalformedFileError, RunNotFoundError, UsageError
from ..files import open_plain
from ..plain_text import printable
from ..run import Run

TOKEN_TEXT = "token_text"
"""The attribute in which a run may list the string of each of its rows' tokens."""

_MAX_BYTES = 1 << 28
_MAX_CHARS = 200  # of one string in a run's attributes: more is no token


def token_ids(run: Run, n_tokens: int) -> npt.NDArray[np.int64]:
    """The id of each row of the series: the run's `captured_indices` or `dead_indices`, else the row's own number."""
    for name in ("captured_indices", "dead_indices"):
        if name in run.static:
            ids = run.static[name]
            if ids.shape == (n_tokens,) and ids.dtype.kind in "iu":
                return ids.astype(np.int64)
    return np.arange(n_tokens)


def token_names(run: Run, ids: npt.NDArray[np.int64], tokenizer: Path | None) -> list[str] | None:
    """The string of each row's token: the tokenizer's where one is given, else the run's own; None without either.

    Raises what `read_vocabulary` raises. A list in the run that is not one string a row is passed over.
    """
    if tokenizer is None:
        return _recorded_names(run.attrs, len(ids))
    strings = read_vocabulary(tokenizer, run)
    return [strings.get(token, "") for token in ids.tolist()]


def read_vocabulary(path: Path, run: Run) -> dict[int, str]:
    """Token id → string of a `tokenizer.json`.

    Raises RunNotFoundError where there is no such file, MalformedFileError where it is no tokenizer, and UsageError
    where the run says it was trained with another: strings of the wrong tokens would look right.
    """
    text = _read(path)
    found = hashlib.sha256(text).hexdigest()
    expected = _recorded_hash(run.attrs)
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
    """At most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _read(path: Path) -> bytes:
    try:
        with open_plain(path) as file:
            text = file.read(_MAX_BYTES + 1) or b""
    except OSError as error:
        raise RunNotFoundError(f"{path}: no readable tokenizer.json there: {error.strerror or error}") from error
    if len(text) > _MAX_BYTES:
        raise MalformedFileError(f"{path}: larger than any tokenizer.json")
    return text


def _recorded_names(attrs: Mapping[str, Any], n_tokens: int) -> list[str] | None:
    """What the run says, which may be anything: half a surrogate pair too, which no file could hold."""
    names = attrs.get(TOKEN_TEXT)
    if not isinstance(names, list) or len(names) != n_tokens or not all(isinstance(name, str) for name in names):
        return None
    return [name[:_MAX_CHARS].encode(errors="replace").decode() for name in names]


def _recorded_hash(attrs: Mapping[str, Any]) -> str | None:
    """What the trainer's fingerprint says of the tokenizer; other authors' attributes may be anything."""
    at: Any = attrs
    for key in ("fingerprint", "bits", "data", "tokenizer.json"):
        at = at.get(key) if isinstance(at, Mapping) else None
    return at if isinstance(at, str) else None


def _strings(tokenizer: Any) -> dict[int, str]:
    vocabulary = tokenizer["model"]["vocab"]
    if isinstance(vocabulary, list):  # Unigram's: [string, score] in the order of ids
        strings = {index: str(entry[0]) for index, entry in enumerate(vocabulary)}
    else:
        strings = {int(index): str(string) for string, index in vocabulary.items()}
    for token in tokenizer.get("added_tokens") or []:
        strings[int(token["id"])] = str(token["content"])
    return strings
