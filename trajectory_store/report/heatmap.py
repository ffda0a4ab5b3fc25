"""The heat map: how far every token moved at every step, the first to freeze at the top, as a small picture."""

from dataclasses import dataclass, replace
from math import log10

import numpy as np
import numpy.typing as npt

from . import png
from .bins import StepBins, Values
from .frame import Frame, Scale, Size, number, step_scale
from .moves import HEAT_LIMIT

WIDTH = 720
MAX_ROWS = 600
COLDEST = 0.01
"""ULPs a step. Tokens that moved less on average have this one's colour. It is a smallest move (½ ULP) in 50 steps."""

FROZEN = 0
NOT_FINITE = 255
_ANCHORS = ("#26377a", "#5b3f9e", "#97439a", "#c94f7c", "#ea6e55", "#f79a3c", "#f8cb58", "#fdf7c8")
_FROZEN_COLOUR = "#0c1220"
_NOT_FINITE_COLOUR = "#9aa3ad"


@dataclass(frozen=True)
class Picture:
    """Palette indices (rows, columns), and the steps and tokens that they stand for.

    Pixels are equally wide on the axis of steps, but columns of steps are not: a pixel shows the column in which its
    middle is. edges: the steps at which columns begin, and the end. tokens: the places in `order` at which rows begin,
    and the end. order: tokens by freeze onset.
    """

    pixels: npt.NDArray[np.uint8]
    edges: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]
    order: npt.NDArray[np.intp]


def picture(heat: npt.NDArray[np.float32], bins: StepBins, onset: npt.NDArray[np.int64], *, is_log: bool) -> Picture:
    """Mean heat a step of each pixel's tokens and steps, on a logarithmic scale of colours."""
    order = np.argsort(onset, kind="stable")
    edges = bins.columns(is_log)
    columns = np.add.reduceat(heat, np.searchsorted(bins.edges, edges[:-1]), axis=0, dtype=np.float64)
    rows = np.unique(np.linspace(0, len(order), min(MAX_ROWS, len(order)) + 1).astype(np.int64))
    sums = np.add.reduceat(columns[:, order], rows[:-1], axis=1).T
    mean = sums / (np.diff(rows)[:, None] * np.diff(edges)[None])
    scale = step_scale(int(edges[0]), int(edges[-1]) - 1, 0, WIDTH, is_log=is_log)
    shown = np.searchsorted(edges, scale.values(np.arange(WIDTH) + 0.5) + 0.5, side="right") - 1
    return Picture(_indices(mean)[:, np.minimum(shown, len(edges) - 2)], edges, rows, order)


def _indices(mean: Values) -> npt.NDArray[np.uint8]:
    broken = ~np.isfinite(mean)
    safe = np.clip(np.where(broken, 0.0, mean), COLDEST, HEAT_LIMIT)
    share = np.log10(safe / COLDEST) / log10(HEAT_LIMIT / COLDEST)
    indices = np.where(mean == 0, FROZEN, 1 + np.rint(share * (NOT_FINITE - 2)))
    return np.where(broken, NOT_FINITE, indices).astype(np.uint8)


def palette() -> list[png.Colour]:
    """The colour of each index: frozen, the coldest to the hottest, not finite."""
    anchors = np.array([_channels(colour) for colour in _ANCHORS], dtype=np.float64)
    at = np.linspace(0, len(anchors) - 1, NOT_FINITE - 1)
    ramp = np.stack([np.interp(at, np.arange(len(anchors)), channel) for channel in anchors.T], axis=1)
    middle: list[png.Colour] = [(int(r), int(g), int(b)) for r, g, b in np.rint(ramp)]
    return [_channels(_FROZEN_COLOUR), *middle, _channels(_NOT_FINITE_COLOUR)]


def heat_map(title: str, shown: Picture, size: Size, *, steps: tuple[int, int], is_log: bool) -> str:
    """The picture in its axes, above a bar that says what its colours mean."""
    bar = 52
    size = replace(size, height=size.height + 160 + bar, right=30, bottom=size.bottom + bar)
    x = step_scale(*steps, *size.across, is_log=is_log)
    # A row is as tall as its share of the tokens, so places along the axis are numbers of tokens.
    frame = Frame(title, size, x, Scale(0, len(shown.order), size.top, size.height - size.bottom))
    frame.axes("", "tokens, the first to freeze on top")
    left, right = size.across
    frame.add(
        f'<image class="heat" x="{left}" y="{size.top}" width="{right - left}"'
        f' height="{size.height - size.bottom - size.top}" preserveAspectRatio="none"'
        f' href="{png.data_uri(png.encode(shown.pixels, palette()))}"/>'
    )
    frame.text(
        (left + right) / 2,
        size.height - bar - 8,
        f"step{' (log scale)' if is_log else ''}",
        anchor="middle",
        style="label",
    )
    _colour_bar(frame, has_broken=bool((shown.pixels == NOT_FINITE).any()))
    return frame.svg()


def _colour_bar(frame: Frame, *, has_broken: bool) -> None:
    size = frame.size
    y, left = size.height - 36, size.left
    ramp = Scale(COLDEST, HEAT_LIMIT, left + 84, size.width - size.right - (74 if has_broken else 12), is_log=True)
    stops = "".join(
        f'<stop offset="{index / (len(_ANCHORS) - 1):.3f}" stop-color="{colour}"/>'
        for index, colour in enumerate(_ANCHORS)
    )
    # Not the name in the same chart's other drawings: a gradient of a hidden drawing paints nothing.
    name = f"ramp{size.width}{'log' if frame.x.is_log else ''}"
    frame.add(f'<defs><linearGradient id="{name}">{stops}</linearGradient></defs>')
    frame.add(f'<rect x="{left}" y="{y}" width="44" height="10" fill="{_FROZEN_COLOUR}" class="swatch"/>')
    frame.text(left + 22, y + 25, "frozen", anchor="middle", style="tick")
    frame.add(f'<rect x="{ramp.start}" y="{y}" width="{ramp.end - ramp.start}" height="10" fill="url(#{name})"/>')
    for tick in ramp.ticks(6):
        text = f"{number(tick)} ULP" if tick == COLDEST else f"{number(tick)}+" if tick == HEAT_LIMIT else number(tick)
        frame.text(ramp.at(tick), y + 25, text, anchor="middle", style="tick")
    if has_broken:
        x = ramp.end + 24
        frame.add(f'<rect x="{x}" y="{y}" width="44" height="10" fill="{_NOT_FINITE_COLOUR}"/>')
        frame.text(x + 22, y + 25, "NaN", anchor="middle", style="tick")


def _channels(colour: str) -> png.Colour:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
