"""How much memory a model takes, computed before anything is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..config import Config
from ..errors import MemoryBudgetError
from ..model.pages import page_bytes, pages_needed
from ..ops.contract import GLOBAL, LOCAL
from .runner import MAX_CHUNK

_STEP = 1024  # a context that has to shrink is a multiple of this


@dataclass(frozen=True)
class Estimate:
    """Bytes of the packed weights, of the pages of `batch` full texts, and of scratch during a step."""

    weights: int
    pages: int
    scratch: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.pages + self.scratch


def estimate_memory(config: Config, weights: int, context: int, batch: int = 1) -> Estimate:
    """Bytes for `batch` texts of `context` tokens; `weights` is the size of the packed tensors."""
    tokens = min(context, config.context)
    pages = sum(
        pages_needed(config, kind, tokens, MAX_CHUNK) * page_bytes(config, kind) for kind in (GLOBAL, LOCAL)
    )
    widest = max(config.ffn, config.heads * config.head_dim, config.width)
    scratch = 4 * (MAX_CHUNK * 6 * widest + 2 * config.vocab + 2 * tokens)
    return Estimate(weights, batch * pages, scratch)


def machine_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path, encoding="ascii") as file:
                limit = file.read().strip()
        except OSError:
            continue
        if limit.isdigit():
            total = min(total, int(limit))
    return total


def choose_context(config: Config, weights: int, wanted: int | None, memory: int) -> int:
    """The context to load with: the wanted one, or the largest that fits into `memory` bytes.

    MemoryBudgetError when the weights, or the wanted context, do not fit.
    """
    if wanted is not None:
        _check(estimate_memory(config, weights, wanted), memory, f"a context of {wanted:,} tokens")
        return min(wanted, config.context)
    context = config.context
    while context > _STEP and estimate_memory(config, weights, context).total > memory:
        context = max(_STEP, context // 2)
    _check(estimate_memory(config, weights, context), memory, f"a context of {context:,} tokens")
    return context


def _check(needed: Estimate, memory: int, what: str) -> None:
    if needed.total > memory:
        raise MemoryBudgetError(
            f"the weights ({needed.weights / 1e9:.1f} GB) and {what} ({needed.pages / 1e9:.1f} GB) need more than "
            f"the {memory / 1e9:.1f} GB of this machine: take a smaller model or a 4-bit file, or a smaller context"
        )
