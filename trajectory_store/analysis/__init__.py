"""From bits to findings: each analysis is one pass over a run, keyed by step, and several can share the pass."""

from . import lattice
from .freezing import (
    FirstBelow,
    FreezeOnset,
    LastAbove,
    Stillness,
    StillRuns,
    Stumbles,
    cohort_onset,
    freeze_onset,
    stillness,
    stumbles,
)
from .norms import Displacement, DisplacementNorms, displacement
from .scanning import scan

__all__ = [
    "Displacement",
    "DisplacementNorms",
    "FirstBelow",
    "FreezeOnset",
    "LastAbove",
    "StillRuns",
    "Stillness",
    "Stumbles",
    "cohort_onset",
    "displacement",
    "freeze_onset",
    "lattice",
    "scan",
    "stillness",
    "stumbles",
]
