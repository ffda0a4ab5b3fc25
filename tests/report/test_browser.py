"""The page in a real browser: its script runs, nothing is complained about, and what lies under the pointer is read."""

import json
import re

import pytest

import trajectory_store as ts
from tests.harness.report_runs import HOSTILE
from trajectory_store import report

pytestmark = pytest.mark.slow

PROBE = """<script>
const seen = {};
const move = (plot) => {
  const svg = [...plot.querySelectorAll("svg.chart")].find((one) => one.getBoundingClientRect().width > 0);
  const box = svg.getBoundingClientRect();
  const at = {clientX: box.left + box.width * 0.5, clientY: box.top + box.height * 0.5};
  svg.dispatchEvent(new PointerEvent("pointermove", {bubbles: true, ...at}));
  return plot.querySelector(".tip").innerText;
};
const plots = [...document.querySelectorAll(".plot")];
plots.forEach(move);
setTimeout(() => {
  for (const plot of plots) seen[plot.dataset.chart] = move(plot);
  document.querySelectorAll("button[value=log]").forEach((button) => button.click());
  for (const plot of plots) seen[plot.dataset.chart + "-log"] = move(plot);
  document.title = JSON.stringify(seen);
}, 500);
</script></body>"""


@pytest.fixture
def page_path(tmp_path, run_path, tokenizer_path):
    with ts.open(run_path) as run:
        report.write_page(report.findings(run, tokenizer=tokenizer_path), tmp_path / "report.html")
    return tmp_path / "report.html"


@pytest.mark.parametrize("width", [1040, 500])
def test_page_opens_without_complaint(chromium, page_path, tmp_path, width):
    """Kept as a picture beside the page; hostile strings stay text."""
    picture = tmp_path / f"report-{width}.png"
    _, complaints = chromium.open(page_path, f"--window-size={width},4000", f"--screenshot={picture}")
    assert complaints == []
    assert picture.read_bytes()[:4] == b"\x89PNG"

    document, complaints = chromium.open(page_path, "--dump-dom")
    assert complaints == []
    assert re.search(r"<html[^>]*has-script", document)
    assert "<img" not in document


def test_pointer_reads_every_chart(chromium, page_path, tmp_path):
    """On either axis; a probe stands in for a hand, so the policy that would stop it is taken out."""
    text = re.sub(r"<meta http-equiv[^>]*>", "", page_path.read_text())
    (tmp_path / "probed.html").write_text(text.replace("</body>", PROBE))
    document, complaints = chromium.open(tmp_path / "probed.html", "--dump-dom")
    assert complaints == []
    title = re.search(r"<title>(.*?)</title>", document, re.S)[1]
    seen = json.loads(title.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))

    assert seen["loss"].startswith("step ")
    assert "frozen for good: " in seen["freeze-timeline"]
    assert "tokens: " in seen["freeze-onset"]
    assert "ULP" in seen["heat-map"]
    assert HOSTILE[:4] in seen["heat-map"]
    assert "hypernova: " in seen["phases"]
    assert "largest radius: " in seen["cloud"]
    assert all(
        seen[f"{name}-log"] for name in ("loss", "freeze-timeline", "freeze-onset", "heat-map", "phases", "cloud")
    )
    assert seen["loss"] != seen["loss-log"]
