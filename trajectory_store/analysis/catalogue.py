"""Every analysis by name, with its result as columns of a table by step or by token: what the command line offers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import conventions
from ..errors import UsageError
from ..progress import Progress
from ..run import Run
from ..words import PhaseScheme
from .activity import SystemActivity
from .adam import books_of
from .aggregates import MoveAggregates
from .bulk import BulkCorrelation, VelocityCosine
from .cloud import Cloud, CloudOf, Separation, dead_mask
from .divergence import divergence
from .freezing import FirstBelow, FreezeOnset, LastAbove, StillRuns
from .holes import DistinctRows
from .norms import Displacement, DisplacementNorms
from .phase_space import updates_of
from .phases import FiveStates, LatticeOrThermal, PhaseOfMoves, Phases, Regimes, Scheme
from .radial import RadialMotion
from .scanning import Analysis, scan

Columns = Mapping[str, npt.NDArray[Any]]

SCHEMES: dict[PhaseScheme, Scheme] = {"regimes": Regimes(), "five-states": FiveStates(), "lattice": LatticeOrThermal()}


@dataclass(frozen=True)
class Table:
    """Columns of one length beside their index.

    index: "step" or "token", also a key of `columns`. A column of an analysis that has nothing for some index, such as
    a move at step 0, is a masked array there.
    """

    index: str
    columns: Columns


@dataclass(frozen=True)
class CatalogueEntry:
    """One analysis on offer: what to scan for, and the columns of what was found, its index first."""

    index: str
    analyses: Callable[[Run, str, Scheme], Sequence[Analysis[Any]]]
    columns: Callable[[Sequence[Any]], Columns]


def _own(*names: str) -> Callable[[Sequence[Any]], Columns]:
    """The result's own arrays as columns."""
    return lambda results: {name: getattr(results[0], name) for name in ("steps", *names)}


def _only(analysis: Callable[[], Analysis[Any]]) -> Callable[[Run, str, Scheme], Sequence[Analysis[Any]]]:
    return lambda _run, _series, _scheme: [analysis()]


def _phases(_run: Run, _series: str, scheme: Scheme) -> Sequence[Analysis[Any]]:
    return [PhaseOfMoves(scheme)]


def _phase_columns(results: Sequence[Phases]) -> Columns:
    return {"steps": results[0].steps, **dict(zip(results[0].names, results[0].counts.T, strict=True))}


def _displacement_columns(results: Sequence[Displacement]) -> Columns:
    columns: dict[str, npt.NDArray[Any]] = {"steps": results[0].steps}
    for name in ("l1", "l2", "linf"):
        norms = getattr(results[0], name)
        columns[f"{name}_mean"] = norms.mean(axis=1, dtype=np.float64)
        columns[f"{name}_max"] = norms.max(axis=1)
    return columns


def _cloud_columns(results: Sequence[Cloud]) -> Columns:
    found = results[0]
    drift = np.ma.masked_invalid(np.concatenate([[np.nan], found.drift]))
    return {
        "steps": found.steps,
        "distance": found.distance,
        "radius": found.radius,
        "largest_radius": found.largest_radius,
        "drift": drift,
    }


def _separation(run: Run, series: str, _scheme: Scheme) -> Sequence[Analysis[Any]]:
    dead = dead_mask(run, series)
    return [CloudOf(~dead), CloudOf(dead)]


def _separation_columns(results: Sequence[Cloud]) -> Columns:
    both = Separation(*results)
    return {
        "steps": both.steps,
        "distance": both.distance,
        "live_distance": both.live.distance,
        "live_radius": both.live.radius,
        "dead_distance": both.dead.distance,
        "dead_radius": both.dead.radius,
    }


CATALOGUE: dict[str, CatalogueEntry] = {
    "freeze_onset": CatalogueEntry("token", _only(FreezeOnset), lambda found: {"": found[0]}),
    "cohort_onset": CatalogueEntry("token", _only(lambda: FirstBelow(1.0)), lambda found: {"": found[0]}),
    "stumbles": CatalogueEntry(
        "token",
        lambda _run, _series, _scheme: [LastAbove(1.0), FreezeOnset()],
        lambda found: {"last_big": found[0], "last_any": found[1], "duration": found[1] - found[0]},
    ),
    "lifecycles": CatalogueEntry(
        "token",
        _phases,
        lambda found: dict(zip(found[0].names[1:], found[0].lifecycles().last_steps.T, strict=True)),
    ),
    "displacement": CatalogueEntry("step", _only(DisplacementNorms), _displacement_columns),
    "aggregates": CatalogueEntry("step", _only(MoveAggregates), _own("frozen", "within_one", "l1", "l2", "linf")),
    "stillness": CatalogueEntry("step", _only(StillRuns), _own("movers")),
    "phases": CatalogueEntry("step", _phases, _phase_columns),
    "reheating": CatalogueEntry(
        "step", _phases, lambda found: _own("hotter", "colder", "same", "from_frozen")([found[0].reheating()])
    ),
    "activity": CatalogueEntry("step", _only(SystemActivity), _own("movers", "l1", "l2", "energy", "participation")),
    "cloud": CatalogueEntry("step", _only(CloudOf), _cloud_columns),
    "separation": CatalogueEntry("step", _separation, _separation_columns),
    "unique_rows": CatalogueEntry("step", _only(DistinctRows), _own("count")),
    "bulk": CatalogueEntry("step", _only(BulkCorrelation), _own("tokens", "mean", "median")),
    "velocity": CatalogueEntry("step", _only(VelocityCosine), _own("tokens", "mean", "median")),
    "radial": CatalogueEntry("step", _only(RadialMotion), _own("outward", "inward", "still", "share")),
    "adam_accounting": CatalogueEntry(
        "step",
        lambda run, _series, _scheme: [books_of(run)],
        _own("equal", "within_one", "largest_error", "thrust", "move"),
    ),
    "phase_space": CatalogueEntry(
        "step", lambda run, _series, _scheme: [updates_of(run)], _own("median", "beyond", "hopped")
    ),
}
"""All that need nothing but a run; `divergence`, which takes two, is beside them."""

NAMES = (*CATALOGUE, "divergence")


def tables(
    run: Run,
    names: Sequence[str],
    *,
    series: str = "W",
    scheme: Scheme | None = None,
    other: Run | None = None,
    progress: Progress | None = None,
) -> list[Table]:
    """Run the named analyses in one pass and return their columns, by step and by token, whichever there are.

    Columns are called `<analysis>.<column>`. A table by token has the tokens' ids as `token_id`, if the run says which
    tokens its rows are (`conventions.token_ids`).

    other: the run that `divergence` compares with. Raises UsageError on an unknown name.
    """
    for name in names:
        if name not in NAMES:
            raise UsageError(f"no analysis is called {name!r}; choose from {', '.join(NAMES)}")
    if not names:
        raise UsageError(f"name at least one analysis: {', '.join(NAMES)}")
    if "divergence" in names and other is None:
        raise UsageError("divergence needs a second run to compare with")
    chosen = {name: CATALOGUE[name] for name in dict.fromkeys(names) if name in CATALOGUE}
    wanted = {name: entry.analyses(run, series, scheme or Regimes()) for name, entry in chosen.items()}
    every = [analysis for analyses in wanted.values() for analysis in analyses]
    results = iter(scan(run, every, series=series, progress=progress) if every else [])
    found = {
        name: (entry.index, entry.columns([next(results) for _ in wanted[name]])) for name, entry in chosen.items()
    }
    if other is not None and "divergence" in names:
        apart = divergence(run, other, series, progress=progress)
        found["divergence"] = ("step", {"steps": apart.steps, "distance": apart.distance, "differing": apart.differing})
    by_step = {name: columns for name, (index, columns) in found.items() if index == "step"}
    by_token = {name: columns for name, (index, columns) in found.items() if index == "token"}
    return [*([_by_step(by_step)] if by_step else []), *([_by_token(run, series, by_token)] if by_token else [])]


def _by_step(found: Mapping[str, Columns]) -> Table:
    steps = np.unique(np.concatenate([columns["steps"] for columns in found.values()]))
    table: dict[str, npt.NDArray[Any]] = {"step": steps}
    for name, columns in found.items():
        at = np.searchsorted(steps, columns["steps"])
        for column, values in columns.items():
            if column != "steps":
                table[_title(name, column)] = _placed(values, at, len(steps))
    return Table("step", table)


def _placed(values: npt.NDArray[Any], at: npt.NDArray[np.intp], n: int) -> npt.NDArray[Any]:
    if len(at) == n:
        return values
    placed = np.zeros(n, dtype=values.dtype)
    placed[at] = np.ma.getdata(values)
    is_nothing = np.ones(n, dtype=bool)
    is_nothing[at] = np.ma.getmaskarray(values)
    masked: npt.NDArray[Any] = np.ma.array(placed, mask=is_nothing)
    return masked


def _by_token(run: Run, series: str, found: Mapping[str, Columns]) -> Table:
    columns = {_title(name, column): values for name, part in found.items() for column, values in part.items()}
    n = len(next(iter(columns.values())))
    ids = conventions.token_ids(run.static, n, series=series)
    known = {} if ids is None else {conventions.TOKEN_ID: ids}
    return Table("token", {conventions.TOKEN: np.arange(n), **known, **columns})


def _title(name: str, column: str) -> str:
    return f"{name}.{column}" if column else name
