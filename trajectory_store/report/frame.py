"""The frame of a chart: sizes, scales, ticks, axes; text in, SVG out, and everything that is text escaped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from math import ceil, floor, isfinite, log10

import numpy as np
import numpy.typing as npt

from .bins import Values


@dataclass(frozen=True)
class Size:
    """A chart's size and margins in its own units, which are pixels if it is shown at full size."""

    width: int
    height: int
    left: int
    right: int
    top: int = 34
    bottom: int = 44
    n_ticks: int = 8

    @property
    def across(self) -> tuple[int, int]:
        """Where the plot begins and ends."""
        return self.left, self.width - self.right

    @property
    def is_narrow(self) -> bool:
        """Whether it is for a phone."""
        return self.width < 600


_BARE_MARGIN = 30
_LEGEND_ROW = 19
_LETTER = 6.9
"""How wide a letter of a name is at most, on average: there is no font here to measure with."""

WIDE = Size(880, 340, 58, 118)
NARROW = Size(400, 290, 50, 84, n_ticks=4)


@dataclass(frozen=True)
class Scale:
    """Maps values lo … hi to positions start … end."""

    lo: float
    hi: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, values: npt.ArrayLike) -> Values:
        """Positions; NaN for what a logarithmic axis has no place for."""
        wide = np.asarray(values, dtype=np.float64)
        lo, hi = self.lo, self.hi
        if self.is_log:
            wide = np.log10(np.where(wide > 0, wide, np.nan))
            lo, hi = log10(lo), log10(hi)
        span = hi - lo or 1.0
        result: Values = self.start + (wide - lo) / span * (self.end - self.start)
        return result

    def values(self, positions: npt.ArrayLike) -> Values:
        """What is at positions: the inverse."""
        share = (np.asarray(positions, dtype=np.float64) - self.start) / (self.end - self.start)
        result: Values = (
            self.lo * (self.hi / self.lo) ** share if self.is_log else self.lo + (self.hi - self.lo) * share
        )
        return result

    def at(self, value: float) -> float:
        """One position."""
        return float(self(value))

    def ticks(self, n: int) -> list[float]:
        """About n round values, or powers of ten, within lo … hi."""
        return _log_ticks(self.lo, self.hi, n) if self.is_log else _linear_ticks(self.lo, self.hi, n)


def _linear_ticks(lo: float, hi: float, n: int) -> list[float]:
    if hi <= lo:
        return [lo]
    rough = (hi - lo) / max(n, 1)
    power = 10.0 ** floor(log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = ceil(lo / step - 1e-9), floor(hi / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _log_ticks(lo: float, hi: float, n: int) -> list[float]:
    powers = range(floor(log10(lo)), ceil(log10(hi)) + 1)
    factors = (1, 2, 5) if len(powers) * 3 <= n + 4 else (1,)
    every = max(1, ceil(len(powers) / max(n, 1)))
    ticks = [factor * 10.0**power for power in powers if power % every == 0 for factor in factors]
    return [tick for tick in ticks if lo * 0.999 <= tick <= hi * 1.001]


def step_scale(first: int, last: int, start: float, end: float, *, is_log: bool) -> Scale:
    """The axis of steps, a logarithmic one from 1 on. Step s of a column or a bar reaches from s − ½ to s + ½."""
    lo = max(first, 1) if is_log else first
    return Scale(lo, max(last, lo + 1), start, end, is_log)


def value_range(arrays: Sequence[Values], *, with_zero: bool = False) -> tuple[float, float]:
    """The least and largest finite value, with a little room added; (0, 1) if there is none."""
    finite = [array[np.isfinite(array)] for array in arrays]
    together = np.concatenate([*finite, np.zeros(int(with_zero))])
    if not len(together):
        return 0.0, 1.0
    lo, hi = float(together.min()), float(together.max())
    room = (hi - lo) * 0.05 or abs(hi) * 0.05 or 1.0
    return (lo if with_zero and lo == 0 else lo - room), hi + room


@dataclass
class Frame:
    """A chart while it is drawn: axes first, marks on top."""

    title: str
    size: Size
    x: Scale
    y: Scale
    parts: list[str] = field(default_factory=list)

    def add(self, element: str) -> None:
        """Draw an SVG element on top."""
        self.parts.append(element)

    def text(self, x: float, y: float, text: str, *, anchor: str = "start", style: str = "") -> None:
        """Write text."""
        style = f' class="{style}"' if style else ""
        self.add(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(text)}</text>')

    def axes(
        self,
        x_label: str,
        y_label: str,
        *,
        x_text: Callable[[float], str] | None = None,
        y_text: Callable[[float], str] | None = None,
    ) -> None:
        """Draw grid lines, ticks and labels; the vertical axis' label stands level above it."""
        size, floor_y = self.size, self.size.height - self.size.bottom
        for tick in self.y.ticks(5):
            y = self.y.at(tick)
            self.add(f'<path class="grid" d="M{size.left} {y:.1f}H{size.width - size.right}"/>')
            self.text(size.left - 8, y + 4, (y_text or number)(tick), anchor="end", style="tick")
        for tick in self.x.ticks(size.n_ticks):
            x = self.x.at(tick)
            self.add(f'<path class="tickmark" d="M{x:.1f} {floor_y}v5"/>')
            self.text(x, floor_y + 19, (x_text or number)(tick), anchor="middle", style="tick")
        self.add(f'<path class="axis" d="M{size.left} {floor_y}H{size.width - size.right}"/>')
        self.text((size.left + size.width - size.right) / 2, size.height - 6, x_label, anchor="middle", style="label")
        self.text(4, 16, y_label, style="label")

    def svg(self) -> str:
        """The finished chart, with its places as attributes for a script that reads values off it."""
        size = self.size
        plot = {
            "x0": size.left,
            "x1": size.width - size.right,
            "y0": size.top,
            "y1": size.height - size.bottom,
            "lo": self.x.lo,
            "hi": self.x.hi,
            "top": min((self.y.start, self.y.lo), (self.y.end, self.y.hi))[1],
            "bottom": max((self.y.start, self.y.lo), (self.y.end, self.y.hi))[1],
            "log": int(self.x.is_log),
        }
        places = " ".join(f'data-{name}="{value:.9g}"' for name, value in plot.items())
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {size.width} {size.height}" role="img"'
            f" {places}><title>{escape(self.title)}</title>{''.join(self.parts)}</svg>"
        )


def room_for(names: Sequence[str], size: Size) -> Size:
    """Margins for a legend of these names: right of the plot on a wide chart, rows above it on a narrow one."""
    if not names:
        return replace(size, right=_BARE_MARGIN)
    if not size.is_narrow:
        return size
    n_rows = _legend_places(names, size)[-1][1] + 1
    extra = _LEGEND_ROW * n_rows
    return replace(size, right=_BARE_MARGIN, top=size.top + extra, height=size.height + extra)


def legend(frame: Frame, entries: Sequence[tuple[str, str]]) -> None:
    """Rows of (name, class of its swatch) above the plot."""
    for (name, style), (x, row) in zip(entries, _legend_places([name for name, _ in entries], frame.size), strict=True):
        y = 36 + _LEGEND_ROW * row
        frame.add(f'<rect class="{style}" x="{x:.1f}" y="{y - 9:.1f}" width="10" height="10" rx="2"/>')
        frame.text(x + 14, y, name, style="name")


def _legend_places(names: Sequence[str], size: Size) -> list[tuple[float, int]]:
    places: list[tuple[float, int]] = []
    x, row = float(size.left), 0
    for name in names:
        width = 14 + len(name) * _LETTER + 16
        if x + width > size.width and x > size.left:
            x, row = float(size.left), row + 1
        places.append((x, row))
        x += width
    return places


def points(x: Values, y: Values) -> str:
    """Path commands through the points, with a gap at every one that is not finite."""
    commands, is_down = [], False
    for px, py in zip(x.tolist(), y.tolist(), strict=True):
        if isfinite(px) and isfinite(py):
            commands.append(f"{'L' if is_down else 'M'}{px:.1f} {py:.1f}")
            is_down = True
        else:
            is_down = False
    return "".join(commands)


def spread(wanted: Sequence[float], gap: float, lo: float, hi: float) -> list[float]:
    """Places near the wanted ones, in their order, at least `gap` apart, and within lo … hi if there is room."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    places = [0.0] * len(wanted)
    at = lo - gap
    for index in order:
        at = places[index] = max(wanted[index], at + gap)
    at = hi + gap
    for index in reversed(order):
        at = places[index] = min(places[index], at - gap)
    return places


def number(value: float) -> str:
    """A number as an axis shows it."""
    if value == 0:
        return "0"
    if abs(value) >= 1e7 or abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    return f"{value:,.0f}" if value == int(value) else f"{value:,.6g}"


def percent(value: float) -> str:
    """A share as an axis shows it."""
    return f"{value * 100:.3g} %"
