"""The one bridge from a training to its recording: each step taken where it is, and handed out on the CPU.

Law: frames come out in step order, each once, and alias nothing. On the CPU a step comes out as it is taken. A GPU
works behind the program that feeds it, and waiting for it at every step would leave it idle, so there frames come out
later; whoever needs all of them (a checkpoint, the end, an error) drains the capture first.
"""

from typing import Protocol

from torch import Tensor

from .ring import Ring
from .rows import Frame, Rows
from .state import TrainingState

_STEPS_TOGETHER = 8  # of 473 kB each: an eighth of the waits, for a few MB


class Capture(Protocol):
    """Takes what is recorded out of a state."""

    def take(self, state: TrainingState) -> list[Frame]:
        """Take the state's step; returns the frames that are ready, which may be of earlier steps, or none."""

    def drain(self) -> list[Frame]:
        """The frames taken that have not come out yet; waits for them."""


def capture_on(device: str, series: tuple[str, ...], tokens: Tensor) -> Capture:
    """The capture that suits the device; without a series it takes the loss alone."""
    rows = Rows(series, tokens, device)
    if device == "cuda":
        return Ring(rows)
    return Together(rows) if device == "mps" else Immediate(rows)


class Immediate:
    """Hands out each step at once: on the CPU there is nothing to wait for."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def take(self, state: TrainingState) -> list[Frame]:
        values = (rows.cpu() for rows in self._rows.each(state))
        named = dict(zip(self._rows.series, values, strict=True))
        return [Frame(state.step, {**named, "loss": state.loss.item()})]

    def drain(self) -> list[Frame]:
        return []


class Together:
    """Gathers several steps on the device and copies them at once: on MPS every copy waits for all that is queued."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._room: tuple[Tensor, Tensor] | None = None
        self._steps: list[int] = []  # those gathered

    def take(self, state: TrainingState) -> list[Frame]:
        if self._room is None:
            self._room = self._rows.room(state, _STEPS_TOGETHER)
        rows, losses = self._room
        place = len(self._steps)
        self._rows.gather(state, rows[place], losses[place])
        self._steps.append(state.step)
        return self.drain() if len(self._steps) == len(losses) else []

    def drain(self) -> list[Frame]:
        if self._room is None or not self._steps:
            return []
        rows, losses = (room[: len(self._steps)].to("cpu", copy=True) for room in self._room)
        gathered = zip(self._steps, rows, losses.tolist(), strict=True)
        frames = [self._rows.frame(step, step_rows, loss) for step, step_rows, loss in gathered]
        self._steps.clear()
        return frames
