"""Runs and lazy series sent to another process: they travel as a path, and are opened again where they arrive.

Importing this module teaches `pickle` both, so `Run` and `LazySeries` need not know it.
"""

import copyreg
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..backends import manifest as manifests
from ..errors import StepNotRecordedError
from ..ownership import after_fork
from .run import Run, open_run
from .series import LazySeries

_Reduced = tuple[Callable[..., Any], tuple[Any, ...]]

MAX_OPEN_RUNS = 8
"""Runs that a process keeps open for the lazy series that were sent to it."""

_lock = threading.Lock()
_open_runs: OrderedDict[tuple[str, int, int], Run] = OrderedDict()


def _renew() -> None:
    global _lock
    _lock = threading.Lock()


after_fork(_renew)


def _reduced_run(run: Run) -> _Reduced:
    """A run as `pickle` takes it."""
    return _open, (os.fspath(run.path.absolute()), run.source.recorded_until)


def _reduced_series(series: LazySeries) -> _Reduced:
    """A lazy series as `pickle` takes it. A series of arrays in memory takes those arrays along."""
    source = series.source
    if not source.is_on_disk:
        return LazySeries, (source, series.name, series.dtype)
    where = os.fspath(source.path.absolute())
    return _open_series, (where, source.recorded_until, series.name, series.dtype)


def _open(path: str, recorded_until: int) -> Run:
    run = open_run(path)
    if run.source.recorded_until < recorded_until:
        raise StepNotRecordedError(f"{path}: ends before step {recorded_until - 1}, which the sender's run has")
    return run


def _open_series(path: str, recorded_until: int, name: str, dtype: Any) -> LazySeries:
    """A series that arrived. Those of one run share it, and its decoded tiles. A run that was replaced is opened
    anew."""
    where = Path(path)
    stat = (where / manifests.FILE_NAME if where.is_dir() else where).stat()
    key = path, stat.st_ino, stat.st_mtime_ns
    with _lock:
        run = _open_runs.get(key)
        if run is not None and run.source.recorded_until < recorded_until:
            run.refresh()
        if run is None or run.source.recorded_until < recorded_until:
            run = _open(path, recorded_until)
        _open_runs[key] = run
        _open_runs.move_to_end(key)
        while len(_open_runs) > MAX_OPEN_RUNS:
            _open_runs.popitem(last=False)  # closed when its last series goes
    return LazySeries(run.source, name, dtype)


copyreg.pickle(Run, _reduced_run)
copyreg.pickle(LazySeries, _reduced_series)
