"""A folder that is there already, filled in one step: it stays the folder that it was.

Somebody made it on purpose: with a mode, a group, an access list, a quota, or a file system mounted on it. So what it
is to hold is built in a folder inside of it and moved up, last of all the file without which it holds nothing.
"""

import contextlib
import os
from collections.abc import Iterator, Set
from pathlib import Path

from . import files

_NEW = "new"
_NAMES = ".moving"
"""The names that are moved up, in the folder where they were built: this list says what a killed process moved."""
_OF_A_FILE_SYSTEM = {"lost+found", files.FOLDER_VIEW}


@contextlib.contextmanager
def fill_folder(folder: Path, last: str, besides: Set[str]) -> Iterator[Path]:
    """A folder inside of `folder` to fill; what is in it moves up when the block ends without an error, `last` last.

    `folder` must be empty (`is_empty`) and nobody else may be filling it. After an error it is as it was, but for what
    is called as in `besides`. A process that is killed leaves no `last` there, and the next one clears what it left.
    """
    with files.storage_errors("create", folder):
        for unfinished in _unfinished(folder):
            _remove(folder, unfinished, besides)
        inner = files.beside(folder / _NEW, "partial")
        files.disk.make_folder(inner)
        try:
            yield inner
            names = sorted({path.name for path in inner.iterdir()} - {last})
            files.put(inner / _NAMES, "\n".join([last, *names]).encode())
            files.disk.sync_folder(inner)
            files.disk.sync_folder(folder)  # without it: something may have moved up, and the list of it is gone
            for name in names:
                files.disk.rename(inner / name, folder / name)
            files.disk.sync_folder(folder)  # without it: `last` may be there and not what it speaks of
            files.disk.rename(inner / last, folder / last)
            files.disk.sync_folder(folder)  # without it: what is written into the folder from now on counts for nothing
        except BaseException:
            with contextlib.suppress(OSError):
                _remove(folder, inner, besides)
            raise
        files.disk.remove_tree(inner)


def is_empty(folder: Path, besides: Set[str]) -> bool:
    """Whether a folder holds nothing but what is called so, what every file system has, and what a killed process left.

    False for a folder that holds the `last` of `fill_folder`.
    """
    names = {path.name for path in folder.iterdir()} - besides - _OF_A_FILE_SYSTEM
    for inner in _unfinished(folder):
        names -= {inner.name, *(name for name in _names(inner)[1:] if not (inner / name).exists())}
    return not names


def filling(folder: Path) -> list[Path]:
    """The lists of names that a process that was killed just after it filled a folder has left there."""
    return [inner / _NAMES for inner in _unfinished(folder) if (inner / _NAMES).is_file()]


def remove_filling(folder: Path) -> None:
    """Remove those, and the folders that hold nothing else."""
    for path in filling(folder):
        if [path] == list(path.parent.iterdir()):
            with files.storage_errors("remove", path.parent):
                files.disk.remove_tree(path.parent)


def _unfinished(folder: Path) -> list[Path]:
    partials = (path for path in folder.iterdir() if files.partial_of(path) == folder / _NEW)
    return [path for path in partials if path.is_dir() and not path.is_symlink()]


def _names(inner: Path) -> list[str]:
    """What was to move up, `last` first; nothing if that had not begun."""
    try:
        with files.open_plain(inner / _NAMES) as file:
            names = file.read(1 << 20).decode(errors="replace").split("\n")
    except FileNotFoundError:
        return []
    return [name for name in names if name and os.sep not in name]


def _remove(folder: Path, inner: Path, besides: Set[str]) -> None:
    """Remove what was moved up, and then what was not."""
    for name in _names(inner):
        path = folder / name
        if name in besides or (inner / name).exists():
            continue
        if path.is_dir() and not path.is_symlink():
            files.disk.remove_tree(path)
        elif path.exists():
            files.disk.unlink(path)
    files.disk.remove_tree(inner)
