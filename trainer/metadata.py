"""`metadata.json`: the notebook's keys in the notebook's order, then more about where a recording comes from."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trajectory_store as ts
from trajectory_store import atomic

from .config import Config
from .state import TrainingState

_NOTEBOOK_KEYS = (
    "total_steps",
    "batch_size",
    "seq_len",
    "learning_rate",
    "weight_decay",
    "beta1",
    "beta2",
    "epsilon",
    "vocab_size",
    "hidden_dim",
    "num_layers",
    "num_heads",
    "random_seed",
)


def write_metadata(
    path: Path,
    config: Config,
    state: TrainingState,
    series: Mapping[str, ts.Series],
    *,
    dead_count: int,
    about: Mapping[str, Any],
) -> None:
    """Write the metadata of a training that has come to its end.

    Parameters
    ----------
    path : Path
        It appears whole and synced.
    config : Config
        What was trained.
    state : TrainingState
        The last one.
    series : Mapping of str to Series
        What was recorded.
    dead_count : int
        How many tokens are dead.
    about : Mapping of str to Any
        Plain values to add at the end.

    Raises
    ------
    StorageError
        The disk refuses.
    """
    frames = config.total_steps + 1
    metadata = {
        "experiment": config.experiment,
        "date": datetime.now(UTC).date().isoformat(),
        **{key: getattr(config, key) for key in _NOTEBOOK_KEYS},
        "n_dead_tokens": dead_count,
        "checkpoint_steps": list(config.checkpoint_steps),
        "final_loss": state.loss.item(),
        "total_epochs": state.place.epoch,
        "device": state.device,
        "data_shapes": {name: [s.rows_before(frames), *s.shape] for name, s in series.items()},
        "notes": _notes(config),
        **about,
    }
    atomic.put(path, (json.dumps(metadata, indent=2) + "\n").encode())


def _notes(config: Config) -> str:
    whose = {"dead": "Dead tokens only.", "live": "Live tokens only.", "all": "All tokens."}[config.capture_rows]
    names = ", ".join(config.series)
    return f"{whose} {names} stored as uint16 (bfloat16 bit pattern)." if names else "Loss only."
