"""What a run records of a training's state: which tokens, which series, and their values after a step.

Law: a series keeps the dtype it has in training (bf16 weights have bf16 gradients and moments). Step k is the state
after k updates; g[k] and loss[k] belong to the batch that made update k. So step 0 has the initial weights, moments of
zero (Adam's own start), and no loss and no gradient: both are 0 there by the notebooks' convention, whose arrays begin
as zeros, so that every series has a row a step and g compresses as well as it can.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import trajectory_store as ts

from .config import Config
from .state import TrainingState
from .vocabulary import Masks

_MOST_CHARS = 1 << 19  # of token strings, since every commit of the recording writes them again


def captured_tokens(config: Config, masks: Masks) -> Tensor:
    """The token ids whose rows are recorded, int64, increasing."""
    if config.capture_rows == "dead":
        return masks.dead_indices
    if config.capture_rows == "live":
        return (~masks.dead_mask).nonzero().flatten()
    return torch.arange(config.vocab_size)


def token_text(tokens: Tensor, strings: list[str]) -> dict[str, list[str]]:
    """The attribute that tells each recorded token's string, none where they are too large to be carried along.

    Not static arrays: those are exported, and an exported run has the notebook's tensors and no others.
    """
    texts = [strings[token] for token in tokens.tolist()]
    return {"token_text": texts} if sum(map(len, texts)) <= _MOST_CHARS else {}


def declared_series(config: Config, token_count: int) -> dict[str, ts.Series]:
    """What the run records, as the store wants it declared."""
    shape = (token_count, config.hidden_dim)
    series = {name: ts.Series(shape, "bfloat16", dims=("token", "dim")) for name in config.series}
    return {**series, "loss": ts.Series((), "float32", dims=())}


@dataclass(frozen=True)
class Frame:
    """One recorded step, all of it on the CPU and nobody else's memory."""

    step: int
    values: dict[str, Any]  # each series' rows, (n_tokens, hidden_dim), and "loss", a number


class Rows:
    """Gathers the recorded rows on the device they are on; only those ever leave it."""

    def __init__(self, series: tuple[str, ...], tokens: Tensor, device: str) -> None:
        self.series = series
        self._tokens = tokens.to(device)

    def each(self, state: TrainingState) -> Iterator[Tensor]:
        """A new tensor (n_tokens, hidden_dim) a series, in their order."""
        return (self._source(name, state).index_select(0, self._tokens) for name in self.series)

    def room(self, state: TrainingState, *steps: int) -> tuple[Tensor, Tensor]:
        """Memory on the device: rows (*steps, n_series, n_tokens, hidden_dim), and losses (*steps)."""
        weight = state.model.embedding.weight
        shape = (*steps, len(self.series), len(self._tokens), weight.shape[1])
        return weight.detach().new_empty(shape), weight.new_empty(steps, dtype=torch.float32)

    def gather(self, state: TrainingState, rows: Tensor, loss: Tensor) -> None:
        """Queue one step's copy into such memory. Queued before the next update, so it is done before it."""
        for row, values in zip(rows, self.each(state), strict=True):
            row.copy_(values)
        loss.copy_(state.loss)

    def frame(self, step: int, rows: Tensor, loss: float) -> Frame:
        """The frame of what was gathered, once it is on the CPU."""
        return Frame(step, {**dict(zip(self.series, rows.unbind(), strict=True)), "loss": loss})

    def _source(self, name: str, state: TrainingState) -> Tensor:
        weight = state.model.embedding.weight
        if name == "W":
            return weight.detach()
        if name == "g":
            return weight.grad if weight.grad is not None else torch.zeros_like(weight).detach()
        # AdamW makes its moments, as zeros, at the first update; `state[weight]` would make an entry here.
        moments = state.optimizer.state.get(weight)
        return moments["exp_avg" if name == "m" else "exp_avg_sq"] if moments else torch.zeros_like(weight).detach()
