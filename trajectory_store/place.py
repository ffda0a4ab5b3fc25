"""Where on this machine a path leads: what a user gives, made into an absolute path once, when it is given.

Every public function that takes a path begins here. So a change of the current folder later moves nothing, "~" is the
home folder, and what names another place (a URL, `host:/folder`) is refused and never becomes a folder of that name.
"""

import errno
import os
import re
from pathlib import Path
from typing import Any

from .errors import RunExistsError, UsageError
from .files import MOST_NAME_BYTES, storage_errors

# "s3://bucket/run", also as pathlib writes it ("s3:/bucket/run"), chained ("simplecache::s3://…"), or "host:/folder".
_ELSEWHERE = re.compile(r"([A-Za-z0-9][\w.+@-]*(?:::[\w.+-]+)*):/+(.*)", re.DOTALL)


def named(path: Any) -> Path:
    """The local path that a user names, "~" replaced by the home folder; relative if it was given so.

    Raises UsageError on what names no place on this machine: a URL, an empty path, a null byte, a character that file
    names cannot have, a value of another type.
    """
    try:
        text = os.fsdecode(os.fspath(path))
    except TypeError as error:
        raise UsageError(f"{path!r:.80} is no path: expected a str or a path object") from error
    if not text:
        raise UsageError('an empty path names nothing; the current folder is "."')
    if "\0" in text:
        raise UsageError(f"{text!r:.80} cannot be a path: it has a null byte")
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{text!r:.80} cannot be a path: {error.encoding} has no bytes for its character {error.start}"
        ) from error
    if elsewhere := _ELSEWHERE.fullmatch(text):
        raise UsageError(f"{text}: {_remedy(*elsewhere.groups())}")
    if text.startswith("~"):
        return _in_home(text)
    return Path(text)


def local(path: Any) -> Path:
    """The absolute path that a user names, now and whatever the current folder will be.

    A symbolic link as its last name is followed, so a link that is changed later leads nobody astray. Raises UsageError
    as `named` does, and StorageError if the path cannot be looked at: without permission, or with too long a name.
    """
    given = named(path)
    with storage_errors("find", given):
        absolute = given.absolute()
        if any(len(os.fsencode(name)) > MOST_NAME_BYTES for name in absolute.parts):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))  # also where the parents are not there
        try:
            is_link = absolute.is_symlink()
            if not is_link:
                absolute.lstat()
        except (FileNotFoundError, NotADirectoryError):
            is_link = False
        if not is_link and ".." not in absolute.parts:
            return absolute
        try:
            return absolute.resolve()
        except RuntimeError as error:  # what Python 3.11 and 3.12 make of ELOOP
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(absolute)) from error


def to_write(path: Any) -> Path:
    """`local`, for what is about to be made: RunExistsError if the path is a symbolic link that leads to nothing."""
    given, target = named(path), local(path)
    if given.is_symlink() and not target.exists():
        raise RunExistsError(
            f"{given}: is a symbolic link to {target}, where nothing is; make that folder, or remove the link"
        )
    return target


def _in_home(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{text}: there is no such user; write ./{text} for a name in this folder") from error


def _remedy(scheme: str, rest: str) -> str:
    if scheme.lower() == "file":
        return f"is a URL; give the path itself, /{rest.removeprefix('localhost/')}"
    return (
        f"names a place outside of this machine's file systems ({scheme}:); record to, and read from, a local or"
        " mounted folder, and copy the run there or back with the service's own tool"
    )
