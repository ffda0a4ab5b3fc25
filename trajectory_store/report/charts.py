"""Charts as pure functions: numbers in, one SVG out. Colours are classes, which `style` gives a meaning."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .bins import Steps, Values
from .frame import Frame, Scale, Size, legend, number, percent, points, room_for, spread, step_scale, value_range

_LABEL_GAP = 15


@dataclass(frozen=True)
class Curve:
    """A line over steps with its name and its colour's class, and perhaps a band around it."""

    name: str
    steps: Values
    values: Values
    style: str
    low: Values | None = None
    high: Values | None = None


def line_chart(
    title: str,
    curves: Sequence[Curve],
    size: Size,
    *,
    steps: tuple[int, int],
    is_log: bool,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    y_text: Callable[[float], str] = number,
) -> str:
    """Lines over steps, each named at its end. A value that is not finite is a gap."""
    arrays = [array for curve in curves for array in (curve.values, curve.low, curve.high) if array is not None]
    size = room_for([curve.name for curve in curves if curve.name], size)
    x = step_scale(*steps, *size.across, is_log=is_log)
    frame = Frame(title, size, x, Scale(*(y_range or value_range(arrays)), size.height - size.bottom, size.top))
    frame.axes(_step_label(is_log), y_label, y_text=y_text)
    for curve in curves:
        if curve.low is not None and curve.high is not None:
            frame.add(_band(frame, curve.steps, curve.low, curve.high, f"band {curve.style}"))
    for curve in curves:
        path = points(frame.x(curve.steps), frame.y(curve.values))
        frame.add(f'<path class="line {curve.style}" d="{path}"/>')
    _end_labels(frame, curves)
    return frame.svg()


def area_chart(
    title: str,
    names: Sequence[str],
    steps: Values,
    shares: Values,
    size: Size,
    *,
    domain: tuple[int, int],
    is_log: bool,
    y_label: str,
) -> str:
    """Shares (n, names) that sum to 1, stacked in their order from below. Each is named at its thickest place."""
    size = room_for(names, size)
    x = step_scale(*domain, *size.across, is_log=is_log)
    frame = Frame(title, size, x, Scale(0, 1, size.height - size.bottom, size.top))
    tops = np.concatenate([np.zeros((len(steps), 1)), np.cumsum(shares, axis=1)], axis=1)
    for index in range(len(names)):
        frame.add(_band(frame, steps, tops[:, index], tops[:, index + 1], f"area phase{index}"))
    frame.axes(_step_label(is_log), y_label, y_text=percent)
    _area_names(frame, names)
    return frame.svg()


def histogram(
    title: str, edges: Steps, counts: Steps, size: Size, *, domain: tuple[int, int], is_log: bool, y_label: str
) -> str:
    """Bars of counts between edges."""
    size = room_for([], size)
    x = step_scale(*domain, *size.across, is_log=is_log)
    hi = value_range([counts.astype(np.float64)], with_zero=True)[1]
    frame = Frame(title, size, x, Scale(0, hi, size.height - size.bottom, size.top))
    frame.axes(_step_label(is_log), y_label)
    lefts, tops = frame.x(np.clip(edges - 0.5, x.lo, x.hi)), frame.y(counts)
    bars = [
        f"M{left:.1f} {frame.y.start}V{top:.1f}H{max(right - 0.7, left + 0.3):.1f}V{frame.y.start}Z"
        for left, right, top, count in zip(lefts[:-1], lefts[1:], tops, counts, strict=True)
        if count
    ]
    frame.add(f'<path class="area c1" d="{"".join(bars)}"/>')
    return frame.svg()


def onset_edges(first: int, last: int, n: int, *, is_log: bool) -> Steps:
    """Edges of at most n bars for the steps first … last, equal on the axis."""
    if is_log:
        start = max(first, 1)
        return np.unique(np.rint(np.geomspace(start, max(last + 1, start + 1), n + 1)).astype(np.int64))
    return np.unique(np.rint(np.linspace(first, last + 1, n + 1)).astype(np.int64))


def _step_label(is_log: bool) -> str:
    return "step (log scale)" if is_log else "step"


def _band(frame: Frame, steps: Values, low: Values, high: Values, style: str) -> str:
    x, bottom, top = frame.x(steps), frame.y(low), frame.y(high)
    whole = np.isfinite(x) & np.isfinite(bottom) & np.isfinite(top)
    x, bottom, top = x[whole], bottom[whole], top[whole]
    return (
        f'<path class="{style}" d="{points(np.append(x, x[::-1]), np.append(top, bottom[::-1]))}Z"/>' if len(x) else ""
    )


def _end_labels(frame: Frame, curves: Sequence[Curve]) -> None:
    if frame.size.is_narrow:
        legend(frame, [(curve.name, f"area {curve.style}") for curve in curves if curve.name])
        return
    ends = [frame.y(curve.values[np.isfinite(curve.values)][-1:]).tolist() for curve in curves]
    named = [(curve, end[0]) for curve, end in zip(curves, ends, strict=True) if end and curve.name]
    lo, hi = frame.size.top, frame.size.height - frame.size.bottom
    places = spread([end for _, end in named], _LABEL_GAP, lo, hi)
    for (curve, _), y in zip(named, places, strict=True):
        frame.text(frame.x.end + 7, y + 4, curve.name, style=f"name {curve.style}")


def _area_names(frame: Frame, names: Sequence[str]) -> None:
    """Names beside the plot, in the order in which the areas lie on each other; above it if there is no room."""
    if frame.size.is_narrow:
        legend(frame, [(name, f"area phase{index}") for index, name in enumerate(names)])
        return
    height = 22
    y = frame.size.top + 8 + height * (len(names) - 1)
    x = frame.x.end + 8
    for index, name in enumerate(names):
        at = y - height * index
        frame.add(f'<rect class="area phase{index}" x="{x:.1f}" y="{at - 9:.1f}" width="10" height="10" rx="2"/>')
        frame.text(x + 14, at, name, style="name")
