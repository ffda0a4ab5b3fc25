"""A ring of slots through which frames leave a GPU while it goes on training: nothing here waits for a step just made.

A step's rows are gathered into a slot on the training's own stream, so the parameter may change at once after. A second
stream copies the slot to host memory, and the frame comes out at the first later step that finds this done.
Law: a slot is filled again only after its copy was done and its frame was copied out; frames come out in step order.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .rows import Frame, Rows
from .state import TrainingState

SLOTS = 4  # steps that the training may be ahead of its recording


class Event(Protocol):
    """Whether a copy has come to its end, as `torch.cuda.Event` tells it."""

    def query(self) -> bool:
        """Whether it is done; never waits."""

    def synchronize(self) -> None:
        """Wait until it is done."""


class Transfer(Protocol):
    """The way from the device to the host."""

    def landing(self, like: Tensor) -> Tensor:
        """Host memory of a device tensor's shape and dtype."""

    def start(self, pairs: list[tuple[Tensor, Tensor]]) -> Event:
        """Begin to copy (device, host) pairs, after all that the training's stream was given so far."""


class SideStream:
    """The transfer on CUDA: a stream of its own into pinned memory, since from anything else a copy would wait."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def landing(self, like: Tensor) -> Tensor:
        return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)

    def start(self, pairs: list[tuple[Tensor, Tensor]]) -> Event:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for on_device, on_host in pairs:
                on_host.copy_(on_device, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(self._stream)
        return copied


@dataclass(frozen=True)
class _Slot:
    rows: Tensor
    loss: Tensor
    host_rows: Tensor
    host_loss: Tensor


@dataclass(frozen=True)
class _InFlight:
    step: int
    slot: _Slot
    copied: Event


class Ring:
    """A capture whose frames come out up to `SLOTS - 1` steps late. One thread, that of the training."""

    def __init__(self, rows: Rows, transfer: Callable[[], Transfer] = SideStream) -> None:
        self._rows = rows
        self._transfer = transfer()
        self._free: deque[_Slot] = deque()
        self._in_flight: deque[_InFlight] = deque()

    def take(self, state: TrainingState) -> list[Frame]:
        """Begin to take this step; returns the frames that are there, waiting only where every slot is in flight."""
        if not self._free and not self._in_flight:
            self._free.extend(self._new_slot(state) for _ in range(SLOTS))
        slot = self._free[0]  # still free where the next lines raise
        self._rows.gather(state, slot.rows, slot.loss)
        copied = self._transfer.start([(slot.rows, slot.host_rows), (slot.loss, slot.host_loss)])
        self._in_flight.append(_InFlight(state.step, self._free.popleft(), copied))
        frames = []
        while self._in_flight and (not self._free or self._in_flight[0].copied.query()):
            frames.append(self._oldest())
        return frames

    def drain(self) -> list[Frame]:
        """Wait for every frame that has not come out yet."""
        frames = []
        while self._in_flight:
            frames.append(self._oldest())
        return frames

    def _oldest(self) -> Frame:
        oldest = self._in_flight[0]
        oldest.copied.synchronize()  # without it the host's memory may hold the slot's last step, or half of this one
        # A copy: whoever gets the frame may keep it for longer than the slot stays as it is.
        frame = self._rows.frame(oldest.step, oldest.slot.host_rows.clone(), oldest.slot.host_loss.item())
        self._free.append(self._in_flight.popleft().slot)
        return frame

    def _new_slot(self, state: TrainingState) -> _Slot:
        rows, loss = self._rows.room(state)
        return _Slot(rows, loss, self._transfer.landing(rows), self._transfer.landing(loss))
