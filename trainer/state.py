"""What a training is between two steps: model, optimizer, place in the data, step.

Law: `fresh` seeds and builds in the notebook's order; nothing before or between may draw from a generator.
"""

import random
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from trajectory_store.errors import UsageError

from .batches import Place
from .config import Config
from .model import TinyLM


@dataclass
class TrainingState:
    """A training after `step` optimizer updates."""

    model: TinyLM
    optimizer: torch.optim.Optimizer
    device: str
    step: int = 0
    # () of the batch that made update `step`, where it was computed; 0.0 at step 0, as in the notebook.
    loss: Tensor = field(default_factory=lambda: torch.zeros(()))
    place: Place = field(default_factory=Place)


def choose_device(wanted: str) -> str:
    """The notebook's choice for `auto` (cuda, else mps, else cpu), else the one named; raises where it is missing."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, is_there in there.items() if is_there)
    if not there[wanted]:
        raise UsageError(f"device = {wanted}: torch {torch.__version__} finds no such device here; use device=auto")
    return wanted


def use_threads(num_threads: int) -> None:
    """Set torch's threads on the CPU; 0 leaves its default. Sums are split over threads, so bits depend on it."""
    if num_threads:
        torch.set_num_threads(num_threads)


def fresh(config: Config, device: str) -> TrainingState:
    """The state at step 0, every generator seeded."""
    torch.manual_seed(config.random_seed)
    random.seed(config.random_seed)
    np.random.seed(config.random_seed)
    if device == "cuda":
        torch.cuda.manual_seed_all(config.random_seed)
    model = TinyLM(config.vocab_size, config.hidden_dim, config.num_layers, config.num_heads, config.seq_len)
    model = model.to(device).to(torch.bfloat16)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        weight_decay=config.weight_decay,
    )
    return TrainingState(model, optimizer, device)
