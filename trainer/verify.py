"""The notebook's verification mode: train again and compare with a reference, bit for bit, step by step.

Nothing is written, and neither side is ever in memory whole.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

import trajectory_store as ts
from trajectory_store import conventions
from trajectory_store.errors import UsageError

from .batches import Batches
from .capture import capture_on
from .config import Config, with_settings
from .data import TrainingData
from .fingerprint import differences, said, take_fingerprint
from .loop import train
from .rows import Frame, captured_tokens
from .state import TrainingState, fresh

_TOLERANCE = 1e-5  # of losses, relative and absolute; the weights have none
_STEPS_READ_TOGETHER = 64
_SELF_TEST_STEPS = 5
Bits = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class FirstElement:
    """The first weight that differs, in step, row and dim order."""

    step: int
    token: int  # its id in the vocabulary
    dim: int
    reference_bits: int
    found_bits: int


@dataclass
class Verification:
    """What the comparison found, step 0 to the last."""

    steps: int  # the last step compared
    shape: tuple[int, int, int]
    differing: int = 0
    first_step: int | None = None
    first_element: FirstElement | None = None
    step0_matches: bool = True
    loss_matches: bool = True
    max_loss_step: int = 0
    max_loss_difference: float = 0.0

    @property
    def total(self) -> int:
        """Elements compared."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def identical(self) -> bool:
        """Whether every recorded weight has the reference's bits and every loss is within the tolerance."""
        return self.differing == 0 and self.loss_matches

    def lines(self) -> list[str]:
        """The notebook's report."""
        if self.differing == 0:
            lines = [f"✓ BITWISE IDENTICAL: {self.total:,} elements of {self.steps + 1:,} steps match the reference"]
        else:
            share = self.differing / self.total
            lines = [
                f"✗ MISMATCH: {self.differing:,} / {self.total:,} elements differ ({share:.4%})",
                f"First difference at step: {self.first_step}",
            ]
            if (first := self.first_element) is not None:
                lines.append(
                    f"First element: token {first.token}, dim {first.dim}:"
                    f" {first.reference_bits:#06x} in the reference, {first.found_bits:#06x} here"
                )
            lines.append(f"Step 0 (initialization) matches: {self.step0_matches}")
        lines.append(f"Loss values match (within tolerance): {self.loss_matches}")
        if not self.loss_matches:
            lines.append(f"Max loss difference at step {self.max_loss_step}: {self.max_loss_difference:.6f}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """The report for a script."""
        return {**asdict(self), "total": self.total, "identical": self.identical}


class Reference:
    """A recording to compare with: a run, the folder `trainer run` made around one, or a safetensors file."""

    def __init__(self, path: Path) -> None:
        inner = path / "trajectory"
        self.path = path
        self.run = ts.open(inner if inner.is_dir() else path)
        for name in ("W", "loss"):
            if name not in self.run:
                raise UsageError(f"{path}: the reference holds no series {name!r}")
        weights, losses = self.run["W"], self.run["loss"]
        if weights.ndim != 3 or weights.dtype.itemsize != 2:
            raise UsageError(f"{path}: W is {weights!r}; expected bfloat16 or its bits as (step, token, dim)")
        if losses.ndim != 1:
            raise UsageError(f"{path}: loss is {losses!r}; expected one number a step")
        self.last_step = min(len(weights), len(losses)) - 1

    @property
    def about(self) -> Mapping[str, Any]:
        """What the run says of itself; empty for a file."""
        return self.run.attrs

    def require_comparable(self, config: Config, tokens: torch.Tensor) -> None:
        """Raise unless W holds the rows this training would record, for as many steps."""
        if config.total_steps > self.last_step:
            raise UsageError(f"{self.path}: the reference ends at step {self.last_step}, before {config.total_steps}")
        found, expected = self.run["W"].shape[1:], (len(tokens), config.hidden_dim)
        if found != expected:
            raise UsageError(f"{self.path}: a step of the reference is {found} and of this training {expected}")
        if config.capture_rows == "dead" and conventions.DEAD_INDICES in self.run.static:
            recorded = np.asarray(self.run.static[conventions.DEAD_INDICES])
            if not np.array_equal(recorded, tokens.numpy()):
                raise UsageError(f"{self.path}: the reference holds other dead tokens than this data folder")

    def frames(self, last_step: int) -> Iterator[tuple[Bits, np.float32]]:
        """(bits of W, loss) of steps 0 … `last_step`."""
        weights, losses = self.run["W"].bits, self.run["loss"]
        for start in range(0, last_step + 1, _STEPS_READ_TOGETHER):
            stop = min(start + _STEPS_READ_TOGETHER, last_step + 1)
            yield from zip(weights[start:stop], losses[start:stop].astype(np.float32), strict=True)


def environment_differences(reference: Reference, config: Config, data: TrainingData, device: str) -> list[str]:
    """How this environment differs from the one the reference says it was trained in; empty where it says nothing."""
    recorded = said(reference.about, conventions.FINGERPRINT)
    return (
        differences(recorded, take_fingerprint(fresh(config, device).optimizer, device, data.hashes))
        if recorded
        else []
    )


def default_steps(reference: Reference) -> int:
    """The notebook's 1,000, or as many as the reference has."""
    return min(1_000, reference.last_step)


def verification_config(config: Config, steps: int) -> Config:
    """The training that is compared: only W, no checkpoints."""
    only_weights = {"series": ("W",), "checkpoint_steps": (), "checkpoint_every": ""}
    return with_settings(config, {"total_steps": steps, **only_weights})


def verify(config: Config, data: TrainingData, device: str, reference: Reference) -> Verification:
    """Train `config.total_steps` steps and compare each with the reference."""
    tokens = captured_tokens(config, data.masks)
    reference.require_comparable(config, tokens)
    frames = reference.frames(config.total_steps)
    found = Verification(config.total_steps, (config.total_steps + 1, len(tokens), config.hidden_dim))
    with tqdm(total=config.total_steps, desc="Verifying", disable=None) as progress:

        def compare(step: int, bits: Bits, loss: float) -> None:
            reference_bits, reference_loss = next(frames)
            _compare_weights(found, step, reference_bits, bits, tokens)
            _compare_loss(found, step, reference_loss, np.float32(loss))
            progress.update(step > 0)

        _replay(config, data, device, compare)
    return found


def is_deterministic(config: Config, data: TrainingData, device: str) -> bool:
    """Whether two trainings of a few steps give the same bits here: without that, no comparison means anything."""
    short = with_settings(config, {"total_steps": min(_SELF_TEST_STEPS, config.total_steps), "checkpoint_steps": ()})
    return _recorded_bytes(short, data, device) == _recorded_bytes(short, data, device)


def _recorded_bytes(config: Config, data: TrainingData, device: str) -> list[bytes]:
    frames: list[bytes] = []

    def keep(_step: int, bits: Bits, loss: float) -> None:
        frames.append(bits.tobytes() + loss.hex().encode())

    _replay(config, data, device, keep)
    return frames


def _replay(config: Config, data: TrainingData, device: str, on_frame: Callable[[int, Bits, float], None]) -> None:
    """Train from step 0, handing out each step's recorded weights and loss."""
    state = fresh(config, device)
    batches = Batches(data.tokens, seq_len=config.seq_len, batch_size=config.batch_size)
    capture = capture_on(device, config.series, captured_tokens(config, data.masks))

    def hand_out(frames: list[Frame]) -> None:
        for frame in frames:
            on_frame(frame.step, frame.values["W"].view(torch.uint16).numpy(), frame.values["loss"])

    def on_step(state: TrainingState) -> bool:
        hand_out(capture.take(state))
        return True

    on_step(state)
    train(state, batches, config, on_step)
    hand_out(capture.drain())


def _compare_weights(found: Verification, step: int, reference: Bits, bits: Bits, tokens: torch.Tensor) -> None:
    differs = reference != bits
    count = int(np.count_nonzero(differs))
    if not count:
        return
    found.differing += count
    found.step0_matches = found.step0_matches and step > 0
    if found.first_step is None:
        row, dim = (int(i) for i in np.argwhere(differs)[0])
        found.first_step = step
        found.first_element = FirstElement(step, int(tokens[row]), dim, int(reference[row, dim]), int(bits[row, dim]))


def _compare_loss(found: Verification, step: int, reference: np.float32, loss: np.float32) -> None:
    difference = abs(float(reference) - float(loss))
    # Not `>`: a loss that is no number matches nothing.
    if not difference <= _TOLERANCE + _TOLERANCE * abs(float(loss)):
        found.loss_matches = False
    if difference > found.max_loss_difference or difference != difference:
        found.max_loss_step, found.max_loss_difference = step, difference
