"""Progress reports: long work calls a callback, so that this package draws no bar of its own."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all), first with 0 done and last with all of them."""


class Meter:
    """Adds up the bytes that are done, and reports them to a `Progress`, if there is one."""

    def __init__(self, total: int, report: Progress | None) -> None:
        self._done = 0
        self._total = total
        self._report = report
        self.add(0)

    def add(self, n_bytes: int) -> None:
        """Count so many more bytes as done."""
        self._done += n_bytes
        if self._report is not None:
            self._report(self._done, self._total)

    def finish(self) -> None:
        """Report all bytes as done. Files of a run that is being written come and go, so the sum may be another."""
        self.add(self._total - self._done)
