"""Spikes of the loss: how they are seen, and where a run goes on after one.

PaLM (arXiv 2204.02311, section 5.1) went back to a checkpoint about 100 steps before a spike and left out the
data seen before and during it. The loss did not spike again: neither data nor weights were bad alone.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Any

SIGMA = 1.4826  # standard deviation / median absolute deviation of normal numbers


@dataclass(frozen=True)
class Spikes:
    """A loss is a spike if it is more than `limit` deviations above the median of the last `window` ones.

    A deviation is 1.4826 x the median absolute deviation: bad losses among the last do not widen it, as they
    would a standard deviation (Rousseeuw and Croux, 1993). It is at least 1 % of the median. A run goes back
    to a checkpoint at least `back` steps before the spike, since its cause comes before it shows, and at most
    `times` times without `window` quiet steps in between. As many checkpoints are kept as that needs.
    """

    window: int = 64
    limit: float = 10.0
    back: int = 10
    times: int = 3

    def __post_init__(self) -> None:
        if self.window < 2 or not self.limit > 0 or self.back < 0 or self.times < 1:
            raise ValueError("window must be 2 or more, limit above 0, back 0 or more, times 1 or more")

    def kept(self, every: int) -> int:
        """Checkpoints that must be kept, one every so many steps, to find one `back` steps ago."""
        return math.ceil(self.back / every) + 1


class SpikeGuard:
    """The recent losses, and what stepping back has changed. Without `how` it sees nothing.

    `leap`: batches left out so far; step n trains on batch n + leap. All of it is in every checkpoint.
    """

    def __init__(self, how: Spikes | None) -> None:
        self.how = how
        self.leap = 0
        self._recent: deque[float] = deque(maxlen=how.window if how else 0)
        self._times, self._quiet_from = 0, 0
        self._history: list[tuple[int, str]] = []  # where the run went back to, and why

    def fault(self, loss: float) -> str | None:
        """What is wrong with a loss, in words; None if nothing is. Only good ones are remembered."""
        if self.how is None or not math.isfinite(loss):
            return None
        if len(self._recent) == self.how.window:
            usual = median(self._recent)
            deviation = max(SIGMA * median(abs(x - usual) for x in self._recent), 0.01 * abs(usual))
            if loss > usual + self.how.limit * deviation:
                return f"the loss jumped to {loss:.4g}, where {usual:.4g} +- {deviation:.2g} was usual"
        self._recent.append(loss)
        return None

    def target(self, step: int, every: int) -> int | None:
        """The newest step of a checkpoint that is early enough for trouble at `step`; None to give up."""
        if self.how is None or (step < self._quiet_from and self._times >= self.how.times):
            return None
        return max(0, step - self.how.back) // every * every

    def state(self) -> dict[str, Any]:
        """All that moves, as JSON; nothing without `how`."""
        if self.how is None:
            return {}
        held = {"leap": self.leap, "times": self._times, "quiet_from": self._quiet_from}
        lists = {"recent": list(self._recent), "history": [list(event) for event in self._history]}
        return {"spikes": {**held, **lists}}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`, that of a checkpoint."""
        if self.how is not None:
            held = state["spikes"]
            self.leap, self._times, self._quiet_from = held["leap"], held["times"], held["quiet_from"]
            self._history = [(to, said) for to, said in held["history"]]
            self._remember(held)

    def step_back(self, step: int, to: int, state: dict[str, Any], why: str) -> list[str]:
        """Go on from the checkpoint of step `to`, whose state is given, behind the data of the bad `step`.

        Gives what the log must say at the next step: this, and what it said after `to` and now forgets.
        """
        if self.how is None:
            raise ValueError("there is no plan for stepping back: set Plan.spikes")
        self._times = 1 if step >= self._quiet_from else self._times + 1
        self._quiet_from = step + self.how.window
        left_out = step + 1 - to
        self.leap += left_out
        self._remember(state["spikes"])
        self._history.append((to, f"{why}; going on from step {to} without the data of {left_out} steps"))
        return [said for past, said in self._history if past >= to]

    def _remember(self, held: dict[str, Any]) -> None:
        self._recent.clear()
        self._recent.extend(held["recent"])
