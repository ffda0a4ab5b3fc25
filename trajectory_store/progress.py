"""How long work says how far it is: a callback, so that the package draws no bar of its own."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all), first with 0 done and last with all of them."""


class Meter:
    """Adds up what is done and reports it to a `Progress`, or to nobody."""

    def __init__(self, total: int, report: Progress | None) -> None:
        self._done = 0
        self._total = total
        self._report = report
        self.add(0)

    def add(self, n_bytes: int) -> None:
        """So many more bytes are done."""
        self._done += n_bytes
        if self._report is not None:
            self._report(self._done, self._total)

    def finish(self) -> None:
        """All of it is done, whatever was added up: files of a live run come and go."""
        self.add(self._total - self._done)
