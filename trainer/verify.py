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
    """The first weight that differs, in the order of step, row and dimension.

    Parameters
    ----------
    step, dim : int
        Where it is.
    token : int
        Its row's id in the vocabulary.
    reference_bits, found_bits : int
        Its bfloat16 bit pattern in the reference and here.
    """

    step: int
    token: int
    dim: int
    reference_bits: int
    found_bits: int


@dataclass
class Verification:
    """What the comparison found, step 0 to the last.

    Parameters
    ----------
    steps : int
        The last step compared.
    shape : tuple of int
        Of what was compared: steps, rows, dimensions.
    differing : int, optional
        Elements that differ.
    first_step : int, optional
        The first step with one.
    first_element : FirstElement, optional
        The first of them.
    step0_matches : bool, optional
        Whether the initial weights are the same.
    loss_matches : bool, optional
        Whether every loss is within the tolerance.
    max_loss_step, max_loss_difference : optional
        Where the losses are furthest apart, and how far.
    """

    steps: int
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
        """Give the notebook's report.

        Returns
        -------
        list of str
            Lines to print.
        """
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
        """Give the report for a script.

        Returns
        -------
        dict of str to Any
            Plain values.
        """
        return {**asdict(self), "total": self.total, "identical": self.identical}


class Reference:
    """A recording to compare with.

    Parameters
    ----------
    path : Path
        A run, the folder that `trainer run` made around one, or a safetensors file.

    Raises
    ------
    UsageError
        It holds no weights or no loss as a training records them.
    """

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
        """Raise unless W holds the rows that a training would record, for as many steps.

        Parameters
        ----------
        config : Config
            The training.
        tokens : Tensor
            The ids of its rows.

        Raises
        ------
        UsageError
            The reference is shorter, of another shape, or of other tokens.
        """
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
        """Read what the reference recorded, a few steps at a time.

        Parameters
        ----------
        last_step : int
            The last step to give.

        Yields
        ------
        tuple of ndarray and float32
            Bits of W, (n_tokens, dim) uint16, and the loss, from step 0 on.
        """
        weights, losses = self.run["W"].bits, self.run["loss"]
        for start in range(0, last_step + 1, _STEPS_READ_TOGETHER):
            stop = min(start + _STEPS_READ_TOGETHER, last_step + 1)
            yield from zip(weights[start:stop], losses[start:stop].astype(np.float32), strict=True)


def environment_differences(reference: Reference, config: Config, data: TrainingData, device: str) -> list[str]:
    """List how this environment differs from the one in which a reference says it was trained.

    Parameters
    ----------
    reference : Reference
        A run of anybody.
    config : Config
        The training to compare.
    data : TrainingData
        Its data.
    device : str
        Its device.

    Returns
    -------
    list of str
        A line a value; empty if the reference says nothing.
    """
    recorded = said(reference.about, conventions.FINGERPRINT)
    return (
        differences(recorded, take_fingerprint(fresh(config, device).optimizer, device, data.hashes))
        if recorded
        else []
    )


def default_steps(reference: Reference) -> int:
    """Give how many steps are compared if nobody says: the notebook's 1,000, or as many as there are.

    Parameters
    ----------
    reference : Reference
        What is compared with.

    Returns
    -------
    int
        Steps.
    """
    return min(1_000, reference.last_step)


def verification_config(config: Config, steps: int) -> Config:
    """Give the training that is compared: only W, without checkpoints.

    Parameters
    ----------
    config : Config
        The training.
    steps : int
        How long to train.

    Returns
    -------
    Config
        The same training, as far as bits go.
    """
    only_weights = {"series": ("W",), "checkpoint_steps": (), "checkpoint_every": ""}
    return with_settings(config, {"total_steps": steps, **only_weights})


def verify(config: Config, data: TrainingData, device: str, reference: Reference) -> Verification:
    """Train again and compare each step with a reference. Neither is ever in memory whole.

    Parameters
    ----------
    config : Config
        `total_steps` of it are trained.
    data : TrainingData
        What is trained on.
    device : str
        "cpu", "cuda" or "mps".
    reference : Reference
        What is compared with.

    Returns
    -------
    Verification
        What differs, and where first.

    Raises
    ------
    UsageError
        The reference holds other rows or fewer steps.
    """
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
    """Train a few steps twice: if they differ here, no comparison means anything.

    Parameters
    ----------
    config : Config
        The training.
    data : TrainingData
        What is trained on.
    device : str
        "cpu", "cuda" or "mps".

    Returns
    -------
    bool
        Whether both gave the same bits.
    """
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
