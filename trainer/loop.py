"""The training loop, the notebook's, readable top to bottom.

Law: between two steps nothing here draws from a generator, touches a parameter or waits for CUDA. Whatever else a run
does (capture, checkpoints, progress) happens in `on_step`, after the update, while the gradients are still there.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .batches import Batches
from .config import Config
from .state import TrainingState


def train(
    state: TrainingState, batches: Batches, config: Config, on_step: Callable[[TrainingState], bool]
) -> TrainingState:
    """Take `state` from its step to `config.total_steps`, calling `on_step` after every update.

    Stops before that where `on_step` returns False. `state` is changed in place and returned.
    """
    model, optimizer, device = state.model, state.optimizer, state.device
    loss_fn = nn.CrossEntropyLoss()
    autocast_device = device if device != "mps" else "cpu"  # so that on mps nothing is autocast, as in the notebook
    model.train()

    begun = state.place.is_inside_epoch
    while state.step < config.total_steps:
        epoch = batches.finish_epoch(state.place) if begun else batches.begin_epoch(state.place)
        begun = False

        for batch in epoch:
            if state.step >= config.total_steps:
                break

            input_ids = _sent(batch, device)
            with torch.autocast(device_type=autocast_device, dtype=torch.bfloat16):
                logits = model(input_ids)  # (B, S, V)
                shift_logits = logits[:, :-1, :].contiguous()
                shift_labels = input_ids[:, 1:].contiguous()
                loss = loss_fn(shift_logits.view(-1, config.vocab_size), shift_labels.view(-1))

            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

            state.step += 1
            state.place.consumed += 1
            state.loss = loss.detach()  # its `.item()` would wait for the device
            if not on_step(state):
                return state
    return state


def _sent(batch: Tensor, device: str) -> Tensor:
    """The batch on the device. To CUDA from pinned memory: from other memory the copy waits for all that is queued."""
    return batch.pin_memory().to(device, non_blocking=True) if device == "cuda" else batch.to(device)
