"""Decides when the codec's loops are compiled: with numba (the extra `fast`), once so much is coded that it pays.

Without numba `temporal`'s numpy code makes the same bytes, 3 to 40 times slower. The compiled loops run without the
interpreter's lock, so tiles are coded on all cores.
"""

import importlib.util
import sys
from functools import cache
from types import ModuleType

from ..ownership import LATE_IMPORT, after_fork

WARM_UP_BYTES = 64 << 20
"""So much is coded before numba is imported, because numpy codes so much in the time of that import."""
ITEM_SIZES = (2, 4)
"""Loops are compiled for items of so many bytes, eight seconds each, once on a machine. Other sizes are rare."""

_coded_bytes = 0


def _count_anew() -> None:
    """Whether the import is worth it, a forked child finds out by what it codes itself."""
    global _coded_bytes
    if f"{__package__}.compiled" not in sys.modules:
        _coded_bytes = 0


after_fork(_count_anew)


def kernels_for(itemsize: int, n_bytes: int) -> ModuleType | None:
    """The module `compiled`; counts `n_bytes` more as coded.

    None if numba is not installed, if nothing is compiled for items of this size, or if so little was coded so far that
    the import would cost more than it saves.
    """
    global _coded_bytes
    _coded_bytes += n_bytes  # a lost update only delays the import
    if itemsize not in ITEM_SIZES or _coded_bytes < WARM_UP_BYTES or not _numba_is_installed():
        return None
    with LATE_IMPORT:  # one thread imports numba, the others wait for it
        from . import compiled
    return compiled


@cache
def _numba_is_installed() -> bool:
    return importlib.util.find_spec("numba") is not None
