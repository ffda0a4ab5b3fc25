"""The configurations that have a name. Data only."""

from trajectory_store.errors import UsageError

from .config import Config

PRESETS: dict[str, Config] = {
    # Thimble 9's model and optimizer, small enough in batch and steps for a minute on two CPU cores.
    "demo": Config(experiment="Demo", total_steps=500, batch_size=8, checkpoint_steps=(0, 100, 500)),
    "thimble-8": Config(
        experiment="Thimble 8",
        total_steps=4_000,
        checkpoint_steps=(0, 1, 10, 100, 500, 1_000, 2_000, 3_000, 3_500, 4_000),
        series=("W", "m", "v", "g"),
    ),
    "thimble-9": Config(),
    "crucible": Config(
        experiment="Crucible",
        total_steps=5_000,
        learning_rate=1e-3,
        weight_decay=0.0,
        checkpoint_steps=tuple(range(0, 5_001, 1_000)),
    ),
}


def preset(name: str) -> Config:
    """Give the configuration of a name.

    Parameters
    ----------
    name : str
        One of PRESETS.

    Returns
    -------
    Config
        The configuration.

    Raises
    ------
    UsageError
        There is none; the message names those there are.
    """
    if name not in PRESETS:
        raise UsageError(f"no preset {name!r}; the presets are {', '.join(PRESETS)}")
    return PRESETS[name]
