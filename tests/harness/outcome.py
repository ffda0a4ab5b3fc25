"""What a training leaves, compared bit for bit."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

import trajectory_store as ts
from trainer.checkpoint import checkpoints, read_checkpoint


def same(a: Any, b: Any) -> bool:
    """Whether two contents of checkpoints have the same bits."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a.flatten().view(torch.uint8), b.flatten().view(torch.uint8))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


def assert_same_run(expected: Path, found: Path) -> None:
    """Every series and exported file, and the last checkpoint with model, optimizer, place and all generators."""
    with ts.open(expected / "trajectory") as a, ts.open(found / "trajectory") as b:
        assert a.steps.tolist() == b.steps.tolist()
        for name in a:
            np.testing.assert_array_equal(a[name].bits[...], b[name].bits[...], err_msg=name)
    for file in expected.glob("*.safetensors"):
        assert file.read_bytes() == (found / file.name).read_bytes()
    last = (checkpoints(out / "checkpoints")[-1].path for out in (expected, found))
    expected_state, found_state = map(read_checkpoint, last)
    for key in expected_state.keys() - {"about"}:
        assert same(expected_state[key], found_state[key]), key
