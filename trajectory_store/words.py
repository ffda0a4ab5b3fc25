"""The words that options take: each list is written once, as a type, and the check at run time reads it there."""

from typing import Any, Literal, get_args

from .errors import UsageError

Backend = Literal["zarr", "memmap"]
"""How a run is kept: compressed in a Zarr store, or as it is in a safetensors file."""

Codec = Literal["temporal", "portable"]
"""How blocks are encoded: the smaller, or for readers that do not have this package."""

Durability = Literal["process", "power", "none"]
"""What an `append` that returned survives: the death of the process, the loss of power, neither for certain."""

Bf16Form = Literal["bits", "float32"]
"""What bfloat16 becomes where there is none: its patterns as uint16, or its values, widened exactly."""

DeclaredAs = Literal["uint16", "bfloat16"]
"""What the header of an exported file calls bfloat16; the bytes are the same."""

FigureForm = Literal["svg", "png"]
"""The kind of file that a figure becomes."""

PhaseScheme = Literal["regimes", "five-states", "lattice"]
"""How moves are sorted into phases, by the names that the command line has for the schemes."""


def check_word(what: str, given: object, words: Any) -> None:
    """Raise UsageError unless `given` is one of the words of a Literal; `what` says what it is for."""
    if given not in get_args(words):
        raise UsageError(f"{what} {given!r} is unknown; choose from {', '.join(map(repr, get_args(words)))}")
