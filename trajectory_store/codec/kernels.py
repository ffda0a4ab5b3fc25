"""When the codec's loops are compiled: by numba where that is installed (the extra `fast`), once it is worth it.

Without it `temporal`'s numpy code makes the same bytes, 3 to 40 times slower. The compiled loops run without the
interpreter's lock, so tiles are coded on all cores.
"""

import importlib.util
import threading
from functools import cache
from types import ModuleType

WARM_UP_BYTES = 64 << 20
"""How much is coded before numba is imported: its import takes as long as numpy needs for this much."""
ITEM_SIZES = (2, 4)
"""What is compiled for, in bytes: eight seconds each, once on a machine. Large series of other items are rare."""

_lock = threading.Lock()
_coded_bytes = 0


def kernels_for(itemsize: int, n_bytes: int) -> ModuleType | None:
    """The module `compiled`, counting `n_bytes` more as coded.

    None where numba is not installed, for items of another size than it is compiled for, or where so little was coded
    so far that importing it would cost more than it saves.
    """
    global _coded_bytes
    _coded_bytes += n_bytes  # a lost update only delays the import
    if itemsize not in ITEM_SIZES or _coded_bytes < WARM_UP_BYTES or not _numba_is_installed():
        return None
    with _lock:  # one thread compiles, the others wait for it
        from . import compiled
    return compiled


@cache
def _numba_is_installed() -> bool:
    return importlib.util.find_spec("numba") is not None
