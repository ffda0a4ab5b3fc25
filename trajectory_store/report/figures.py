"""The report's figures: each draws itself in any size and on either axis, and says what lies under the pointer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import heatmap
from .bins import Steps, Values, binned
from .charts import Curve, area_chart, histogram, line_chart, onset_edges
from .drawing import standalone
from .findings import Findings
from .frame import WIDE, Size, percent
from .moves import HEAT_LIMIT
from .tokens import shortened, visible
from .worldlines import worldline_chart

_N_BARS = 80
_DIGITS = 6


@dataclass(frozen=True)
class Figure:
    """One figure of the report, which draws itself.

    Parameters
    ----------
    name : str
        What its file is called.
    title : str
        What it shows, in some words.
    note : str
        What it shows and how to read it, in some sentences.
    draw : callable
        Returns its SVG, given a size and whether the step axis is logarithmic.
    hover : Mapping of str to Any
        What the page's script reads, a JSON value.
    has_log : bool
        Whether it has a step axis, and so a logarithmic form.
    """

    name: str
    title: str
    note: str
    draw: Callable[[Size, bool], str]
    hover: Mapping[str, Any]
    has_log: bool = True

    def svg(self, *, is_log: bool = False) -> str:
        """Draw it as a file of its own, on a white ground.

        Parameters
        ----------
        is_log : bool
            Whether the step axis is logarithmic.

        Returns
        -------
        str
            The SVG.
        """
        return standalone(self.draw(WIDE, is_log))

    def _repr_svg_(self) -> str:
        return self.svg()


def figures(found: Findings) -> list[Figure]:
    """Make every figure for which there is data.

    Parameters
    ----------
    found : Findings
        What `findings` returned.

    Returns
    -------
    list of Figure
        In the order of the page.
    """
    loss = [] if found.loss is None else [_loss(found)]
    return [*loss, _freezing(found), _onsets(found), _heat(found), _phases(found), _cloud(found), _worldlines(found)]


def svg_files(found: Findings) -> dict[str, str]:
    """Draw every figure as a file of its own.

    Parameters
    ----------
    found : Findings
        What `findings` returned.

    Returns
    -------
    dict of str to str
        The SVG by file name. A figure with a step axis is there on both scales.
    """
    files = {}
    for figure in figures(found):
        for is_log in (False, True) if figure.has_log else (False,):
            files[f"{figure.name}{'-log' if is_log else ''}.svg"] = figure.svg(is_log=is_log)
    return files


def token_label(found: Findings, row: int) -> str:
    """What a row's token is called in a figure: its string beside its id, or the id alone."""
    token = str(found.ids[row])
    return token if found.names is None else f"{token} {shortened(visible(found.names[row]), 9)}"


def _curves(
    found: Findings, name: str, title: str, note: str, curves_of: Callable[[Steps], list[Curve]], unit: str, **how: Any
) -> Figure:
    """A figure of lines over the columns of either axis."""
    curves = {is_log: curves_of(found.bins.columns(is_log)) for is_log in (False, True)}

    def draw(size: Size, is_log: bool) -> str:
        return line_chart(title, curves[is_log], size, steps=found.domain, is_log=is_log, **how)

    def hover(shown: list[Curve]) -> dict[str, Any]:
        columns = [[curve.name or title, numbers(curve.values), unit] for curve in shown]
        return {"steps": numbers(shown[0].steps), "columns": columns}

    return Figure(
        name, title, note, draw, {"kind": "curves", "linear": hover(curves[False]), "log": hover(curves[True])}
    )


def _loss(found: Findings) -> Figure:
    assert found.loss is not None
    steps, values = found.loss
    broken = int(np.count_nonzero(~np.isfinite(values)))
    note = (
        "The loss of the batch behind each step: means of some steps, and as a band the least and the largest of them."
        f" The last is {values[-1]:.4g}."
    )
    if broken:
        note += f" {broken:,} {'is' if broken == 1 else 'are'} not finite: gaps."

    def curves(edges: Steps) -> list[Curve]:
        curve = binned(edges, steps, values)
        return [Curve("", curve.steps, curve.mean, "c1", curve.low, curve.high)]

    return _curves(found, "loss", "Loss", note, curves, "", y_label="loss")


def _freezing(found: Findings) -> Figure:
    at_rest = found.motion.phases[:, 0] / found.n_tokens

    def curves(edges: Steps) -> list[Curve]:
        ends = edges[1:] - 1
        resting = binned(edges, found.steps, at_rest)
        return [
            Curve("frozen for good", ends.astype(np.float64), found.frozen_share(ends), "c1"),
            Curve("at rest", ends.astype(np.float64), resting.mean, "c3"),
        ]

    note = (
        f"Tokens that never move again after a step, and those that do not move at it. Half are frozen for good after"
        f" step {found.frozen_at(0.5):,}, 90 % after {found.frozen_at(0.9):,}."
    )
    if found.n_late:
        note += (
            f" {found.n_late:,} still moved in the last 1 % of the steps: the recording ends before one can say when"
            " they freeze."
        )
    return _curves(
        found,
        "freeze-timeline",
        "Frozen tokens",
        note,
        curves,
        "%",
        y_label="share of tokens",
        y_range=(0, 1),
        y_text=percent,
    )


def _onsets(found: Findings) -> Figure:
    title = "Freeze onset"
    first, last = found.domain

    def bars(is_log: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        edges = onset_edges(first, last, _N_BARS, is_log=is_log)
        return edges, np.histogram(found.onset[found.onset > 0], edges)[0].astype(np.int64)

    def draw(size: Size, is_log: bool) -> str:
        return histogram(title, *bars(is_log), size, domain=found.domain, is_log=is_log, y_label="tokens a bar")

    hover = {
        axis: {"edges": edges.tolist(), "counts": counts.tolist()}
        for axis, (edges, counts) in (("linear", bars(False)), ("log", bars(True)))
    }
    moving = found.onset[found.onset > 0]
    note = "No token moved at all."
    if len(moving):
        note = (
            f"The last step at which any bit of a token changed: the first token froze at step {moving.min():,}, the"
            f" last move is at step {moving.max():,}."
        )
        if len(moving) < found.n_tokens:
            note += f" {found.n_tokens - len(moving):,} tokens never moved and are not in the bars."
    return Figure("freeze-onset", title, note, draw, {"kind": "bars", **hover})


def _heat(found: Findings) -> Figure:
    title = "Every token, every step"
    shown = {
        is_log: heatmap.picture(found.motion.heat, found.bins, found.onset, is_log=is_log) for is_log in (False, True)
    }

    def draw(size: Size, is_log: bool) -> str:
        return heatmap.heat_map(title, shown[is_log], size, steps=found.domain, is_log=is_log)

    order = shown[False].order
    hover = {
        "kind": "heat",
        "tokens": [token_label(found, row) for row in order.tolist()],
        "onset": found.onset[order].tolist(),
        "coldest": heatmap.COLDEST,
        "hottest": HEAT_LIMIT,
        "linear": {"edges": shown[False].edges.tolist(), "rows": shown[False].tokens.tolist()},
        "log": {"edges": shown[True].edges.tolist(), "rows": shown[True].tokens.tolist()},
    }
    height, width = (len(edges) - 1 for edges in (shown[False].tokens, shown[False].edges))
    note = (
        "How far tokens move in a step, ‖ΔW′‖₂ in ULPs (units in the last place of each weight), on a log scale of"
        f" colours. A pixel is the mean over about {found.n_tokens / height:.3g} tokens and"
        f" {len(found.steps) / width:.3g} steps (linear); a move counts as {HEAT_LIMIT:,.0f} ULP at most."
    )
    return Figure("heat-map", title, note, draw, hover)


def _phases(found: Findings) -> Figure:
    title = "Phases"
    counts = found.motion.phases / found.n_tokens

    def shares(is_log: bool) -> tuple[Values, Values]:
        by_column = [binned(found.bins.columns(is_log), found.steps, column) for column in counts.T]
        return by_column[0].steps, np.stack([column.mean for column in by_column], axis=1)

    shown = {is_log: shares(is_log) for is_log in (False, True)}

    def draw(size: Size, is_log: bool) -> str:
        return area_chart(
            title,
            found.phase_names,
            *shown[is_log],
            size,
            domain=found.domain,
            is_log=is_log,
            y_label="share of tokens",
        )

    def hover(is_log: bool) -> dict[str, Any]:
        steps, by_phase = shown[is_log]
        named = list(zip(found.phase_names, by_phase.T, strict=True))
        return {"steps": numbers(steps), "columns": [[name, numbers(share), "%"] for name, share in reversed(named)]}

    note = (
        "Tokens by the length of their move: frozen ‖ΔW′‖₁ = 0, stumbling ‖ΔW′‖₁ ≤ 1, spherical ‖ΔW′‖₂ ≤ √dim,"
        " superluminal ‖ΔW′‖₂ ≤ 1000, hypernova above, in ULPs."
    )
    return Figure("phases", title, note, draw, {"kind": "curves", "linear": hover(False), "log": hover(True)})


def _cloud(found: Findings) -> Figure:
    cloud = found.cloud
    named = (
        ("centroid", cloud.distance, "c2"),
        ("mean radius", cloud.radius, "c1"),
        ("largest radius", cloud.largest_radius, "c3"),
    )

    def curves(edges: Steps) -> list[Curve]:
        lines = [(name, binned(edges, cloud.steps[1:], values[1:]), style) for name, values, style in named]
        return [Curve(name, line.steps, line.mean, style) for name, line, style in lines]

    note = "How far the tokens' centroid is from the origin, and the tokens from their centroid."
    if np.isfinite(cloud.path) and cloud.path:
        note += (
            f" The centroid's path is {cloud.path:.4g} long and ends {cloud.net:.4g} from where it began (efficiency"
            f" {percent(round(cloud.efficiency, 2))})."
        )
    if cloud.lift_off is not None:
        note += f" From step {cloud.lift_off:,} the origin lies outside of the cloud."
    if not np.isfinite(cloud.radius).all():
        note += " Some weights are not finite: gaps."
    return _curves(found, "cloud", "Drift of the cloud", note, curves, "", y_label="distance, in the weights' unit")


def _worldlines(found: Findings) -> Figure:
    title = "Worldlines"
    lines = found.worldlines
    names = [token_label(found, row) for row in lines.ways.tokens.tolist()]
    ids = [str(found.ids[row]) for row in lines.ways.tokens.tolist()]

    def draw(size: Size, is_log: bool) -> str:
        del is_log
        return worldline_chart(title, lines, ids if size.is_narrow else names, size)

    hover = {
        "kind": "ways",
        "steps": lines.ways.steps.tolist(),
        "names": names,
        "onset": found.onset[lines.ways.tokens].tolist(),
        "x": [numbers(way[:, 0]) for way in lines.ways.places],
        "y": [numbers(way[:, 1]) for way in lines.ways.places],
    }
    note = (
        "The ways of a few tokens from their first step (ring) to their last (dot), in the plane of their first two"
        " principal components, one scale on both axes."
    )
    return Figure("worldlines", title, note, draw, hover, has_log=False)


def numbers(values: npt.NDArray[np.floating]) -> list[float | None]:
    """Numbers as JSON can hold them, to six digits; None if not finite."""
    return [float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None for value in values.tolist()]
