"""How a run goes, over its last steps: loss, speed, share of the device's peak, time left."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from .about import About
from .log import Record

RECENT = 50  # steps over which loss and speed are averaged
POINTS = 256  # of the curve; a long run's points are thinned


class Meter:
    """Of a run of `steps` steps; `before`: the records of an earlier part of it."""

    def __init__(self, steps: int, about: About, before: Iterable[Record] = ()) -> None:
        self.steps, self._about = steps, about
        self.step, self.skipped = 0, 0
        self.last: Record = {}
        self.curve: list[float] = []
        self._losses: deque[float] = deque(maxlen=RECENT)
        self._times: deque[tuple[float, int]] = deque(maxlen=RECENT)  # when a step ended, its tokens
        self._every = 1
        for record in before:
            self._note(record)

    def add(self, record: Record, now: float) -> None:
        """A step that ended at `now` (seconds of any clock)."""
        self._note(record)
        self._times.append((now, record["tokens"]))

    def _note(self, record: Record) -> None:
        self.step, self.last = record["step"], record
        if not finite(record):
            self.skipped += 1
            return
        self._losses.append(record["loss"])
        if self.step % self._every == 0:
            self.curve.append(self.loss)
        if len(self.curve) > POINTS:
            self.curve, self._every = self.curve[1::2], 2 * self._every

    @property
    def loss(self) -> float:
        """Mean of the last steps that were finite; NaN before there is one."""
        return sum(self._losses) / len(self._losses) if self._losses else math.nan

    @property
    def speed(self) -> float | None:
        """Tokens a second; None before the second step."""
        spent = self._spent()
        return None if spent is None else sum(tokens for _, tokens in list(self._times)[1:]) / spent

    @property
    def power(self) -> float | None:
        """Floating point operations a second, where a token's are known."""
        return None if self.speed is None or self._about.flops is None else self.speed * self._about.flops

    @property
    def utilisation(self) -> float | None:
        """`power` over the peak of the devices (MFU), where both are known."""
        return None if self.power is None or self._about.peak is None else self.power / self._about.peak

    @property
    def left(self) -> float | None:
        """Seconds to the end of the plan."""
        spent = self._spent()
        return None if spent is None else (self.steps - self.step) * spent / (len(self._times) - 1)

    def _spent(self) -> float | None:
        """Seconds from the first to the last of the steps that are remembered."""
        if len(self._times) < 2:
            return None
        return max(self._times[-1][0] - self._times[0][0], 1e-9)


def finite(record: Record) -> bool:
    """Whether the step changed the weights: one whose loss or gradient is not finite is skipped."""
    return math.isfinite(record["loss"]) and math.isfinite(record.get("norm", 0.0))


def loss_text(loss: float) -> str:
    """2.345, 0.0123, 4.5e-07."""
    return f"{loss:.3g}" if abs(loss) < 0.1 else f"{loss:.3f}"


def duration(seconds: float) -> str:
    """45 s, 12 min, 3 h 05 min, 2 d 4 h."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def power_text(operations: float) -> str:
    """Operations a second: 431 TFLOP/s, 12.3 GFLOP/s."""
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G")):
        if operations >= size:
            return f"{operations / size:.3g} {unit}FLOP/s"
    return f"{operations / 1e6:.3g} MFLOP/s"
