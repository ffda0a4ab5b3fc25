"""A folder that is filled in one step, or not at all: a new one, one that replaces another, one that is there already.

A new one is built beside its place and renamed. One that is there already stays the folder that it was, because
somebody made it on purpose: with a mode, a group, an access list, a quota, or a file system mounted on it. So what it
is to hold is built in a folder inside of it and moved up, last of all the file without which it holds nothing.
"""

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterator, Set
from pathlib import Path

from . import atomic, files
from .errors import RunExistsError, StorageError

_NEW = "new"
_NAMES = ".moving"
"""The names that are moved up, in the folder where they were built: this list says what a killed process moved."""
_OF_A_FILE_SYSTEM = {"lost+found", files.FOLDER_VIEW}


@contextlib.contextmanager
def build_folder(
    path: Path, *, overwrite: bool = False, may_remove: Callable[[Path], bool] = lambda _folder: True
) -> Iterator[Path]:
    """A sibling folder to fill; it becomes `path` when the block ends without an error, and is removed otherwise.

    With `overwrite` what was at `path` is moved aside first, moved back on an error, and removed last; so is what
    earlier overwrites that were killed have moved aside, if `may_remove` says so of it. The new folder has the owner,
    mode and attributes of the old one. Only a crash between the two renames leaves nothing at `path`; what was there is
    then beside it, whole, and `moved_aside` finds it. RunExistsError if somebody else made something at `path`
    meanwhile, StorageError if a file system is mounted there.
    """
    with files.storage_errors("create", path):
        files.make_folders(path.parent)
        mark = uuid.uuid4().hex[:8]
        partial = atomic.beside(path, "partial", mark)
        aside = atomic.beside(path, "replaced", mark) if overwrite and path.exists() else None
        if aside is not None and path.is_mount():
            raise StorageError(
                f"{path}: a file system is mounted there, so what it holds cannot be replaced in one step; remove that"
                " first, or choose a folder below it"
            )
        files.disk.make_folder(partial)
        try:
            if aside is not None:
                files.disk.copy_attributes(path, partial)
            yield partial
            files.disk.sync_folder(partial)  # without it: a folder in which names are missing
            _put_in_place(partial, path, aside)
        except BaseException:
            with contextlib.suppress(OSError):
                files.disk.remove_tree(partial)
            raise
        for replaced in moved_aside(path) if overwrite else ():  # also by an overwrite that was killed
            if replaced == aside or may_remove(replaced):
                files.disk.rename(replaced, partial)  # so that what is called `.replaced` is whole
                files.disk.remove_tree(partial)


def moved_aside(path: Path) -> list[Path]:
    """The folders that were at `path`, as `.NAME.XXXXXXXX.replaced` beside it, before overwrites that were killed."""
    return [other for other in atomic.found_beside(path, "replaced") if other.is_dir() and not other.is_symlink()]


def _put_in_place(partial: Path, path: Path, aside: Path | None) -> None:
    """Rename `partial` to `path`, and what was there to `aside`; after an error everything is as before."""
    if aside is not None:
        files.disk.rename(path, aside)
    try:
        try:
            files.disk.rename(partial, path)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            left = f"; what it was to replace is {aside.name} beside it" if aside is not None else ""
            raise RunExistsError(f"{path}: somebody else has made something there meanwhile{left}") from error
        try:
            files.disk.sync_folder(path.parent)  # without it: what is written into the folder from now on has no name
        except BaseException:
            files.disk.rename(path, partial)
            raise
    except RunExistsError:
        raise
    except BaseException:
        if aside is not None:
            with files.storage_errors(f"move {aside} back", path):
                files.disk.rename(aside, path)
        raise


_TAKEN = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}


@contextlib.contextmanager
def fill_folder(folder: Path, last: str, besides: Set[str]) -> Iterator[Path]:
    """A folder inside of `folder` to fill; what is in it moves up when the block ends without an error, `last` last.

    `folder` must be empty (`is_empty`) and nobody else may be filling it. After an error it is as it was, but for what
    is called as in `besides`. A process that is killed leaves no `last` there, and the next one clears what it left.
    """
    with files.storage_errors("create", folder):
        for unfinished in _unfinished(folder):
            _remove(folder, unfinished, besides)
        inner = atomic.beside(folder / _NEW, "partial")
        files.disk.make_folder(inner)
        try:
            yield inner
            names = sorted({path.name for path in inner.iterdir()} - {last})
            atomic.put(inner / _NAMES, "\n".join([last, *names]).encode())
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
    partials = (path for path in folder.iterdir() if atomic.partial_of(path) == folder / _NEW)
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
