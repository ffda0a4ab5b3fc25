"""Make a data folder: text, tokenizer, masks and their provenance.

The folder is built beside its place and renamed into it, so it is there whole or not at all.
"""

import json
import platform
import unicodedata
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trajectory_store import atomic, files, folders
from trajectory_store.errors import RunExistsError, UsageError

from . import corpus
from .data import CORPUS, MASKS, PROVENANCE, TOKENIZER
from .fingerprint import sha256_of
from .tokenizer import encode, load_tokenizer, train_tokenizer
from .vocabulary import count_tokens, demographics, masks_file


def prepare(
    folder: Path,
    *,
    corpus_file: Path | None = None,
    tokenizer_corpus_files: Sequence[Path] = (),
    fineweb: bool = False,
    vocab_size: int = 10_000,
    overwrite: bool = False,
    load_dataset: corpus.LoadDataset | None = None,
    report: Callable[[str], None] = lambda _line: None,
) -> dict[str, Any]:
    """Make a data folder; without a source, from the built-in text.

    Parameters
    ----------
    folder : Path
        Where it will be: there whole, or not at all.
    corpus_file : Path, optional
        The text to train on.
    tokenizer_corpus_files : Sequence of Path, optional
        The text that the tokenizer is made from; without it, the corpus itself and letters of other scripts.
    fineweb : bool, optional
        Whether to stream the notebooks' own texts instead.
    vocab_size : int, optional
        Entries of the tokenizer, exactly.
    overwrite : bool, optional
        Whether to replace a data folder that has nothing else in it.
    load_dataset : LoadDataset, optional
        What stands in for `datasets.load_dataset`.
    report : Callable, optional
        Is given each line of what is being done.

    Returns
    -------
    dict of str to Any
        The provenance, as it is written into the folder.

    Raises
    ------
    RunExistsError
        Something is at `folder` that is not to be replaced; then nothing is touched.
    UsageError
        The sources contradict each other, or no token is dead.
    """
    if folder.exists() or folder.is_symlink():
        if not overwrite:
            raise RunExistsError(f"{folder}: is there already; choose another folder, or replace it with --overwrite")
        _require_replaceable(folder)
    if vocab_size < 2:
        raise UsageError(f"vocabulary size {vocab_size}: expected at least 2")
    if fineweb and (corpus_file or tokenizer_corpus_files):
        raise UsageError("--fineweb brings its own texts: leave --corpus and --tokenizer-corpus out")

    letters: list[str] = []
    if fineweb:
        report("Streaming FineWeb …")
        tokenizer_text, model_text = corpus.fineweb(load_dataset or corpus.load_dataset_from_hub())
    else:
        model_text = corpus.from_files([corpus_file]) if corpus_file else corpus.built_in()
        tokenizer_text = model_text
        if tokenizer_corpus_files:
            tokenizer_text = corpus.from_files(tokenizer_corpus_files)
        else:
            letters = corpus.built_in_letters(vocab_size)
            report(f"The tokenizer is trained on the corpus itself and {len(letters):,} letters of other scripts")
    report(f"Corpus: {model_text.origin['characters']:,} characters")

    tokenizer = train_tokenizer(tokenizer_text.text, vocab_size=vocab_size, letters=letters)
    with folders.build_folder(folder, overwrite=overwrite) as partial:
        atomic.put(partial / CORPUS, model_text.text.encode())
        atomic.put(partial / TOKENIZER, tokenizer.to_str(pretty=True).encode())
        # Count what a training will see: the files as they are read back.
        tokenizer = load_tokenizer(partial / TOKENIZER)
        tokens = encode(tokenizer, corpus.read_text(partial / CORPUS))
        counts = count_tokens(tokens, vocab_size)
        dead_count = int((counts == 0).sum())
        if dead_count == 0:
            raise UsageError("every token of the vocabulary occurs in the corpus, so none is dead; use other text")
        atomic.put(partial / MASKS, masks_file(counts))
        provenance = {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "corpus": model_text.origin,
            "tokenizer_corpus": tokenizer_text.origin | {"letters": len(letters)},
            "vocab_size": vocab_size,
            "tokens": len(tokens),
            "dead_tokens": dead_count,
            "live_tokens": vocab_size - dead_count,
            "demographics": demographics(tokenizer.get_vocab(), counts),
            "sha256": {name: sha256_of(partial / name) for name in (CORPUS, TOKENIZER, MASKS)},
            "versions": {
                "python": platform.python_version(),
                "tokenizers": version("tokenizers"),
                "unicode": unicodedata.unidata_version,
            },
        }
        atomic.put(partial / PROVENANCE, (json.dumps(provenance, indent=2, ensure_ascii=False) + "\n").encode())
    return provenance


def _require_replaceable(folder: Path) -> None:
    """Raise unless `folder` was made by `prepare`, and holds no file that it does not make: all of it would go."""
    try:
        provenance = json.loads((folder / PROVENANCE).read_bytes())
    except (OSError, ValueError):
        provenance = None
    if folder.is_symlink() or not isinstance(provenance, dict) or not isinstance(provenance.get("sha256"), dict):
        raise RunExistsError(
            f"{folder}: is there and is not a data folder that `trainer prepare` made, so it is not replaced"
        )
    written = {CORPUS, TOKENIZER, MASKS, PROVENANCE, files.FOLDER_VIEW}
    if others := sorted({path.name for path in folder.iterdir()} - written):
        raise RunExistsError(
            f"{folder}: holds {others[0]!r}, which `trainer prepare` did not make, so it is not replaced; move that"
            " elsewhere, or choose another folder"
        )
