"""Small vector figures as text: axes, lines, bands, dots and bars, for a page that loads nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup, escape

from hgpscale.report.tables import one_line

Shape = Literal["circle", "square", "triangle", "diamond", "line", "dash"]

INK, SOFT, GRID = "#1b1f24", "#5b6470", "#e3e7eb"
_CHARACTER = 7.2
"""Width of a letter, about, in a label of 12 units; the page draws a unit as a pixel or less."""


def plain(value: float) -> str:
    """Return a tick: as short as it is, with a real minus."""
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class Axis:
    """A range of numbers, where it is marked, and what it is called.

    Attributes
    ----------
    low, high
        Ends; what lies beyond is drawn at the border.
    ticks
        Numbers that are written.
    label
        Name, with the unit.
    form
        Writes a tick.

    """

    low: float
    high: float
    ticks: tuple[float, ...]
    label: str
    form: Callable[[float], str] = plain

    def share(self, value: float) -> float:
        """Return where a number lies, 0 at the lower end and 1 at the upper."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


def nice_axis(values: Sequence[float], label: str, *, include: Sequence[float] = (), count: int = 5) -> Axis:
    """Return an axis with round ticks that holds all finite `values`."""
    finite = [float(value) for value in (*values, *include) if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if math.isclose(low, high, rel_tol=1e-9):
        pad = abs(low) / 10 or 0.5
        low, high = low - pad, high + pad
    raw = (high - low) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    # Twelve digits of the step: what is behind them is rounding.
    digits = 12 - math.floor(math.log10(step))
    ticks = tuple(round(step * i, digits) for i in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks, label)


FRACTION = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass
class Canvas:
    """A figure that is being drawn; numbers go in by its axes, `render` gives the SVG.

    Attributes
    ----------
    x, y
        Axes; None: none is drawn, and places are units of the figure.
    width, height
        Units; the page scales them down on a narrow screen.
    left, right, top, bottom
        Units around the axes.

    """

    x: Axis | None = None
    y: Axis | None = None
    width: float = 460
    height: float = 380
    left: float = 52
    right: float = 14
    top: float = 12
    bottom: float = 46
    _parts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.x is not None:
            self._x_axis(self.x)
        if self.y is not None:
            self._y_axis(self.y)

    def px(self, value: float) -> float:
        """Return the unit from the left for a number of the x axis."""
        if self.x is None:
            return value
        return self.left + self.x.share(value) * (self.width - self.left - self.right)

    def py(self, value: float) -> float:
        """Return the unit from the top for a number of the y axis."""
        if self.y is None:
            return value
        return self.height - self.bottom - self.y.share(value) * (self.height - self.top - self.bottom)

    def rule(self, x: float, colour: str = SOFT) -> None:
        """Draw a dashed line from top to bottom at a number of the x axis."""
        at, bottom = self.px(x), self.height - self.bottom
        self._parts.append(f'<path d="M{at:.1f} {self.top:g}V{bottom:.1f}" stroke="{colour}" stroke-dasharray="5 4"/>')

    def line(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        colour: str,
        *,
        width: float = 2,
        dash: str = "",
        fade: float = 1,
    ) -> None:
        """Join points."""
        points = " ".join(f"{self.px(x):.1f},{self.py(y):.1f}" for x, y in zip(xs, ys, strict=True))
        style = f' stroke-dasharray="{dash}"' if dash else ""
        style += f' stroke-opacity="{fade:g}"' if fade < 1 else ""
        self._parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width:g}" '
            f'stroke-linejoin="round"{style}/>'
        )

    def band(self, xs: Sequence[float], lows: Sequence[float], highs: Sequence[float], colour: str) -> None:
        """Fill between two lines."""
        there = [f"{self.px(x):.1f},{self.py(y):.1f}" for x, y in zip(xs, highs, strict=True)]
        back = [f"{self.px(x):.1f},{self.py(y):.1f}" for x, y in zip(xs, lows, strict=True)]
        points = " ".join([*there, *reversed(back)])
        self._parts.append(f'<polygon points="{points}" fill="{colour}" fill-opacity="0.18"/>')

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: str, *, fade: float = 1, edge: str = "") -> None:
        """Fill a rectangle given by two corners."""
        (a, b), (c, d) = sorted((self.px(x0), self.px(x1))), sorted((self.py(y0), self.py(y1)))
        line = f' stroke="{edge}"' if edge else ""
        self._parts.append(
            f'<rect x="{a:.1f}" y="{c:.1f}" width="{b - a:.1f}" height="{d - c:.1f}" fill="{colour}" '
            f'fill-opacity="{fade:g}"{line}/>'
        )

    def dot(
        self, x: float, y: float, colour: str, *, radius: float = 3.5, shape: Shape = "circle", fade: float = 0.75,
        shift: tuple[float, float] = (0, 0),
    ) -> None:  # fmt: skip
        """Draw a marker; `shift` moves it by units."""
        self._parts.append(marker(self.px(x) + shift[0], self.py(y) + shift[1], colour, shape, radius, fade))

    def text(
        self, x: float, y: float, words: object, *, anchor: str = "start", shift: tuple[float, float] = (0, 0),
        colour: str = INK, bold: bool = False, size: float = 12,
    ) -> None:  # fmt: skip
        """Write at a place; `shift` moves it by units."""
        weight = ' font-weight="600"' if bold else ""
        self._parts.append(
            f'<text x="{self.px(x) + shift[0]:.1f}" y="{self.py(y) + shift[1]:.1f}" text-anchor="{anchor}" '
            f'fill="{colour}" font-size="{size:g}"{weight}>{escape(one_line(words))}</text>'
        )

    def render(self, alternative: str) -> Markup:
        """Return the SVG; `alternative` is what a screen reader says of it."""
        words = escape(one_line(alternative))
        return Markup(  # noqa: S704 - all text in it went through escape
            f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'aria-label="{words}" style="max-width:{1.15 * self.width:.0f}px">'
            f"{''.join(self._parts)}</svg>"
        )

    def _x_axis(self, axis: Axis) -> None:
        top, bottom = self.top, self.height - self.bottom
        for tick in axis.ticks:
            x = self.px(tick)
            self._parts.append(f'<path d="M{x:.1f} {top:.1f}V{bottom:.1f}" stroke="{GRID}"/>')
            self._raw_text(x, bottom + 17, axis.form(tick), "middle")
        self._parts.append(f'<path d="M{self.left} {bottom}H{self.width - self.right}" stroke="{SOFT}"/>')
        middle = (self.left + self.width - self.right) / 2
        self._raw_text(middle, self.height - 8, axis.label, "middle", INK)

    def _y_axis(self, axis: Axis) -> None:
        for tick in axis.ticks:
            y = self.py(tick)
            self._parts.append(f'<path d="M{self.left} {y:.1f}H{self.width - self.right}" stroke="{GRID}"/>')
            self._raw_text(self.left - 7, y + 4, axis.form(tick), "end")
        middle = (self.top + self.height - self.bottom) / 2
        self._parts.append(
            f'<text transform="translate(13 {middle:.1f}) rotate(-90)" text-anchor="middle" fill="{INK}" '
            f'font-size="12">{escape(one_line(axis.label))}</text>'
        )

    def _raw_text(self, x: float, y: float, words: str, anchor: str, colour: str = SOFT) -> None:
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="12">'
            f"{escape(one_line(words))}</text>"
        )


def marker(x: float, y: float, colour: str, shape: Shape, radius: float = 4, fade: float = 1) -> str:
    """Return one marker as SVG, its middle at a place."""
    r, paint = radius, f'fill="{colour}" fill-opacity="{fade:g}"'
    match shape:
        case "circle":
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:g}" {paint}/>'
        case "square":
            side = 1.8 * r
            return (
                f'<rect x="{x - side / 2:.1f}" y="{y - side / 2:.1f}" width="{side:.1f}" height="{side:.1f}" {paint}/>'
            )
        case "triangle":
            up, down, side = y - 1.2 * r, y + 0.9 * r, 1.15 * r
            return f'<path d="M{x:.1f} {up:.1f}L{x + side:.1f} {down:.1f}H{x - side:.1f}Z" {paint}/>'
        case "diamond":
            side = 1.3 * r
            path = f"M{x:.1f} {y - side:.1f}l{side:.1f} {side:.1f}l{-side:.1f} {side:.1f}l{-side:.1f} {-side:.1f}Z"
            return f'<path d="{path}" {paint}/>'
        case "dash":
            return f'<path d="M{x - 9:.1f} {y:.1f}h18" stroke="{colour}" stroke-width="2" stroke-dasharray="5 3"/>'
        case "line":
            return f'<path d="M{x - 9:.1f} {y:.1f}h18" stroke="{colour}" stroke-width="2.5" stroke-opacity="{fade:g}"/>'


def swatch(colour: str, shape: Shape) -> Markup:
    """Return a marker for a legend in the text."""
    return Markup(  # noqa: S704 - a marker has no text
        f'<svg class="swatch" viewBox="0 0 20 12" aria-hidden="true">{marker(10, 6, colour, shape, 4.5)}</svg>'
    )


def label_width(words: Sequence[str]) -> float:
    """Return how many units labels need on the left of a figure."""
    return 16 + _CHARACTER * max(map(len, words), default=0)


def shortened(words: str, most: int = 28) -> str:
    """Return a label that fits beside a figure; the table has it whole."""
    return words if len(words) <= most else f"{words[: most - 1]}…"


def spread(number: int) -> float:
    """Return a place between -0.5 and 0.5 for the n-th of many dots, evenly and always the same."""
    return (number * 0.6180339887 + 0.5) % 1 - 0.5
