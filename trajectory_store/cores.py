"""How many cores there are to use: one rule for every pool of threads."""

import os


def usable_cores() -> int:
    """Return how many cores this process may run on, at least 1.

    A process can be pinned to fewer cores than the machine has (`taskset`, a batch system); more threads than those
    would only wait for each other. A share of a core, as a container may be given, is not looked at.
    """
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
