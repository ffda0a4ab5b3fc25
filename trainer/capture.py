"""The one bridge from a training's state to frames: which series a run records, and their values after a step.

Law: a series keeps the dtype it has in training (bf16 weights have bf16 gradients and moments). Step k is the state
after k updates; g[k] and loss[k] belong to the batch that made update k. So step 0 has the initial weights, moments of
zero (Adam's own start), and no loss and no gradient: both are 0 there by the notebooks' convention, whose arrays begin
as zeros, so that every series has a row a step and g compresses as well as it can.
"""

from typing import Any

import torch
from torch import Tensor

import trajectory_store as ts

from .config import Config
from .state import TrainingState
from .vocabulary import Masks


def captured_tokens(config: Config, masks: Masks) -> Tensor:
    """The token ids whose rows are recorded, int64, increasing."""
    if config.capture_rows == "dead":
        return masks.dead_indices
    if config.capture_rows == "live":
        return (~masks.dead_mask).nonzero().flatten()
    return torch.arange(config.vocab_size)


def declared_series(config: Config, token_count: int) -> dict[str, ts.Series]:
    """What the run records, as the store wants it declared."""
    shape = (token_count, config.hidden_dim)
    series = {name: ts.Series(shape, "bfloat16", dims=("token", "dim")) for name in config.series}
    return {**series, "loss": ts.Series((), "float32", dims=())}


class Capture:
    """Takes the recorded rows out of a state; only those rows leave the device."""

    def __init__(self, config: Config, tokens: Tensor, device: str) -> None:
        self._series = config.series
        self._tokens = tokens.to(device)

    def frame(self, state: TrainingState) -> dict[str, Any]:
        """One step's values, CPU tensors that alias nothing, and the loss."""
        values: dict[str, Any] = {
            name: self._source(name, state).index_select(0, self._tokens).cpu() for name in self._series
        }
        values["loss"] = state.loss
        return values

    def _source(self, name: str, state: TrainingState) -> Tensor:
        weight = state.model.embedding.weight
        if name == "W":
            return weight.detach()
        if name == "g":
            return weight.grad if weight.grad is not None else torch.zeros_like(weight).detach()
        # AdamW makes its moments, as zeros, at the first update; `state[weight]` would make an entry here.
        moments = state.optimizer.state.get(weight)
        return moments["exp_avg" if name == "m" else "exp_avg_sq"] if moments else torch.zeros_like(weight).detach()
