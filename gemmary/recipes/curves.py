"""A few curves over one axis, as an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 380
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 50, 50
COLOURS = ("#868e96", "#1f6feb", "#e8590c", "#2b8a3e")


@dataclass(frozen=True)
class Curve:
    """Points of a line, and its name."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def drawn(title: str, x: str, y: str, curves: Sequence[Curve]) -> str:
    """The file. All curves share their first one's x."""
    ticks = curves[0].x
    values = [value for curve in curves for value in curve.y]
    low, high = min(values), max(values)
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts = [
        _text(LEFT, 26, title, size=16), _text(middle, HEIGHT - 12, x, "middle"), _text(LEFT, TOP - 8, y),
    ]  # fmt: skip

    def place(tick: float, value: float) -> tuple[float, float]:
        across = (tick - ticks[0]) / ((ticks[-1] - ticks[0]) or 1.0)
        up = (value - low) / ((high - low) or 1.0)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts += [_text(place(tick, low)[0], HEIGHT - BOTTOM + 18, f"{tick:g}", "middle") for tick in ticks]
    for part in range(5):
        value = low + (high - low) * part / 4
        at = place(ticks[0], value)[1]
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#d8dee4"/>')
        parts.append(_text(LEFT - 8, at + 4, f"{value:.2f}", "end"))
    for number, curve in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join("{:.1f},{:.1f}".format(*place(*p)) for p in zip(curve.x, curve.y, strict=True))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(WIDTH - RIGHT + 10, TOP + 12 + 20 * number, curve.name, colour=colour))
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>', *parts, "</svg>\n"])


def _text(
    x: float, y: float, text: str, anchor: str = "start", size: int = 12, colour: str = "#24292f"
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} font-size="{size}" fill="{colour}">{escape(text)}</text>'
