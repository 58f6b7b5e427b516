"""A curve over the steps of a run, as HTML with an inline SVG: any width, light and dark, no script.

The SVG is stretched to the room there is; labels are HTML, so that they stay legible when it is narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
COLUMNS = 500  # places along a curve; of more steps, each place shows the least, the most and a mean
HUGE = 1e100  # what is beyond has no place on a page
SIDE = 1000.0  # of the drawing's own square of units

STYLE = """
.plot { margin: 0 0 1rem; min-width: 0 }
.plot figcaption { margin-bottom: .4rem }
.frame { display: grid; grid-template-columns: 3.4rem minmax(0, 1fr); grid-template-rows: 13rem 1.5rem;
         margin-right: 1rem; font-size: .8rem; color: var(--soft); font-variant-numeric: tabular-nums }
.tall .frame { grid-template-rows: 18rem 1.5rem }
.frame svg { width: 100%; height: 100%; background: var(--wash); border-radius: 6px }
.frame path { vector-effect: non-scaling-stroke; fill: none }
.ys, .xs { position: relative } .ys span { position: absolute; right: .5rem; transform: translateY(-50%) }
.xs { grid-column: 2 } .xs span { position: absolute; top: .25rem; transform: translateX(-50%) }
.grid { stroke: var(--line); stroke-width: 1 } .each { fill: var(--bar) !important; opacity: .22 }
.curve { stroke: var(--bar); stroke-width: 2; stroke-linejoin: round }
.lost { stroke: var(--drop); opacity: .75 } .turn { stroke: var(--soft); stroke-dasharray: 4 4 }
"""


@dataclass(frozen=True)
class Curve:
    """`values` [n] at `steps` [n]; NaN and infinity are gaps. `smooth`: steps that the line is a mean of.

    `zero`: the axis begins at 0. `note` stands beside the name.
    """

    name: str
    steps: Sequence[int]
    values: Sequence[float]
    smooth: int = 1
    zero: bool = False
    note: str = ""


def plot(curve: Curve, lost: Sequence[int] = (), turns: Sequence[int] = (), tall: bool = False) -> str:
    """A figure. Steps `lost` have an upright line in the colour of warnings, `turns` a dashed one."""
    steps, values = np.asarray(curve.steps, np.float64), np.asarray(curve.values, np.float64)
    held = np.isfinite(values) & (np.abs(values) < HUGE)
    title = (
        f"<figcaption><b>{escape(curve.name)}</b> <span class=soft>{escape(curve.note)}</span></figcaption>"
    )
    if held.sum() < 2:
        return f"<figure class=plot>{title}<p class=soft>Too few steps to draw.</p></figure>"
    across = _Axis(float(steps[0]), float(steps[-1]))
    smooth = mean_of(values[held], curve.smooth)
    up = _upward(values[held], smooth, curve.zero)
    drawn = [_grid(up), *(_upright(across, at, "turn") for at in turns)]
    if curve.smooth > 1:
        drawn.append(_band(across.places(steps[held]), up.places(values[held])))
    drawn.append(_line(across.places(steps[held]), up.places(smooth)))
    drawn += [_upright(across, at, "lost") for at in _thinned(lost)]
    return (
        f"<figure class='plot{' tall' * tall}'>{title}<div class=frame>"
        f"<div class=ys>{_labels(up, 'top', 100.0)}</div>"
        f"<svg viewBox='0 0 {SIDE:.0f} {SIDE:.0f}' preserveAspectRatio=none role=img "
        f"aria-label='{escape(_said(curve.name, smooth), quote=True)}'>{''.join(drawn)}</svg>"
        f"<div class=xs>{_labels(across, 'left', 0.0)}</div></div></figure>"
    )


def mean_of(values: Values, window: int) -> Values:
    """Means of `window` values, the later half of them ahead; of fewer at both ends."""
    sums = np.append(0.0, np.cumsum(values))
    at = np.arange(len(values))
    first, last = np.maximum(at - window // 2, 0), np.minimum(at + (window + 1) // 2, len(values))
    return np.asarray((sums[last] - sums[first]) / (last - first))


@dataclass(frozen=True)
class _Axis:
    """From `low` to `high`, by logarithm if so wished."""

    low: float
    high: float
    log: bool = False

    def places(self, values: Values) -> Values:
        """In the drawing's units, from 0 at `low`."""
        low, high, found = self.low, self.high, values
        if self.log:
            low, high, found = math.log(low), math.log(high), np.log(np.maximum(values, 1e-300))
        return np.asarray(SIDE * (found - low) / ((high - low) or 1.0))

    def ticks(self) -> list[float]:
        """Round numbers, five or so."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            few = len(decades) > 3
            marks = [10.0**ten * unit for ten in decades for unit in ((1,) if few else (1, 2, 5))]
        else:
            size = _round_step((self.high - self.low) / 5)
            first, last = math.ceil(self.low / size - 1e-9), math.floor(self.high / size + 1e-9)
            marks = [size * i for i in range(first, last + 1)]
        return [mark for mark in marks if self.low <= mark * (1 + 1e-9) and mark <= self.high * (1 + 1e-9)]


def _upward(values: Values, smooth: Values, zero: bool) -> _Axis:
    """The axis of values: all of the line, and what is around it but for the rarest hundredth at each end."""
    least, most = np.percentile(values, (1, 99))
    low, high = float(min(least, smooth.min())), float(max(most, smooth.max()))
    if zero:
        return _Axis(min(0.0, low), 1.08 * high or 1.0)
    if low > 0 and high > 20 * low:
        return _Axis(low / 1.1, high * 1.1, log=True)
    room = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    return _Axis(low - room, high + room)


def _round_step(size: float) -> float:
    """1, 2 or 5 times a power of ten: the least that is not below `size`."""
    ten = 10.0 ** math.floor(math.log10(size)) if size > 0 else 1.0
    return next((ten * unit for unit in (1, 2, 5) if ten * unit >= size), 10 * ten)


def _labels(axis: _Axis, side: str, origin: float) -> str:
    marks = axis.ticks()
    most = max(map(abs, marks), default=0.0)
    places = axis.places(np.array(marks)) / SIDE * 100
    return "".join(
        f"<span style='{side}:{abs(origin - place):.2f}%'>{_number(mark, most)}</span>"
        for mark, place in zip(marks, places, strict=True)
    )


def _number(value: float, most: float) -> str:
    """0.003, 2.5, 1,200; 150k, 12M, 3e+10 where the axis goes up to such numbers."""
    if not value or most < 1e5:
        return f"{value:,.6g}"
    if most >= 1e9:
        return f"{value:.3g}"
    return f"{value / 1e6:.6g}M" if most >= 1e6 else f"{value / 1e3:.6g}k"


def _grid(axis: _Axis) -> str:
    lines = "".join(f"M0 {SIDE - at:.1f}H{SIDE:.0f}" for at in axis.places(np.array(axis.ticks())))
    return f"<path class=grid d='{lines}'/>"


def _upright(axis: _Axis, step: int, kind: str) -> str:
    at = float(axis.places(np.array(float(step))))
    return f"<path class={kind} d='M{at:.1f} 0V{SIDE:.0f}'/>"


def _line(x: Values, y: Values) -> str:
    places = [(float(x[part].mean()), float(y[part].mean())) for part in _columns(len(x))]
    return f"<path class=curve d='M{' '.join(_point(*place) for place in places)}'/>"


def _band(x: Values, y: Values) -> str:
    """From the least to the most of each column: what single steps do."""
    parts = _columns(len(x), overlap=1)  # so that nothing between two of them is lost
    top = [_point(float(x[part].mean()), float(y[part].max())) for part in parts]
    bottom = [_point(float(x[part].mean()), float(y[part].min())) for part in parts]
    return f"<path class=each d='M{' '.join([*top, *reversed(bottom)])}Z'/>"


def _point(x: float, y: float) -> str:
    return f"{x:.1f} {SIDE - min(max(y, -SIDE), 2 * SIDE):.1f}"


def _columns(count: int, overlap: int = 0) -> list[slice]:
    """At most COLUMNS parts; each begins `overlap` early."""
    edges = np.linspace(0, count, min(COLUMNS, count) + 1).astype(int)
    return [slice(max(a - overlap, 0), b) for a, b in pairwise(edges)]


def _thinned(steps: Sequence[int]) -> Sequence[int]:
    return steps[:: 1 + len(steps) // 200]


def _said(name: str, smooth: Values) -> str:
    """For those who do not see the picture."""
    return (
        f"{name}: from {smooth[0]:.4g} to {smooth[-1]:.4g}, least {smooth.min():.4g}, most {smooth.max():.4g}"
    )
