"""What belongs to one process: open files and locks are never copied, and a forked child begins with its own.

A child has only the thread that forked. A lock that another thread held then is never given back there, and what that
thread was changing stays half changed.
"""

import concurrent.futures.thread  # noqa: F401
import logging  # noqa: F401
import os
import sys
import threading
import weakref
from collections.abc import Callable
from functools import cached_property
from typing import Any, NoReturn, Protocol

from .errors import ForkedSinkError, UsageError

LATE_IMPORT = threading.RLock()
"""Held by whoever imports a module in the middle of its work: no process forks meanwhile, since the child would wait
for the rest of the import for ever."""


class Lock(Protocol):
    """What `threading` calls a lock."""

    def acquire(self) -> Any:
        """Wait until nobody has it, and take it."""

    def release(self) -> None:
        """Let the next one have it."""


_held_over_forks: list[Lock] = [LATE_IMPORT]
_taken: list[Lock] = []


def hold_over_forks(lock: Lock) -> None:
    """Have every fork wait for a lock, so that no other thread has it then; called by who holds `LATE_IMPORT`.

    Who has the lock must not wait for `LATE_IMPORT`.
    """
    _held_over_forks.append(lock)


def _take() -> None:
    for lock in _held_over_forks:  # a list that may grow until the first is taken
        lock.acquire()
        _taken.append(lock)


def _let_go() -> None:
    while _taken:
        _taken.pop().release()


# Registered behind the two modules imported above, this is called before what they have registered: they take locks
# that an import needs, and would hold them while we wait for that import.
os.register_at_fork(before=_take, after_in_parent=_let_go, after_in_child=_let_go)


class NotCopied:
    """The base of what owns open files: pickling, `copy.copy` and `copy.deepcopy` raise UsageError.

    A copy would have the numbers of files that are others in another process, and close them twice in this one.
    """

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise UsageError(
            f"a {type(self).__name__} cannot be pickled or copied, because it owns open files of process {os.getpid()};"
            " use it where it was made, and send the run's path to other processes"
        )


def require_process(process: int, what: object) -> None:
    """Raise ForkedSinkError unless this is that process, which made the sink of `what`."""
    if os.getpid() != process:
        raise ForkedSinkError(
            f"{what}: this sink belongs to process {process}, which goes on writing the run, and this is process"
            f" {os.getpid()}, forked from it; record there, and only read here, with ts.open"
        )


class Renewed(Protocol):
    """What has locks, or data that they protect."""

    def renew(self) -> None:
        """Begin anew in a forked child: locks that nobody holds, and nothing that may be half changed."""


def renew_in_children(thing: Renewed) -> None:
    """Have `thing.renew` called in every child that is forked as long as `thing` is there."""
    _renewed.add(thing)


def after_fork(function: Callable[[], None]) -> None:
    """Have a module's function called in every child that is forked, before `renew` of anything."""
    _functions.append(function)


_functions: list[Callable[[], None]] = []
_renewed: "weakref.WeakSet[Renewed]" = weakref.WeakSet()


def _renew_all() -> None:
    if sys.version_info < (3, 12):
        _renew_cached_properties()
    for function in _functions:
        function()
    for thing in list(_renewed):
        thing.renew()


def _renew_cached_properties() -> None:
    """Until Python 3.11 a `cached_property` has one lock for all its instances."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == __package__:
            for kind in [value for value in vars(module).values() if isinstance(value, type)]:
                for value in vars(kind).values():
                    if isinstance(value, cached_property):
                        value.lock = threading.RLock()  # type: ignore[attr-defined]


os.register_at_fork(after_in_child=_renew_all)
