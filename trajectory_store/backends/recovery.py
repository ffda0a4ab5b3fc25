"""What opening a run for writing found and did after a crash."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recovery:
    """What a run that was opened for writing kept of what a crash left, and what it cut.

    Attributes
    ----------
    kept_until : int
        Every due step before this one is kept.
    dropped_steps : tuple of int
        Steps whose whole frames were cut: they had never been synced and lay behind torn bytes.
    dropped_bytes : int
        Bytes that were cut, torn frames included; not what an earlier segment left in the file.
    """

    kept_until: int
    dropped_steps: tuple[int, ...]
    dropped_bytes: int

    def __str__(self) -> str:
        if not self.dropped_bytes:
            return f"recovered: every step before {self.kept_until} is there"
        steps = f", and with them steps {self.dropped_steps}" if self.dropped_steps else ""
        return f"recovered: steps before {self.kept_until} kept, {self.dropped_bytes:,} torn bytes cut{steps}"
