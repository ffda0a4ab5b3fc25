"""What the names in a run mean: which series, static array or attribute holds what.

Law: a name that one part of this package writes and another reads stands here, and so does the rule for reading it.
Knows arrays and attributes, not runs. What a run says that cannot be true of the rows it recorded is never used: a
`ConventionWarning` says so. docs/conventions.md tells the same to people who record their own runs.
"""

import warnings
from collections.abc import Container, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import ConventionWarning, UsageError

WEIGHTS, FIRST_MOMENT, SECOND_MOMENT, GRADIENT = "W", "m", "v", "g"
SERIES = (WEIGHTS, FIRST_MOMENT, SECOND_MOMENT, GRADIENT)
"""What is recorded of a parameter: its values, both moments of Adam, the gradient."""
LOSS = "loss"

TOKEN = "token"
"""The dimension along which a series has one row a token."""
TOKEN_ID = "token_id"
"""What readers call the ids in what they write: a coordinate, a column."""

CAPTURED_INDICES = "captured_indices"
DEAD_INDICES = "dead_indices"
DEAD_MASK = "dead_mask"

TOKEN_TEXT = "token_text"
CONFIG = "config"
FINGERPRINT = "fingerprint"
PRESET = "preset"
HYPERPARAMETERS = ("learning_rate", "beta1", "beta2", "epsilon", "weight_decay")
_TITLES = ("experiment", PRESET, "name", "title")
_MAX_CHARS = 200  # of one string in a run's attributes: more is no token

Arrays = Mapping[str, npt.NDArray[Any]]


def token_ids_name(static: Container[str]) -> str | None:
    """Return which of a run's static arrays says the ids of its rows, None if none of them does."""
    return next((name for name in (CAPTURED_INDICES, DEAD_INDICES) if name in static), None)


def token_ids(static: Arrays, n_tokens: int, *, series: str) -> npt.NDArray[np.int64] | None:
    """Return the vocabulary id of each row of a series, from the run's static arrays.

    `captured_indices` is the run's word on which tokens its rows are. A run without it holds the dead tokens, so
    their ids are `dead_indices`. A run that has `captured_indices` is never labelled by `dead_indices`, whatever fits.

    Parameters
    ----------
    static : Mapping of str to ndarray
        The run's static arrays; only those that are needed are read.
    n_tokens : int
        Rows of the series.
    series : str
        What the series is called, for the warning.

    Returns
    -------
    ndarray of int64, shape (n_tokens,), or None
        None if the run does not say, or says it of other rows.

    Warns
    -----
    ConventionWarning
        The array that holds the ids does not fit the series.
    """
    name = token_ids_name(static)
    if name is None:
        return None
    found = static[name]
    ids = found.astype(np.int64) if found.dtype.kind in "iu" else None
    if ids is not None and ids.shape == (n_tokens,) and not (ids < 0).any():
        return ids
    _warn(
        f"static array {name!r} has shape {found.shape} and dtype {found.dtype}, so it cannot hold the ids of the"
        f" {n_tokens:,} tokens of series {series!r}, which stay without ids; record one id a row, an integer of at"
        f" least 0, as {CAPTURED_INDICES!r}"
    )
    return None


def dead_rows(static: Arrays, n_tokens: int, *, series: str) -> npt.NDArray[np.bool_]:
    """Return which rows of a series are dead tokens, from the run's `dead_mask`.

    `dead_mask` is about the whole vocabulary. If the run has `captured_indices`, a row's flag is that of its id;
    else the rows are the vocabulary, and the mask is returned as it is, also if it has another length.

    Parameters
    ----------
    static : Mapping of str to ndarray
        The run's static arrays.
    n_tokens : int
        Rows of the series.
    series : str
        What the series is called, for messages.

    Returns
    -------
    ndarray of bool
        One flag a row, or the mask of another length if nothing says which of its entries the rows are.

    Raises
    ------
    KeyError
        The run has no `dead_mask`.
    UsageError
        The run recorded ids that its `dead_mask` does not reach.
    """
    mask = static[DEAD_MASK].astype(bool)
    ids = token_ids(static, n_tokens, series=series) if CAPTURED_INDICES in static else None
    if ids is None:
        return mask
    if len(ids) and ids.max() >= len(mask):
        raise UsageError(
            f"static array {DEAD_MASK!r} has {len(mask):,} entries, and {CAPTURED_INDICES!r} names token {ids.max():,}:"
            " the mask needs an entry for every token of the vocabulary"
        )
    rows: npt.NDArray[np.bool_] = mask[ids]
    return rows


def token_texts(attrs: Mapping[str, Any], n_tokens: int, *, series: str) -> list[str] | None:
    """Return the string of each row's token, from the run's attribute `token_text`.

    Parameters
    ----------
    attrs : Mapping of str to Any
        The run's attributes.
    n_tokens : int
        Rows of the series.
    series : str
        What the series is called, for the warning.

    Returns
    -------
    list of str or None
        None if the run has no strings, or not one for each row. Each is cut after 200 characters, and what no file
        could hold, such as half a surrogate pair, is replaced.

    Warns
    -----
    ConventionWarning
        `token_text` is not one string a row.
    """
    texts = attrs.get(TOKEN_TEXT)
    if texts is None:
        return None
    if isinstance(texts, list) and len(texts) == n_tokens and all(isinstance(text, str) for text in texts):
        return [text[:_MAX_CHARS].encode(errors="replace").decode() for text in texts]
    found = f"a list of {len(texts):,} values" if isinstance(texts, list) else f"a {type(texts).__name__}"
    _warn(
        f"attribute {TOKEN_TEXT!r} is {found}, so it cannot hold the strings of the {n_tokens:,} tokens of series"
        f" {series!r}, which stay without strings; record a list of one string a row"
    )
    return None


def settings(attrs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the run was configured with: its attribute `config`, and over it its own attributes."""
    nested = attrs.get(CONFIG)
    return {**(nested if isinstance(nested, Mapping) else {}), **attrs}


def title(attrs: Mapping[str, Any]) -> str | None:
    """Return what the run's author called it, None if no attribute says."""
    nested = attrs.get(CONFIG)
    for named in (nested if isinstance(nested, Mapping) else {}, attrs):
        for key in _TITLES:
            if isinstance(named.get(key), str) and named[key].strip():
                return str(named[key])
    return None


def tokenizer_sha256(attrs: Mapping[str, Any]) -> str | None:
    """Return the hash of the `tokenizer.json` that the run was trained with, None if its fingerprint does not say."""
    at: Any = attrs
    for key in (FINGERPRINT, "bits", "data", "tokenizer.json"):
        at = at.get(key) if isinstance(at, Mapping) else None
    return at if isinstance(at, str) else None


def rows_along_steps(arrays: Mapping[str, tuple[tuple[int, ...], int]]) -> tuple[int, ...]:
    """Return the lengths of the first axis that make an array of a foreign file a series, the shortest first.

    Series are as long as the loss. If the largest array has one row more than the loss, because it begins with what
    there was before the first update, its length makes a series too. In a file without a loss, series are as long as
    the largest array.

    Parameters
    ----------
    arrays : Mapping of str to (shape, bytes)
        Every array of the file.

    Returns
    -------
    tuple of int
        Empty if nothing has rows.
    """
    with_axes = {name: (n_bytes, shape) for name, (shape, n_bytes) in arrays.items() if shape}
    largest = max(with_axes.values(), default=(0, (0,)))[1][0]
    n_rows = with_axes[LOSS][1][0] if LOSS in with_axes else largest
    if n_rows > 1 and largest == n_rows + 1:
        return n_rows, largest
    return (n_rows,) if n_rows else ()


def _warn(message: str) -> None:
    warnings.warn(message, ConventionWarning, stacklevel=4)
