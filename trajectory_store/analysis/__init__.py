"""From bits to findings: each analysis is one pass over a run, keyed by step, and several can share the pass.

    onset = analysis.freeze_onset(run)                                        # one
    onset, cloud = analysis.scan(run, [analysis.FreezeOnset(), analysis.CloudOf()])   # two in one pass

They take a run, one of its series, a safetensors file opened as a run, a MemorySink or an array of bits.
"""

from . import lattice
from .activity import Activity, SystemActivity, activity
from .adam import AdamAccounting, AdamBooks, adam_accounting
from .aggregates import Aggregates, MoveAggregates, aggregates
from .bulk import Alignment, BulkCorrelation, VelocityCosine, bulk, velocity
from .cloud import Cloud, CloudOf, Separation, cloud, separation
from .divergence import Divergence, divergence
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
from .holes import BlackHoles, DistinctRows, UniqueRows, black_holes, unique_rows
from .likeness import Likeness, likeness
from .norms import Displacement, DisplacementNorms, displacement
from .paths import Paths, paths
from .phase_space import PhaseSpace, UpdatesInCells, phase_space
from .phases import (
    FiveStates,
    LatticeOrThermal,
    Lifecycles,
    PhaseOfMoves,
    Phases,
    Regimes,
    Reheating,
    lifecycles,
    phases,
    reheating,
)
from .radial import Radial, RadialMotion, radial
from .scanning import Analysis, ScanOptions, scan, scan_one
from .vectors import Autocorrelation, Sky, autocorrelation, sky

__all__ = [
    "Activity",
    "AdamAccounting",
    "AdamBooks",
    "Aggregates",
    "Alignment",
    "Analysis",
    "Autocorrelation",
    "BlackHoles",
    "BulkCorrelation",
    "Cloud",
    "CloudOf",
    "Displacement",
    "DisplacementNorms",
    "DistinctRows",
    "Divergence",
    "FirstBelow",
    "FiveStates",
    "FreezeOnset",
    "LastAbove",
    "LatticeOrThermal",
    "Lifecycles",
    "Likeness",
    "MoveAggregates",
    "Paths",
    "PhaseOfMoves",
    "PhaseSpace",
    "Phases",
    "Radial",
    "RadialMotion",
    "Regimes",
    "Reheating",
    "ScanOptions",
    "Separation",
    "Sky",
    "StillRuns",
    "Stillness",
    "Stumbles",
    "SystemActivity",
    "UniqueRows",
    "UpdatesInCells",
    "VelocityCosine",
    "activity",
    "adam_accounting",
    "aggregates",
    "autocorrelation",
    "black_holes",
    "bulk",
    "cloud",
    "cohort_onset",
    "displacement",
    "divergence",
    "freeze_onset",
    "lattice",
    "lifecycles",
    "likeness",
    "paths",
    "phase_space",
    "phases",
    "radial",
    "reheating",
    "scan",
    "scan_one",
    "separation",
    "sky",
    "stillness",
    "stumbles",
    "unique_rows",
    "velocity",
]
