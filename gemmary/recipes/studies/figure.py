"""A figure of lines with error bars, as SVG that reads in light and dark and fetches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 78, 22, 54, 96
DODGE = 5  # between series, so that error bars do not cover each other
COLOURS = ("#4c6ef5", "#e8590c", "#2b8a3e", "#ae3ec9", "#0c8599", "#868e96")
_STYLE = (
    "text{font:13px system-ui,'DejaVu Sans',sans-serif;fill:#1d2433}.t{font-size:15px;font-weight:600}"
    ".s{fill:#667085}.g{stroke:#e4e7ec}.p{fill:#fff}"
    "@media(prefers-color-scheme:dark){text{fill:#e6e9ef}.s{fill:#98a2b3}.g{stroke:#333a47}.p{fill:#14181f}}"
)


@dataclass(frozen=True)
class Point:
    """A place on the x axis, a value, and the half length of its error bar."""

    x: float
    y: float
    error: float = 0.0


@dataclass(frozen=True)
class Series:
    """A line. `dashed`: what others report, or a reference."""

    name: str
    points: tuple[Point, ...]
    dashed: bool = False


@dataclass(frozen=True)
class Figure:
    """Lines over an axis.

    `ticks`: where the x axis has labels, and which. `log_x`, `log_y`: powers of two, powers of ten.
    """

    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    ticks: tuple[tuple[float, str], ...]
    log_x: bool = False
    log_y: bool = False

    def svg(self) -> str:
        """The whole file."""
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            f"<title>{escape(self.title)}</title><style>{_STYLE}</style>",
            f'<rect class="p" width="{WIDTH}" height="{HEIGHT}" rx="8"/>',
            _text(LEFT, 30, self.title, "t"),
            *self._axes(),
            *(part for number, series in enumerate(self.series) for part in self._line(series, number)),
            *self._legend(),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def _axes(self) -> list[str]:
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        parts = []
        for value in self._y_ticks():
            y = self._y(value)
            parts.append(f'<line class="g" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(_text(LEFT - 8, y + 4, _short(value), "s", "end"))
        parts += [_text(self._x(at), bottom + 20, label, "s", "middle") for at, label in self.ticks]
        parts.append(_text((LEFT + right) / 2, bottom + 44, self.x, "s", "middle"))
        middle = (TOP + bottom) / 2
        turned = f' transform="rotate(-90 20 {middle:.0f})"'
        parts.append(
            f'<text class="s" x="20" y="{middle:.0f}" text-anchor="middle"{turned}>{escape(self.y)}</text>'
        )
        return parts

    def _line(self, series: Series, number: int) -> list[str]:
        colour = COLOURS[number % len(COLOURS)]
        aside = DODGE * (number - (len(self.series) - 1) / 2)
        places = [(self._x(p.x) + aside, self._y(p.y)) for p in series.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dash = ' stroke-dasharray="5 4"' if series.dashed else ""
        parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>']
        for point, (x, y) in zip(series.points, places, strict=True):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
            if point.error:
                ends = [self._y(point.y - point.error), self._y(point.y + point.error)]
                parts.append(
                    f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}" '
                    f'stroke="{colour}" stroke-width="1.5"/>'
                )
        return parts

    def _legend(self) -> list[str]:
        parts, x, y = [], float(LEFT), HEIGHT - BOTTOM + 72.0
        for number, series in enumerate(self.series):
            width = 30 + 7.2 * len(series.name)
            if x + width > WIDTH - RIGHT:
                x, y = float(LEFT), y + 17
            colour = COLOURS[number % len(COLOURS)]
            parts.append(f'<rect x="{x:.0f}" y="{y - 9:.0f}" width="12" height="10" rx="2" fill="{colour}"/>')
            parts.append(_text(x + 17, y, series.name))
            x += width
        return parts

    # Places

    def _x(self, value: float) -> float:
        low, high = self._x_range()
        share = 0.5 if high == low else (self._on_x(value) - low) / (high - low)
        inset = 26
        return LEFT + inset + share * (WIDTH - LEFT - RIGHT - 2 * inset)

    def _x_range(self) -> tuple[float, float]:
        found = [self._on_x(p.x) for series in self.series for p in series.points]
        return min(found), max(found)

    def _on_x(self, value: float) -> float:
        return log10(value) if self.log_x else value

    def _y(self, value: float) -> float:
        low, high = self._y_range()
        floor_ = 10.0**low if self.log_y else low
        share = (self._on_y(max(value, floor_)) - low) / (high - low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def _y_range(self) -> tuple[float, float]:
        ends = [e for s in self.series for p in s.points for e in (p.y - p.error, p.y + p.error)]
        if self.log_y:
            ends = [e for e in ends if e > 0]
        low, high = self._on_y(min(ends)), self._on_y(max(ends))
        room = 0.06 * (high - low) or 0.5
        return low - room, high + room

    def _on_y(self, value: float) -> float:
        return log10(value) if self.log_y else value

    def _y_ticks(self) -> Sequence[float]:
        low, high = self._y_range()
        if self.log_y:
            steps = [m * 10.0**e for e in range(floor(low), floor(high) + 1) for m in (1, 2, 5)]
            return [s for s in steps if low <= log10(s) <= high]
        step = _round_step((high - low) / 6)
        first = -floor(-low / step)
        return [n * step for n in range(first, floor(high / step) + 1)]


def _round_step(rough: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** floor(log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def evenly(labels: Sequence[str]) -> tuple[tuple[float, str], ...]:
    """Ticks for names instead of numbers: 0, 1, 2, ..."""
    return tuple((float(at), label) for at, label in enumerate(labels))
