"""The files of a run of the memmap backend."""

from pathlib import Path

from ..run_files import common_files
from .commit_log import COMMITS
from .row_file import FRAMES


def run_files(folder: Path) -> set[Path]:
    """Every file that a run has."""
    return common_files(folder) | {folder / FRAMES, folder / COMMITS}
