"""One thing that `check` found in a run."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..plain_text import printable
from ..words import check_word

Kind = Literal["manifest", "metadata", "static", "block", "journal", "commits", "row", "torn", "unknown"]

KINDS: dict[Kind, str] = {
    "manifest": "the manifest fails its checksum: nothing in the run can be read",
    "metadata": "a zarr.json, or the header of the rows' file, is not what the manifest says",
    "static": "a static array fails its checksum",
    "block": "a sealed block, or one chunk of it, fails its checksum or is not the one that was committed",
    "journal": "a frame that was synced, or bytes around it, fail their checksum",
    "commits": "the commit of a step is damaged, so that its rows cannot be verified",
    "row": "a row of the memmap backend fails its checksum",
    "torn": "what a crash left unfinished and was never promised; the next writer, or a repair, cuts it",
    "unknown": "a file that is no part of a run",
}
"""Every kind of finding. Only "torn" can be repaired; "unknown" harms nothing."""


@dataclass(frozen=True)
class Finding:
    """One thing that `check` found in a run.

    Parameters
    ----------
    kind : {"manifest", "metadata", "static", "block", "journal", "commits", "row", "torn", "unknown"}
        What is wrong: a key of `KINDS`. Only "torn" can be repaired, and "unknown" harms nothing.
    path : Path
        The file or folder in which it was found.
    message : str
        What was found there, for a person.
    series : str or None
        The series, or the static array, that cannot be read because of it; None if that is none of them, or all.
    steps : range or None
        The steps that cannot be read because of it; None if that is none of them, or all.
    tokens : range or None
        Those entries of a row's first axis that cannot be read because of it; None if that is none of them, or all.

    Raises
    ------
    UsageError
        There is no such kind.
    """

    kind: Kind
    path: Path
    message: str
    series: str | None = None
    steps: range | None = None
    tokens: range | None = None

    def __post_init__(self) -> None:
        check_word("kind", self.kind, Kind)

    def __str__(self) -> str:
        where = f", series {self.series!r}" if self.series is not None else ""
        for what, entries in (("step", self.steps), ("entry", self.tokens)):
            if entries:
                where += f", {what} {entries[0]}" + (f" to {entries[-1]}" if len(entries) > 1 else "")
        return printable(f"{self.kind}: {self.path}{where}: {self.message}")

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain values, as `check --json` prints it.

        Returns
        -------
        dict of str to Any
            A key for each field. A path is a str, and a range is [first, last].
        """
        ends = {"steps": self.steps, "tokens": self.tokens}
        return {
            "kind": self.kind,
            "path": str(self.path),
            "message": self.message,
            "series": self.series,
            **{name: [entries[0], entries[-1]] if entries else None for name, entries in ends.items()},
        }


class StepRanges:
    """Groups steps that come in order, each with what it has in common with its neighbours, into ranges."""

    def __init__(self) -> None:
        self._ranges: dict[Any, range] = {}

    def add(self, key: Any, steps: range) -> Iterator[tuple[Any, range]]:
        """Add steps; yields the range of the same key that they do not continue."""
        before = self._ranges.get(key)
        if before is not None and before.stop == steps.start:
            self._ranges[key] = range(before.start, steps.stop)
            return
        self._ranges[key] = steps
        if before is not None:
            yield key, before

    def rest(self) -> Iterator[tuple[Any, range]]:
        """The ranges that nothing ended."""
        yield from self._ranges.items()
        self._ranges = {}
