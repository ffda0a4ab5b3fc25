"""The rows and the log of a memmap run that nobody writes, once the torn tail is cut."""

from dataclasses import dataclass
from pathlib import Path

from ..manifest import Manifest
from ..recovery import Recovery
from .commit_log import COMMITS, CommitLog
from .row_file import FRAMES, RowFile


@dataclass(frozen=True)
class RecoveredRows:
    """What was kept: the file of rows, and the log that ends behind the last sound step."""

    recovery: Recovery
    rows: RowFile
    log: CommitLog


def recover_rows(run_folder: Path, manifest: Manifest) -> RecoveredRows:
    """Cut the log behind the last sound step of a run that nobody writes.

    Raises DamageError, and cuts nothing, if a step that was synced is damaged.
    """
    rows = RowFile(run_folder / FRAMES, manifest.spec, manifest.static)
    log = CommitLog(run_folder / COMMITS, manifest.spec, manifest.sealed_until)
    log.scan()
    return RecoveredRows(log.cut(rows), rows, log)
