"""Runs and series as a notebook shows them, and how far a pass over one is."""

from typing import Any

from .progress import Progress


def bar(label: str = "") -> Progress:
    """Draw a progress bar, in a notebook or on a terminal, for whatever takes `progress=`.

    Parameters
    ----------
    label : str
        What stands before the bar.

    Returns
    -------
    callable
        The callback, for one pass: ``analysis.freeze_onset(run, progress=bar("Freezing"))``.
    """
    from tqdm.auto import tqdm

    drawn: Any = None

    def report(done: int, total: int) -> None:
        nonlocal drawn
        if done == 0 or drawn is None:
            drawn = tqdm(desc=label or None, total=total, unit="B", unit_scale=True)
        drawn.update(done - drawn.n)
        if done >= total:
            drawn.close()

    return report
