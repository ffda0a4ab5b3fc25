"""Where text comes from: the user's files, FineWeb, or the documentation every Python installation carries.

Each source is deterministic and says what it is (`Text.origin`) for the provenance. Reading never writes.
"""

import ast
import gzip
import hashlib
import lzma
import sys
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from trajectory_store.errors import MalformedFileError, RunNotFoundError, UsageError

LETTERS_SHARE = 3
"""The built-in letters take at most one in this many places of a vocabulary."""

_THAI = [chr(code) for code in (*range(0x0E01, 0x0E3B), *range(0x0E3F, 0x0E5C))]
_HANGUL = [chr(code) for code in range(0xAC00, 0xAC00 + 28 * 40, 2)]  # syllables, so letters of modern Korean
_CJK = [chr(code) for code in range(0x4E00, 0x4E00 + 2_600)]

# FineWeb by documents, as the Flannel corpora of the notebooks were cut.
_FINEWEB = ("HuggingFaceFW/fineweb", "sample-10BT")
_FINEWEB_THAI = ("HuggingFaceFW/fineweb-2", "tha_Thai")
_TOKENIZER_DOCUMENTS = 26_868
_TOKENIZER_THAI_DOCUMENTS = 2_189
_MODEL_DOCUMENTS = (10_000, 11_607)

# Tests and vendored tools are code about code; leaving them out keeps the text prose and the reading short.
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "__pycache__"}


@dataclass(frozen=True)
class Text:
    """A text and where it comes from.

    Parameters
    ----------
    text : str
        All of it.
    origin : dict of str to Any
        What the provenance says about it.
    """

    text: str
    origin: dict[str, Any]


LoadDataset = Callable[..., Iterable[dict[str, Any]]]
"""`datasets.load_dataset`, as far as it is used here: (name, config, split=, streaming=) → documents with "text"."""


def read_text(path: Path) -> str:
    """Read a UTF-8 text file, line ends as Python's text mode reads them.

    Parameters
    ----------
    path : Path
        The file; one that ends in .xz or .gz is unpacked.

    Returns
    -------
    str
        The whole text.

    Raises
    ------
    MalformedFileError
        It is not UTF-8, or the packed file is damaged.
    RunNotFoundError
        It cannot be read.
    """
    openers: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open}
    opener = openers.get(path.suffix, open)
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            text: str = file.read()
    except UnicodeDecodeError as error:
        raise MalformedFileError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from error
    except (lzma.LZMAError, EOFError, gzip.BadGzipFile) as error:
        raise MalformedFileError(f"{path}: damaged compressed file: {error}") from error
    except OSError as error:
        raise RunNotFoundError(f"{path}: cannot read the text: {error.strerror or error}") from error
    return text


def from_files(paths: Iterable[Path]) -> Text:
    """Read files' texts, one after the other with an empty line between.

    Parameters
    ----------
    paths : Iterable of Path
        UTF-8 text files.

    Returns
    -------
    Text
        All of it as one text.

    Raises
    ------
    UsageError
        A file holds no text.
    """
    paths = list(paths)
    texts = [read_text(path) for path in paths]
    for path, text in zip(paths, texts, strict=True):
        if not text.strip():
            raise UsageError(f"{path}: the file holds no text")
    return _text("\n\n".join(texts), kind="files", files=[str(path) for path in paths])


def built_in() -> Text:
    """Give Python's own English documentation: `pydoc_data.topics`, then the standard library's docstrings.

    Docstrings are parsed from the source files and nothing is imported, so the text is the same for one installation.

    Returns
    -------
    Text
        All of it as one text.

    Raises
    ------
    RunNotFoundError
        This Python was installed without it.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise RunNotFoundError("this Python comes without its documentation text; give one with --corpus") from error
    root = Path(sysconfig.get_path("stdlib"))
    parts = [topics[name].strip() for name in sorted(topics)]
    for path in sorted(root.rglob("*.py")):
        if _LEFT_OUT.isdisjoint(path.relative_to(root).parts):
            parts += _docstrings(path)
    return _text("\n\n".join(parts), kind="built-in", python=sys.version.split()[0])


def _docstrings(path: Path) -> list[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return []  # a template or a foreign encoding, not a module
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, holders))
    # Whatever cannot be written as UTF-8 (lone surrogates in codec examples) could not be read back.
    return [text.encode("utf-8", "ignore").decode() for text in found if text]


def built_in_letters(vocab_size: int) -> list[str]:
    """List letters of scripts that English text lacks: so many tokens that no training text will ever touch.

    Parameters
    ----------
    vocab_size : int
        Entries of the vocabulary; the letters take at most a third of it.

    Returns
    -------
    list of str
        Thai, Korean and Chinese letters, sorted.
    """
    room = vocab_size // LETTERS_SHARE
    thai = _THAI[:room]
    hangul = _HANGUL[: (room - len(thai)) // 5]
    cjk = _CJK[: room - len(thai) - len(hangul)]
    return sorted(thai + hangul + cjk)


def fineweb(load_dataset: LoadDataset) -> tuple[Text, Text]:
    """Stream the notebooks' own texts, document by document.

    The tokenizer corpus is the first English documents, then the first Thai ones; the model corpus is a later stretch
    of the English documents. Documents are joined by an empty line.

    Parameters
    ----------
    load_dataset : LoadDataset
        `datasets.load_dataset`, or what stands in for it.

    Returns
    -------
    tuple of Text and Text
        The tokenizer corpus and the model corpus.

    Raises
    ------
    UsageError
        Too few documents came.
    """
    first, stop = _MODEL_DOCUMENTS
    english = _documents(load_dataset, _FINEWEB, max(stop, _TOKENIZER_DOCUMENTS))
    thai = _documents(load_dataset, _FINEWEB_THAI, _TOKENIZER_THAI_DOCUMENTS)
    model = english[first:stop]
    if not model:
        raise UsageError(f"{_FINEWEB[0]}: only {len(english):,} documents came; the model corpus begins at {first:,}")
    tokenizer = english[:_TOKENIZER_DOCUMENTS] + thai
    return (
        _text(
            "\n\n".join(tokenizer),
            kind="fineweb",
            datasets=["/".join(_FINEWEB), "/".join(_FINEWEB_THAI)],
            documents=[min(len(english), _TOKENIZER_DOCUMENTS), len(thai)],
        ),
        _text(
            "\n\n".join(model),
            kind="fineweb",
            datasets=["/".join(_FINEWEB)],
            first_document=first,
            documents=[len(model)],
        ),
    )


def load_dataset_from_hub() -> LoadDataset:
    """Give `datasets.load_dataset`.

    Returns
    -------
    LoadDataset
        The function; what it reads comes from the network.

    Raises
    ------
    UsageError
        The extra `fineweb` is not installed.
    """
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise UsageError("--fineweb needs the package `datasets`: pip install 'trajectory-store[fineweb]'") from error
    loader: LoadDataset = load_dataset
    return loader


def _documents(load_dataset: LoadDataset, dataset: tuple[str, str], count: int) -> list[str]:
    name, config = dataset
    try:
        stream = load_dataset(name, config, split="train", streaming=True)
        documents = tqdm(islice(stream, count), total=count, desc=f"{name}/{config}", unit=" documents", disable=None)
        return [document["text"] for document in documents]
    except KeyError as error:
        raise UsageError(f"{name}/{config}: its documents have no field {error}") from error
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{name}/{config}: cannot be read: {(str(error).splitlines() or ['no reason given'])[0]}"
        ) from error


def _text(text: str, **origin: Any) -> Text:
    raw = text.encode()
    size = {"bytes": len(raw), "characters": len(text), "sha256": hashlib.sha256(raw).hexdigest()}
    return Text(text, {**origin, **size})
