"""The page: one file, nothing from elsewhere, nothing of a run's own that a browser could take for markup."""

import html.parser
import json
import re
import struct
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import trajectory_store as ts
from tests.harness.report_runs import HOSTILE, record, walking_bits
from trajectory_store import report
from trajectory_store.cli import main
from trajectory_store.errors import ConventionWarning, UsageError

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Outline(html.parser.HTMLParser):
    """Collects elements and attributes, and checks that elements are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def page_of(path, **how):
    with ts.open(path) as run:
        return report.page(report.findings(run, **how))


@pytest.fixture(scope="module")
def page(run_path, tokenizer_path):
    return page_of(run_path, tokenizer=tokenizer_path)


def test_page_asks_for_nothing(page):
    """No address but the name spaces of SVG, no element that loads, and images that are in the page."""
    addresses = re.findall(r"""(?:https?:)?//[^\s"'<>)]+""", re.sub(r"<script>.*?</script>", "", page, flags=re.S))
    assert {address for address in addresses if "." in address} == {"http://www.w3.org/2000/svg"}
    for tag, attributes in Outline(page).elements:
        assert tag not in {"link", "iframe", "object", "embed", "img", "base", "form"}
        for name in ("src", "href", "xlink:href", "action", "data"):
            assert attributes.get(name, "data:image/png").startswith("data:image/png")
        assert not any(name.startswith("on") for name in attributes)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_script_has_no_address_and_sends_nothing(page):
    """The script knows one name space."""
    script = page.rsplit("<script>", 1)[1]
    assert re.findall(r"https?://[^\"]*", script) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"fetch|XMLHttpRequest|WebSocket|sendBeacon|import\(|eval|innerHTML", script)


def test_hostile_strings_stay_text(page):
    """A token's string, an attribute's name and value: shown as they are, never run."""
    outline = Outline(page)
    assert [tag for tag, _ in outline.elements].count("script") == 2
    assert "alert(1)</script>" not in page
    assert any(HOSTILE in text for text in outline.text)
    data = re.search(r'id="hover">(.*?)</script>', page, re.S)[1]
    assert "</" not in data
    assert any(HOSTILE[:5] in name for name in json.loads(data)["charts"]["heat-map"]["tokens"])


def test_invisible_strings_are_made_visible(page):
    """A space, a line's end and a control that turns text around."""
    assert "<bdi>␣\\n\\u202e</bdi>" in page


def test_run_names_its_own_tokens(tmp_path, tokenizer_path):
    """Strings in the run's attributes stay text, and are not listed as an attribute beside; a tokenizer comes first."""
    attrs = {"token_text": [HOSTILE, " \n\u202e", "\ud800", "x" * 10_000]}
    path = record(tmp_path / "run", walking_bits(6, 4), static={"dead_indices": np.arange(136, 140)}, attrs=attrs)

    text = page_of(path)

    assert "<bdi>␣\\n\\u202e</bdi>" in text
    assert "alert(1)</script>" not in text
    assert "x" * 201 not in text
    assert "token_text" not in text
    assert "Name a tokenizer" not in text
    with ts.open(path) as run:
        assert report.findings(run).names == [HOSTILE, " \n\u202e", "?", "x" * 200]
        assert report.findings(run, tokenizer=tokenizer_path).names[0] == f"{HOSTILE}136"


@pytest.mark.parametrize("text", ["abcd", ["a", "b", "c"], ["a", "b", "c", "d", "e"], ["a", "b", "c", 4], {"0": "a"}])
def test_names_that_are_not_one_a_token_are_passed_over(tmp_path, text):
    """Other authors' attributes may be anything."""
    path = record(tmp_path / "run", walking_bits(6, 4), attrs={"token_text": text})
    with ts.open(path) as run, pytest.warns(ConventionWarning, match="stay without strings"):
        assert report.findings(run).names is None


def test_same_run_gives_same_page(page, run_path, tokenizer_path):
    """No time, no random name."""
    assert page == page_of(run_path, tokenizer=tokenizer_path)


def test_figures_are_well_formed_svg_without_variables(run_path, tokenizer_path):
    """Every figure as a file of its own, on either axis."""
    with ts.open(run_path) as run:
        files = report.svg_files(report.findings(run, tokenizer=tokenizer_path))
    assert set(files) == {
        *(f"{name}{axis}.svg" for name in
          ("loss", "freeze-timeline", "freeze-onset", "heat-map", "phases", "cloud") for axis in ("", "-log")),
        "worldlines.svg",
    }  # fmt: skip
    for text in files.values():
        root = ElementTree.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(" not in text
        assert "nan" not in re.sub(r"base64,[^\"]*", "", text)


@pytest.mark.parametrize("n_steps", [2, 3])
@pytest.mark.parametrize("n_tokens", [1, 2, 7])
def test_short_and_small_runs(tmp_path, n_steps, n_tokens):
    """A few steps of a few tokens, without a loss or static arrays."""
    outline = Outline(page_of(record(tmp_path / "run", walking_bits(n_steps, n_tokens, dim=1))))
    assert ("section", {"class": "card", "id": "loss"}) not in outline.elements
    assert ("section", {"class": "card", "id": "worldlines"}) in outline.elements


def test_run_that_never_moves(tmp_path):
    """Nothing moves, and the page says so."""
    page = page_of(record(tmp_path / "run", np.full((5, 3, 4), 0x3C00, dtype=np.uint16)))
    assert "No token moved." in page


@pytest.mark.parametrize("whole", [False, True])
def test_run_with_nan(tmp_path, whole):
    """Weights and losses that are not finite are gaps, and named."""
    bits = walking_bits(40, 12)
    bits[20:, slice(None) if whole else 3, 2] = 0x7FC0
    loss = np.ones(40)
    loss[7], loss[9] = np.nan, np.inf
    page = page_of(record(tmp_path / "run", bits, loss=loss))
    Outline(page)
    assert "2 are not finite: gaps" in page
    assert "Some weights are not finite: gaps." in page
    assert "NaN</text>" in page
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*|<script>.*?</script>", "", page, flags=re.S))


def test_safetensors_file_is_reported_too(tmp_path, run_path):
    """Whatever opens as a run."""
    ts.export_safetensors(run_path, tmp_path / "all.safetensors")
    assert "all.safetensors" in page_of(tmp_path / "all.safetensors")


def invoke(*arguments):
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def test_command_writes_page_and_figures(tmp_path, run_path, tokenizer_path):
    """Once, and again only when it is told to."""
    output, figures = tmp_path / "new" / "report.html", tmp_path / "figures"
    arguments = (run_path, "-o", output, "--figures", figures, "--tokenizer", tokenizer_path)

    result = invoke(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert output.stat().st_size < 10_000_000
    assert len(list(figures.glob("*.svg"))) == 13

    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "already there" in result.stderr
    assert invoke(*arguments, "--overwrite").exit_code == 0


def test_figures_as_png_are_the_same_drawings(tmp_path, run_path):
    """One of each, 2.5 pixels a unit of the SVG, and not a blank one."""
    pytest.importorskip("resvg_py")
    figures = tmp_path / "figures"
    result = invoke(run_path, "-o", tmp_path / "r.html", "--figures", figures, "--figure-format", "png")
    assert (result.exit_code, result.stderr) == (0, "")
    with ts.open(run_path) as run:
        drawings = report.svg_files(report.findings(run))

    assert {path.stem for path in figures.iterdir()} == {Path(name).stem for name in drawings}
    for name, svg in drawings.items():
        image = (figures / name).with_suffix(".png").read_bytes()
        width, height = map(int, re.search(r'viewBox="0 0 (\d+) (\d+)"', svg).groups())
        assert image[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack_from(">II", image, 16) == (width * 5 // 2, height * 5 // 2)
        assert len(image) > 10_000

    assert "already there" in refused(
        run_path, "-o", tmp_path / "s.html", "--figures", figures, "--figure-format", "png"
    )


def test_png_without_its_library_is_one_sentence(tmp_path, run_path, monkeypatch):
    """It names the extra, before the work."""
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    output = tmp_path / "r.html"
    message = refused(run_path, "-o", output, "--figures", tmp_path / "figures", "--figure-format", "png")
    assert 'need resvg-py; install "trajectory-store[plots]"' in message
    assert not output.exists()
    with pytest.raises(UsageError, match="format 'gif' is unknown; choose from 'svg', 'png'"):
        report.renderer("gif")


def refused(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    return result.stderr


def test_wrong_series_is_one_sentence(tmp_path, run_path):
    """Not bfloat16, not there, of numbers, too short."""
    output = tmp_path / "report.html"
    floats = record(tmp_path / "floats", np.zeros((3, 4, 5), dtype=np.float32), dtype="float32")
    one = record(tmp_path / "one", walking_bits(1, 3))

    assert "needs bfloat16, or its bits as uint16, found float32" in refused(floats, "-o", output)
    assert "no series 'm'; it has W, loss" in refused(run_path, "-o", output, "--series", "m")
    assert "needs bfloat16" in refused(run_path, "-o", output, "--series", "loss")
    assert "needs two steps and one token at least, found 1 × 3 × 8" in refused(one, "-o", output)
    assert not output.exists()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"model": {"vocab": 3}}', '{"model": {"vocab": {"a": "b"}}}', "[" * 100_000]
)
def test_broken_tokenizer_is_one_sentence(tmp_path, run_path, text):
    """Any JSON, and none."""
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text(text)
    message = refused(run_path, "-o", tmp_path / "report.html", "--tokenizer", tokenizer)
    assert "not a tokenizer.json with a model and its vocabulary" in message


def test_missing_tokenizer_is_one_sentence(tmp_path, run_path):
    """A wrong path, and a folder."""
    for path in (tmp_path / "nothing.json", tmp_path):
        assert "no readable tokenizer.json" in refused(run_path, "-o", tmp_path / "r.html", "--tokenizer", path)


def test_other_tokenizer_than_the_run_was_trained_with_is_refused(tmp_path, tokenizer_path):
    """The strings of the wrong tokens would look right."""
    attrs = {"fingerprint": {"bits": {"data": {"tokenizer.json": "0" * 64}}}}
    path = record(tmp_path / "run", walking_bits(4, 4), attrs=attrs)
    message = refused(path, "-o", tmp_path / "r.html", "--tokenizer", tokenizer_path)
    assert "not the tokenizer this run was trained with" in message
