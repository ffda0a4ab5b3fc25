"""Worldlines: the ways of a few tokens, from the first step to the last, in the plane in which they differ most."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..analysis.paths import Paths, paths
from ..run import LazySeries
from .bins import StepBins, Values, bins_of
from .frame import Frame, Scale, Size, legend, points, spread, value_range

GROUPS = ("first to freeze", "median", "last to freeze")
_EACH = 3
_MAX_SAMPLES = 200
_LABEL_GAP = 15


@dataclass(frozen=True)
class Worldlines:
    """The ways of some tokens at some steps, and an index into `GROUPS` for each token."""

    ways: Paths
    groups: tuple[int, ...]


def choose(onset: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.intp], tuple[int, ...]]:
    """Some of the first tokens to freeze, of the middle and of the last, and the group of each; no token twice."""
    order = np.argsort(onset, kind="stable")
    middle = max(0, (len(order) - _EACH) // 2)
    wanted = [order[:_EACH], order[middle : middle + _EACH], order[::-1][:_EACH]]
    group_of = {int(token): group for group in (1, 2, 0) for token in wanted[group]}
    return np.array(list(group_of), dtype=np.intp), tuple(group_of.values())


def trace(series: LazySeries, onset: npt.NDArray[np.int64]) -> Worldlines:
    """Read the chosen tokens at some steps, and project them on their first two principal components."""
    tokens, groups = choose(onset)
    recorded = series.steps
    rows = _sampled(recorded, bins_of(int(recorded[0]), int(recorded[-1])))
    return Worldlines(paths(series, tokens, rows=rows), groups)


def _sampled(steps: npt.NDArray[np.int64], bins: StepBins) -> npt.NDArray[np.intp]:
    every = [edges[:: max(1, len(edges) // _MAX_SAMPLES)] for edges in (bins.linear, bins.log)]
    wanted = np.unique(np.concatenate([*every, steps[[0, -1]]]))
    return np.unique(np.clip(np.searchsorted(steps, wanted), 0, len(steps) - 1))


def worldline_chart(title: str, lines: Worldlines, names: Sequence[str], size: Size) -> str:
    """Each way as a line from a hollow point to a full one, one scale on both axes, named at the right."""
    top, right = size.top + (40 if size.is_narrow else 22), 74 if size.is_narrow else size.right + 22
    size = replace(size, height=size.height + 140, right=right, top=top)
    x, y = _equal_scales(lines.ways.places, size)
    frame = Frame(title, size, x, y)
    first, second = (f"component {axis + 1}, {lines.ways.share[axis] * 100:.0f} % of the variance" for axis in range(2))
    frame.axes(first, second)
    legend(frame, [(GROUPS[index], f"dot group{index}") for index in sorted(set(lines.groups))])
    ends = []
    for way, group in zip(lines.ways.places, lines.groups, strict=True):
        px, py = x(way[:, 0]), y(way[:, 1])
        frame.add(f'<path class="line thin group{group}" d="{points(px, py)}"/>')
        whole = np.flatnonzero(np.isfinite(px))
        if len(whole):
            begin, end = whole[0], whole[-1]
            frame.add(f'<circle class="ring group{group}" cx="{px[begin]:.1f}" cy="{py[begin]:.1f}" r="3.5"/>')
            frame.add(f'<circle class="dot group{group}" cx="{px[end]:.1f}" cy="{py[end]:.1f}" r="4"/>')
        ends.append((float(px[whole[-1]]), float(py[whole[-1]])) if len(whole) else None)
    _name_ends(frame, ends, names, lines.groups)
    return frame.svg()


def _name_ends(
    frame: Frame, ends: Sequence[tuple[float, float] | None], names: Sequence[str], groups: Sequence[int]
) -> None:
    known = [(end, name, group) for end, name, group in zip(ends, names, groups, strict=True) if end is not None]
    edge = frame.x.end + 14
    levels = spread([end[1] for end, _, _ in known], _LABEL_GAP, frame.size.top, frame.size.height - frame.size.bottom)
    for (end, name, group), level in zip(known, levels, strict=True):
        frame.add(f'<path class="leader" d="M{end[0] + 5:.1f} {end[1]:.1f}L{edge:.1f} {level:.1f}"/>')
        frame.text(edge + 3, level + 4, name, style=f"name group{group}")


def _equal_scales(places: Values, size: Size) -> tuple[Scale, Scale]:
    """One unit is as long on both axes, or distances would lie."""
    (x_lo, x_hi), (y_lo, y_hi) = value_range([places[..., 0]]), value_range([places[..., 1]])
    width, height = size.width - size.left - size.right, size.height - size.top - size.bottom
    unit = max((x_hi - x_lo) / width, (y_hi - y_lo) / height)
    x_mid, y_mid = (x_lo + x_hi) / 2, (y_lo + y_hi) / 2
    return (
        Scale(x_mid - unit * width / 2, x_mid + unit * width / 2, size.left, size.width - size.right),
        Scale(y_mid - unit * height / 2, y_mid + unit * height / 2, size.height - size.bottom, size.top),
    )
