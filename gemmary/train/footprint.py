"""What a run needs before it is started: memory a chip, seconds a step; and the best way to cut it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..config import Config
from .chips import Chip
from .split import Split, Work, splits
from .step_memory import Memory, memory
from .step_time import Time, operations, step_time

UTILISATION = (
    0.4  # of the peak; torchtitan reports 0.33 to 0.39 for FSDP on H100 (github.com/pytorch/torchtitan)
)
RESERVE = 0.08  # share of memory for driver, communication buffers and gaps between tensors


@dataclass(frozen=True)
class Footprint:
    """A plan on chips, and what it costs."""

    config: Config
    chip: Chip
    split: Split
    work: Work
    memory: Memory
    time: Time

    @property
    def spare(self) -> float:
        """Bytes that are left on a chip, after the reserve; negative: it does not fit."""
        return self.chip.memory * (1 - RESERVE) - self.memory.total

    @property
    def speed(self) -> float:
        """Tokens a second, on all chips."""
        return self.work.tokens(self.split) / self.time.total

    @property
    def utilisation(self) -> float:
        """Share of the peak that useful products take: those a second time, for memory, are none."""
        needed = operations(self.config, replace(self.work, recompute=False)) * self.speed
        return needed / (self.chip.peak * self.split.chips)


def footprint(
    config: Config, chip: Chip, split: Split, work: Work, utilisation: float = UTILISATION
) -> Footprint:
    """Memory and time of a plan. Text only: pictures come as features that a frozen tower made before."""
    time = step_time(config, chip, split, work, utilisation)
    return Footprint(config, chip, split, work, memory(config, split, work), time)


def best(
    config: Config, chip: Chip, chips: int, work: Work, tokens: int, utilisation: float = UTILISATION
) -> list[Footprint]:
    """For every split the fastest plan that fits (layers recomputed or not, so many rows a micro-batch), or
    the smallest where none does; the best first. A step has `tokens` tokens, or a row a chip if that is more.
    """
    found = [_of_split(config, chip, split, work, tokens, utilisation) for split in splits(chips)]
    return sorted(found, key=_worth)


def _of_split(
    config: Config, chip: Chip, split: Split, work: Work, tokens: int, utilisation: float
) -> Footprint:
    wanted = max(1, round(tokens / (work.row * split.replicas * split.shards)))  # rows a chip
    plans = [
        replace(work, rows=rows, parts=wanted // rows, recompute=again)
        for rows in (1, 2, 4, 8, 16)
        for again in (False, True)
        if wanted % rows == 0
    ]
    tried = (footprint(config, chip, split, plan, utilisation) for plan in plans)
    return min(tried, key=_worth)


def _worth(plan: Footprint) -> tuple[bool, float, float]:
    """Those that fit first, by seconds a token and then by memory; the others by what they lack."""
    fits = plan.spare >= 0
    return not fits, 1 / plan.speed if fits else -plan.spare, plan.memory.total
