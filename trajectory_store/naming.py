"""Which names a series, a static array or a dimension can have, and the nearest such name to any other text.

A series is a folder and a node of a Zarr hierarchy, so a name is what every file system and every Zarr reader takes.
The rule is that of docs/format.md, "Names".
"""

import re
import zlib
from collections.abc import Container, Iterable, Mapping

MAX_CHARACTERS = 230
"""File systems take 255 bytes; the rest is for `.NAME.XXXXXXXX.partial` and for `NAME_dim_0`."""
RESERVED = frozenset({"static", "journal", "lock", "manifest.json", "zarr.json", "__metadata__"})
"""What stands beside the series in a run's folder, and safetensors' own key."""

_NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{MAX_CHARACTERS - 1}}}")
_DIMENSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
_REPLACED = re.compile(r"[^A-Za-z0-9_.-]")
_ZARRS_OWN = "__"


def can_name(name: object) -> bool:
    """Whether a run that exists may have a series or a static array of this name."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None and name not in RESERVED


def can_name_in_new_run(name: object) -> bool:
    """Whether a run may begin with this name: Zarr reserves `__`, and some file systems take `Lock` for `lock`."""
    return can_name(name) and not str(name).startswith(_ZARRS_OWN) and str(name).lower() not in RESERVED


def can_name_dimension(name: object) -> bool:
    """Whether a dimension of a series, its steps left aside, can have this name."""
    return isinstance(name, str) and _DIMENSION.fullmatch(name) is not None and name != "step"


def nearest_name(text: str) -> str:
    """A name for a new run that is like `text`, or the text itself where it is one; always the same for a text.

    "/" becomes ".", any other character that no name has becomes "_", and a text that is too long is cut and ends with
    its own checksum.
    """
    name = _REPLACED.sub("_", text.replace("/", ".")).lstrip(".-")
    if name.startswith(_ZARRS_OWN):
        name = "_" + name.lstrip("_")
    if name.lower() in RESERVED or not name:
        name += "_"
    if len(name) > MAX_CHARACTERS:
        name = _cut(name, f"_{zlib.crc32(text.encode(errors='surrogatepass')):08x}")
    return name


def names_for(texts: Iterable[str], chosen: Mapping[str, str] | None = None) -> dict[str, str]:
    """Text → its name in a new run: the one that is chosen for it, else itself if it can be one, else the nearest.

    A text that is a name keeps it whatever the others are, unless that name is chosen for another one.
    """
    in_order = list(dict.fromkeys(texts))
    names = dict(chosen or {})
    taken = set(names.values())
    numbers: dict[str, int] = {}  # of the names that were given to several: a file may have any number of them
    for text in sorted((text for text in in_order if text not in names), key=can_name_in_new_run, reverse=True):
        near = names[text] = nearest_name(text)
        while names[text] in taken:
            numbers[near] = numbers.get(near, 1) + 1
            names[text] = _numbered(near, numbers[near])
        taken.add(names[text])
    return {text: names[text] for text in in_order}


def free_name(name: str, taken: Container[str]) -> str:
    """`name`, or with the first number behind it, from _2 on, that makes it one that is not in `taken`."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = _numbered(name, number)
    return free


def _numbered(name: str, number: int) -> str:
    return _cut(name, str(number) if name.endswith("_") else f"_{number}")


def _cut(name: str, ending: str) -> str:
    return name[: MAX_CHARACTERS - len(ending)] + ending
