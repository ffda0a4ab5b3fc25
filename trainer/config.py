"""Everything a training run is told before it begins: the notebook's constants in lower case, and ours.

A Config is checked when it is made, so the rest of the trainer never meets an impossible one. Every refusal names the
key, the value found and what is allowed. Knows no file but the TOML it is asked to read.
"""

import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from trajectory_store import conventions
from trajectory_store.errors import RunNotFoundError, UsageError

SERIES = conventions.SERIES
"""What can be recorded beside the loss: weights, both moments of Adam, gradients."""

ROWS = ("dead", "live", "all")
DEVICES = ("auto", "cpu", "cuda", "mps")
_MOST_STEPS = 10**9
_MOST_SIZE = 2**24


@dataclass(frozen=True, kw_only=True)
class Config:
    """One training run; the defaults are Thimble 9's.

    Parameters
    ----------
    experiment : str, optional
        What the run is called.
    total_steps : int, optional
        Optimizer updates.
    batch_size : int, optional
        Sequences in a batch.
    seq_len : int, optional
        Tokens in a sequence.
    learning_rate, weight_decay, beta1, beta2, epsilon : float, optional
        Of AdamW.
    vocab_size, hidden_dim, num_layers, num_heads : int, optional
        Of the model.
    random_seed : int, optional
        Of every generator.
    checkpoint_steps : tuple of int, optional
        Steps whose checkpoints stay, increasing.
    checkpoint_every : str, optional
        When a rolling checkpoint is due as well: after steps ("500"), after minutes ("10m"), or never ("").
    series : tuple of str, optional
        What is recorded at every step beside the loss, of SERIES.
    capture_rows : str, optional
        Whose embedding rows the series hold, of ROWS.
    device : str, optional
        One of DEVICES; "auto" is the notebook's order: cuda, mps, cpu.
    num_threads : int, optional
        Of torch on the CPU; 0 leaves its default. Bits depend on it.

    Raises
    ------
    UsageError
        A value is impossible; the message says which and what is allowed.
    """

    experiment: str = "Thimble 9"
    total_steps: int = 10_000
    batch_size: int = 128
    seq_len: int = 128
    learning_rate: float = 3e-4
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    vocab_size: int = 10_000
    hidden_dim: int = 64
    num_layers: int = 2
    num_heads: int = 2
    random_seed: int = 42
    checkpoint_steps: tuple[int, ...] = field(default=tuple(range(0, 10_001, 1_000)))
    checkpoint_every: str = ""
    series: tuple[str, ...] = ("W",)
    capture_rows: str = "dead"
    device: str = "auto"
    num_threads: int = 0

    def __post_init__(self) -> None:
        _at_least("total_steps", self.total_steps, 1, _MOST_STEPS)
        for key, least in (("batch_size", 1), ("seq_len", 2), ("vocab_size", 2), ("hidden_dim", 1), ("num_heads", 1)):
            _at_least(key, getattr(self, key), least, _MOST_SIZE)
        _at_least("num_layers", self.num_layers, 1, 1_000)
        _at_least("random_seed", self.random_seed, 0, 2**32 - 1)
        _at_least("num_threads", self.num_threads, 0, 1_024)
        for key in ("learning_rate", "weight_decay", "epsilon"):
            value = getattr(self, key)
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{key} = {value}: expected a finite number of at least 0")
        for key in ("beta1", "beta2"):
            if not 0 <= getattr(self, key) < 1:
                raise UsageError(f"{key} = {getattr(self, key)}: expected a number from 0 up to, but not including, 1")
        if self.hidden_dim % self.num_heads:
            raise UsageError(
                f"hidden_dim = {self.hidden_dim} is not divisible by num_heads = {self.num_heads};"
                " every attention head has the same width"
            )
        _check_checkpoint_steps(self.checkpoint_steps, self.total_steps)
        rolling_interval(self.checkpoint_every)
        _subset("series", self.series, SERIES)
        _one_of("capture_rows", self.capture_rows, ROWS)
        _one_of("device", self.device, DEVICES)
        if not self.experiment.strip():
            raise UsageError("experiment is empty: give the run a name")

    def to_json(self) -> dict[str, Any]:
        """Give plain values, as metadata, attributes and checkpoints hold them.

        Returns
        -------
        dict of str to Any
            Every key.
        """
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Config":
        """Make a configuration of what `to_json` gave.

        Parameters
        ----------
        value : Mapping of str to Any
            Keys that are missing get their defaults.

        Returns
        -------
        Config
            The configuration.

        Raises
        ------
        UsageError
            A key is unknown or a value is wrong.
        """
        return with_settings(Config(), value)


def rolling_interval(text: str) -> tuple[int, float]:
    """Read `checkpoint_every`.

    Parameters
    ----------
    text : str
        Steps such as "500", minutes such as "10m", or "" for none.

    Returns
    -------
    tuple of int and float
        Steps and seconds; 0 for the unit that is not asked for.

    Raises
    ------
    UsageError
        It is none of these.
    """
    found = re.fullmatch(r"(?:([1-9]\d{0,8})|([1-9]\d{0,5}(?:\.\d+)?|0\.\d*[1-9]\d*)m)?", text)
    if found is None:
        raise UsageError(f"checkpoint_every = {text!r}: expected steps such as 500, minutes such as 10m, or nothing")
    return int(found[1] or 0), float(found[2] or 0) * 60


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """Give a configuration with some keys replaced.

    If `total_steps` changes and `checkpoint_steps` is not set with it, the checkpoints follow: those past the new end
    are left out and the new end is added.

    Parameters
    ----------
    config : Config
        Where the other keys come from.
    settings : Mapping of str to Any
        Strings are parsed as the key's type.

    Returns
    -------
    Config
        The new configuration.

    Raises
    ------
    UsageError
        A key is unknown or a value is wrong.
    """
    parsed = {key: _parsed(key, value) for key, value in settings.items()}
    if "total_steps" in parsed and "checkpoint_steps" not in parsed:
        total = parsed["total_steps"]
        parsed["checkpoint_steps"] = (*(step for step in config.checkpoint_steps if step < total), total)
    return replace(config, **parsed)


def settings_from_toml(path: Path) -> dict[str, Any]:
    """Read the keys of one flat TOML file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict of str to Any
        Settings for `with_settings`, not yet checked.

    Raises
    ------
    RunNotFoundError
        The file cannot be read.
    UsageError
        It is not TOML.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise RunNotFoundError(f"{path}: cannot read the configuration: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a TOML file: {error}") from error


def settings_from_pairs(pairs: Sequence[str]) -> dict[str, str]:
    """Read `key=value` arguments.

    Parameters
    ----------
    pairs : Sequence of str
        One argument each.

    Returns
    -------
    dict of str to str
        Settings for `with_settings`, not yet checked.

    Raises
    ------
    UsageError
        An argument has no "=", or a key is given twice.
    """
    settings: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{pair!r}: a setting is written key=value, such as total_steps=500")
        if key.strip() in settings:
            raise UsageError(f"{key.strip()} is set twice")
        settings[key.strip()] = value.strip()
    return settings


def _parsed(key: str, value: Any) -> Any:
    parser = _PARSERS.get(key)
    if parser is None:
        raise UsageError(f"unknown configuration key {key!r}; the keys are {', '.join(_PARSERS)}")
    try:
        return parser(value)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{key} = {value!r}: expected {_EXPECTED[parser]}") from error


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise TypeError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError
    return float(value)


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise TypeError
    return str(value)


def _integers(value: Any) -> tuple[int, ...]:
    return tuple(_integer(item) for item in _items(value))


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(item) for item in _items(value))


def _items(value: Any) -> Sequence[Any]:
    if isinstance(value, str):
        return [item.strip() for item in value.split(",")] if value.strip() else []
    return value if isinstance(value, (list, tuple)) else [value]


_EXPECTED: dict[Callable[[Any], Any], str] = {
    _integer: "a whole number",
    _number: "a number",
    _text: "text",
    _integers: "whole numbers with commas between them",
    _texts: "names with commas between them",
}
_PARSER_OF_TYPE = {int: _integer, float: _number, str: _text, tuple[int, ...]: _integers, tuple[str, ...]: _texts}
_PARSERS: dict[str, Callable[[Any], Any]] = {key.name: _PARSER_OF_TYPE[key.type] for key in fields(Config)}  # type: ignore[index]


def _at_least(key: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(f"{key} = {value}: expected a whole number from {least} to {most}")


def _one_of(key: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UsageError(f"{key} = {value!r}: expected one of {', '.join(allowed)}")


def _subset(key: str, values: Sequence[str], allowed: Sequence[str]) -> None:
    for value in values:
        _one_of(key, value, allowed)
    if len(set(values)) != len(values):
        raise UsageError(f"{key} = {','.join(values)}: a name is given twice")


def _check_checkpoint_steps(steps: tuple[int, ...], total_steps: int) -> None:
    if any(later <= earlier for earlier, later in pairwise((-1, *steps))):
        raise UsageError(f"checkpoint_steps = {','.join(map(str, steps))}: expected increasing steps of at least 0")
    if steps and steps[-1] > total_steps:
        raise UsageError(f"checkpoint_steps: step {steps[-1]} is past the last step, total_steps = {total_steps}")
