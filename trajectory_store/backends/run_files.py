"""Which files are a run's. Every other file in its folder is somebody else's, and is neither removed nor replaced."""

from pathlib import Path

from .. import files
from ..folders import filling
from . import manifest as manifests
from . import writer_lock


def common_files(folder: Path) -> set[Path]:
    """The files that a run of any backend has."""
    return {folder / manifests.FILE_NAME, folder / writer_lock.FILE_NAME, *filling(folder)}


def other_files(folder: Path, written: set[Path]) -> list[Path]:
    """The files in a folder, and below it, that are not among `written`."""
    return sorted(path for path in files.files_below(folder) if path not in written)
