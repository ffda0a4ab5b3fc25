import json
import shutil

import numpy as np
import pytest

from tests.harness.report_runs import HOSTILE, Chromium, record, walking_bits


@pytest.fixture(scope="session")
def run_path(tmp_path_factory):
    """A run with all there can be, and names in it that would break a careless page."""
    bits = walking_bits(60, 40)
    loss = np.concatenate([[0.0], 9 / np.arange(1, 60) ** 0.2])
    static = {"dead_indices": np.arange(100, 140)}
    attrs = {"config": {"experiment": HOSTILE, HOSTILE: [HOSTILE]}, HOSTILE: HOSTILE}
    return record(tmp_path_factory.mktemp("runs") / "run", bits, loss=loss, static=static, attrs=attrs)


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory):
    """A tokenizer in which every token of the run has the hostile string, or one that cannot be seen."""
    vocabulary = {f"{HOSTILE}{index}": index for index in range(100, 139)} | {" \n\u202e": 139}
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": [{"id": 0, "content": "end"}]}))
    return path


@pytest.fixture
def chromium(tmp_path):
    """Skips where no browser is installed."""
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    program = next((path for path in found if path), None)
    if program is None:
        pytest.skip("needs chromium on PATH")
    return Chromium(program, tmp_path)


@pytest.fixture(autouse=True)
def no_leaks() -> None:
    """What these tests open ends when it is collected, so nothing is counted after each of them."""
