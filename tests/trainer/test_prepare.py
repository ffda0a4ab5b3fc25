"""A data folder is there whole or not at all, is the same every time, and says where it comes from."""

import gzip
import hashlib
import json
import lzma
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from trainer import corpus
from trainer.prepare import prepare
from trainer.vocabulary import script_of
from trajectory_store.errors import UsageError

FILES = {"corpus.txt", "tokenizer.json", "live_dead_tokens.safetensors", "provenance.json"}
Run = Callable[..., Result]


def test_masks_are_those_of_the_encoded_corpus(data: Path) -> None:
    """A token is dead exactly where the corpus, encoded whole, lacks it."""
    tokens = Tokenizer.from_file(str(data / "tokenizer.json")).encode((data / "corpus.txt").read_text()).ids
    counts = np.bincount(tokens, minlength=300)

    found = load_file(data / "live_dead_tokens.safetensors")

    assert {name: str(array.dtype) for name, array in found.items()} == {
        "live_mask": "bool",
        "dead_mask": "bool",
        "live_indices": "int64",
        "dead_indices": "int64",
        "token_occurrence_counts": "int64",
    }
    np.testing.assert_array_equal(counts, found["token_occurrence_counts"])
    np.testing.assert_array_equal(counts == 0, found["dead_mask"])
    np.testing.assert_array_equal(counts > 0, found["live_mask"])
    np.testing.assert_array_equal(np.flatnonzero(counts == 0), found["dead_indices"])
    np.testing.assert_array_equal(np.flatnonzero(counts), found["live_indices"])


def test_tokenizer_is_the_notebooks_kind(data: Path, texts: SimpleNamespace) -> None:
    """Character-level BPE, the special token first, then the sorted alphabet of the tokenizer corpus, then merges."""
    tokenizer = Tokenizer.from_file(str(data / "tokenizer.json"))
    description = json.loads((data / "tokenizer.json").read_text(encoding="utf-8"))
    alphabet = sorted(set(texts.tokenizer.read_text(encoding="utf-8")))

    assert tokenizer.get_vocab_size() == 300
    assert [tokenizer.id_to_token(i) for i in range(1 + len(alphabet))] == ["<|endoftext|>", *alphabet]
    assert description["model"]["type"] == "BPE"
    assert description["pre_tokenizer"] == {"type": "Whitespace"}
    assert description["normalizer"] is description["decoder"] is None


def test_the_same_sources_give_the_same_files(tmp_path: Path, data: Path, texts: SimpleNamespace) -> None:
    """Everything but the provenance's date is repeated, byte for byte."""
    prepare(tmp_path / "again", corpus_file=texts.corpus, tokenizer_corpus_files=[texts.tokenizer], vocab_size=300)

    for name in FILES - {"provenance.json"}:
        assert (data / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_provenance_names_sources_and_hashes(data: Path, texts: SimpleNamespace) -> None:
    """Sources, counts, hashes of what was read and of what was written."""
    provenance = json.loads((data / "provenance.json").read_text(encoding="utf-8"))

    assert {path.name for path in data.iterdir()} == FILES
    assert provenance["corpus"]["files"] == [str(texts.corpus)]
    assert provenance["corpus"]["sha256"] == hashlib.sha256(texts.corpus.read_bytes()).hexdigest()
    assert provenance["sha256"] == {
        name: hashlib.sha256((data / name).read_bytes()).hexdigest() for name in FILES - {"provenance.json"}
    }
    dead = load_file(data / "live_dead_tokens.safetensors")["dead_mask"].sum()
    assert provenance["dead_tokens"] == dead == sum(row["dead"] for row in provenance["demographics"].values())
    assert sum(row["entries"] for row in provenance["demographics"].values()) == 300
    assert provenance["demographics"]["Thai"]["dead"] == 7
    assert provenance["demographics"]["Hangul"] == {"entries": 2, "dead": 2}


@pytest.mark.parametrize(
    ("token", "script"),
    [
        ("<|endoftext|>", "special"),
        ("\n", "whitespace"),
        ("the", "English"),
        ("ภา", "Thai"),
        ("丁", "CJK"),
        ("가", "Hangul"),
        ("42", "numeric"),
        ("...", "punctuation"),
        ("é", "other"),
    ],
)
def test_scripts(token: str, script: str) -> None:
    """Each kind of token of the notebooks' demographics."""
    assert script == script_of(token)


@pytest.mark.slow
def test_built_in_text_leaves_thousands_dead(tmp_path: Path, trainer: Run) -> None:
    """Without a source: English documentation, 10,000 entries, thousands of dead tokens, nothing downloaded."""
    result = trainer("prepare", tmp_path / "data")

    assert result.exit_code == 0
    provenance = json.loads((tmp_path / "data" / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["vocab_size"] == 10_000
    assert 3_000 < provenance["dead_tokens"] < 5_000
    assert provenance["tokens"] > 300_000
    assert provenance["demographics"]["Thai"] == {"entries": 87, "dead": 87}
    assert "built-in" in provenance["corpus"]["kind"]


@pytest.mark.parametrize(("suffix", "pack"), [(".xz", lzma.compress), (".gz", gzip.compress)])
def test_compressed_corpora_are_unpacked(
    tmp_path: Path, data: Path, texts: SimpleNamespace, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    """A packed file gives the same folder as its content."""
    packed = tmp_path / f"corpus{suffix}"
    packed.write_bytes(pack(texts.corpus.read_bytes()))

    prepare(tmp_path / "data", corpus_file=packed, tokenizer_corpus_files=[texts.tokenizer], vocab_size=300)

    for name in FILES - {"provenance.json"}:
        assert (data / name).read_bytes() == (tmp_path / "data" / name).read_bytes()


def test_corpus_alone_gets_the_built_in_letters(tmp_path: Path, texts: SimpleNamespace, trainer: Run) -> None:
    """Without a tokenizer corpus, letters of other scripts make dead tokens, a third of the vocabulary at most."""
    result = trainer("prepare", tmp_path / "data", "--corpus", texts.corpus, "--vocab-size", 200)

    assert result.exit_code == 0
    assert "66 letters of other scripts" in result.output
    provenance = json.loads((tmp_path / "data" / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["tokenizer_corpus"]["letters"] == provenance["demographics"]["Thai"]["dead"] == 66


def _fineweb_stand_in(**fields: str) -> tuple[corpus.LoadDataset, list[tuple[Any, ...]]]:
    asked: list[tuple[Any, ...]] = []

    def load(name: str, config: str, *, split: str, streaming: bool) -> list[dict[str, Any]]:
        asked.append((name, config, split, streaming))
        word = "ภาษาไทย" if config == "tha_Thai" else "word"
        field = fields.get("field", "text")
        return [{field: f"{word} {number} of a document"} for number in range(40)]

    return load, asked


def test_fineweb_takes_the_notebooks_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first documents make the tokenizer, a later stretch the corpus, joined by empty lines."""
    monkeypatch.setattr(corpus, "_TOKENIZER_DOCUMENTS", 30)
    monkeypatch.setattr(corpus, "_TOKENIZER_THAI_DOCUMENTS", 5)
    monkeypatch.setattr(corpus, "_MODEL_DOCUMENTS", (10, 14))
    load, asked = _fineweb_stand_in()

    provenance = prepare(tmp_path / "data", fineweb=True, vocab_size=40, load_dataset=load)

    assert asked == [
        ("HuggingFaceFW/fineweb", "sample-10BT", "train", True),
        ("HuggingFaceFW/fineweb-2", "tha_Thai", "train", True),
    ]
    text = (tmp_path / "data" / "corpus.txt").read_text(encoding="utf-8")
    assert text == "\n\n".join(f"word {number} of a document" for number in range(10, 14))
    assert provenance["tokenizer_corpus"]["documents"] == [30, 5]
    assert provenance["demographics"]["Thai"]["dead"] == provenance["demographics"]["Thai"]["entries"] > 0


def test_fineweb_through_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real `datasets` library streams local files of the same shape."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(corpus, "_MODEL_DOCUMENTS", (3, 9))
    for config, word in (("sample-10BT", "word"), ("tha_Thai", "ภาษาไทย")):
        lines = [json.dumps({"text": f"{word} {number} of a document", "id": number}) for number in range(12)]
        (tmp_path / f"{config}.jsonl").write_text("\n".join(lines))

    def load(_name: str, config: str, **options: Any) -> Any:
        return datasets.load_dataset("json", data_files=str(tmp_path / f"{config}.jsonl"), **options)

    provenance = prepare(tmp_path / "data", fineweb=True, vocab_size=40, load_dataset=load)

    assert provenance["corpus"]["documents"] == [6]
    assert provenance["tokenizer_corpus"]["documents"] == [12, 12]


def test_fineweb_of_another_shape_is_refused(tmp_path: Path) -> None:
    """A dataset without the expected field is one sentence."""
    load, _ = _fineweb_stand_in(field="content")

    with pytest.raises(UsageError, match="no field 'text'"):
        prepare(tmp_path / "data", fineweb=True, load_dataset=load)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--corpus", "missing.txt"], "missing.txt: cannot read the text"),
        (["--corpus", "latin1.txt"], "latin1.txt: not UTF-8 text"),
        (["--corpus", "torn.xz"], "torn.xz: damaged compressed file"),
        (["--corpus", "torn.gz"], "torn.gz: damaged compressed file"),
        (["--corpus", "empty.txt"], "empty.txt: the file holds no text"),
        (["--corpus", "few.txt", "--vocab-size", "5000"], "the tokenizer corpus is too small"),
        (["--corpus", "few.txt", "--tokenizer-corpus", "few.txt", "--vocab-size", "5"], "the alphabet alone has"),
        (["--corpus", "few.txt", "--tokenizer-corpus", "abc.txt", "--vocab-size", "1"], "expected at least 2"),
        (["--fineweb", "--corpus", "few.txt"], "brings its own texts"),
    ],
)
def test_bad_input_leaves_nothing(
    tmp_path: Path, trainer: Run, monkeypatch: pytest.MonkeyPatch, options: list[str], sentence: str
) -> None:
    """One clear sentence, exit 2, and no folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin1.txt").write_bytes(b"caf\xe9 au lait")
    (tmp_path / "torn.xz").write_bytes(lzma.compress(b"a word and another" * 9)[:-20])
    (tmp_path / "torn.gz").write_bytes(gzip.compress(b"a word and another" * 9)[:-20])
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "few.txt").write_text("a few words and a few more words")
    (tmp_path / "abc.txt").write_text("abc abc abc")
    before = set(tmp_path.rglob("*"))

    result = trainer("prepare", "data", *options)

    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
    assert before == set(tmp_path.rglob("*"))


def test_existing_folder_is_replaced_only_on_request(tmp_path: Path, texts: SimpleNamespace, trainer: Run) -> None:
    """A folder that is there is refused, a data folder replaced with --overwrite, any other folder never."""
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.txt").write_text("unique")
    command = ("prepare", tmp_path / "data", "--corpus", texts.corpus, "--vocab-size", 200)
    assert trainer(*command).exit_code == 0
    before = (tmp_path / "data" / "provenance.json").stat().st_mtime_ns

    assert trainer(*command).exit_code == 2
    assert before == (tmp_path / "data" / "provenance.json").stat().st_mtime_ns
    assert trainer(*command, "--overwrite").exit_code == 0
    assert before != (tmp_path / "data" / "provenance.json").stat().st_mtime_ns
    refused = trainer("prepare", other, "--corpus", texts.corpus, "--overwrite")
    assert refused.exit_code == 2
    assert "not a data folder" in refused.stderr
    assert (other / "chapter.txt").read_text() == "unique"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"notes.partial": "unique"}, "holds 'notes.partial', which `trainer prepare` did not make"),
        ({".corpus.txt.1234abcd.partial": "unique"}, "holds '.corpus.txt.1234abcd.partial', which"),
        ({"thesis/chapter.txt": "unique"}, "holds 'thesis', which `trainer prepare` did not make"),
        ({"provenance.json": '{"unique": 1}'}, "not a data folder"),
        ({"provenance.json": '["sha256"]'}, "not a data folder"),
        ({"provenance.json": "unique"}, "not a data folder"),
    ],
)
def test_a_neighbours_file_keeps_a_data_folder(
    tmp_path: Path, data: Path, trainer: Run, content: dict[str, str], sentence: str
) -> None:
    """--overwrite removes what `prepare` makes: a folder with any other file, or of another program, stays whole."""
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    for name, text in content.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    result = trainer("prepare", folder, "--overwrite")

    assert result.exit_code == 2
    assert sentence in result.stderr
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_link_to_a_data_folder_is_not_replaced(tmp_path: Path, data: Path, trainer: Run) -> None:
    """The link would be moved aside and what it leads to would stay: say so before anything is moved."""
    (tmp_path / "data").symlink_to(data)

    assert "not a data folder" in trainer("prepare", tmp_path / "data", "--overwrite").stderr
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_what_a_killed_overwrite_moved_aside_is_removed(tmp_path: Path, texts: SimpleNamespace, trainer: Run) -> None:
    """By the next overwrite of the same folder, and no neighbour's with it."""
    trainer("prepare", tmp_path / "data", "--corpus", texts.corpus, "--vocab-size", 200)
    (tmp_path / "data" / ".DS_Store").write_bytes(b"Bud1")  # of a macOS that showed the folder: nobody's work
    for name in (".data.0123abcd.replaced", ".other.0123abcd.replaced", ".data.replaced", ".data.0123abcd.partial"):
        (tmp_path / name).mkdir()

    result = trainer("prepare", tmp_path / "data", "--corpus", texts.corpus, "--vocab-size", 200, "--overwrite")

    assert result.exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".data.0123abcd.partial",  # of a process that may still be at work: nothing locks a data folder
        ".data.replaced",
        ".other.0123abcd.replaced",
        "data",
    ]


@pytest.mark.slow
@pytest.mark.skipif("TRAJECTORY_CORPORA" not in os.environ, reason="no folder of real text")
def test_real_text_at_full_size(tmp_path: Path) -> None:
    """A vocabulary of 10,000 from English and Thai leaves the Thai dead on English text."""
    folder = Path(os.environ["TRAJECTORY_CORPORA"])

    provenance = prepare(
        tmp_path / "data",
        corpus_file=folder / "english.txt.xz",
        tokenizer_corpus_files=[folder / "english_tokenizer.txt.xz", folder / "thai.txt.xz"],
    )

    assert 3_200 < provenance["dead_tokens"] < 3_400
    assert provenance["demographics"]["Thai"]["dead"] > 2_000
