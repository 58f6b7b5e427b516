"""How much memory a model takes, computed before anything is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from ..config import Config
from ..errors import MemoryBudgetError, PromptError
from ..model.pages import page_bytes, pages_needed
from ..ops.contract import GLOBAL, LOCAL
from .eyes import feature_bytes
from .runner import MAX_CHUNK

_STEP = 1024  # a context that has to shrink stays at least this long
_POOL_BYTES = 1 << 30  # pages beyond one whole text: other streams, and snapshots of earlier texts
_KINDS = (GLOBAL, LOCAL)
_SCALE = 4  # bytes, of a token's key or value of one head, in int8

Cache = Literal["f16", "bf16", "f32", "int8"]
# Formats of keys and values, and their names on the CPU engine.
CACHES = {"f16": "F16", "bf16": "BF16", "f32": "F32", "int8": "I8"}


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


def estimate_memory(
    config: Config, weights: int, context: int, batch: int = 1, number: float = 2
) -> Estimate:
    """Bytes for `batch` texts of `context` tokens; `weights` is the size of the packed tensors.

    number: bytes of each number of a key or value, as `number_bytes` says.
    """
    longest = longest_step(config)
    pages = sum(
        pages_needed(config, kind, context, longest) * page_bytes(config, kind, number) for kind in _KINDS
    )
    widest = max(config.ffn, config.heads * config.head_dim, config.width)
    scratch = 4 * (longest * 6 * widest + 2 * config.vocab + 2 * context)
    if config.vision is not None:
        eyes = config.vision
        scratch += 4 * eyes.patches * (2 * eyes.ffn + 6 * eyes.width) + feature_bytes(config)
    return Estimate(weights, batch * pages, scratch)


def longest_step(config: Config) -> int:
    """The most tokens of a step: a chunk, and the rest of a picture that must not be cut."""
    return MAX_CHUNK + (config.vision.tokens if config.vision else 0)


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


def choose_context(config: Config, weights: int, wanted: int | None, memory: int, number: float = 2) -> int:
    """The context to load with: the wanted one, or the largest that fits into `memory` bytes.

    PromptError when the model has no such context; MemoryBudgetError when the weights, or the wanted context,
    do not fit.
    """
    check_context(config, wanted)
    context = config.context if wanted is None else wanted

    def needs(tokens: int) -> Estimate:
        return estimate_memory(config, weights, tokens, number=number)

    while wanted is None and context > _STEP and needs(context).total > memory:
        context = max(_STEP, context // 2)
    needed = needs(context)
    if needed.total > memory:
        raise MemoryBudgetError(
            f"the weights ({needed.weights / 1e9:.1f} GB) and a context of {context:,} tokens "
            f"({(needed.pages + needed.scratch) / 1e9:.1f} GB) need more than the {memory / 1e9:.1f} GB "
            "there are for them: take a smaller context, a 4-bit file or a smaller model"
        )
    return context


def number_bytes(config: Config, cache: str) -> float:
    """Bytes of a number of a key or value, with its share of a scale."""
    if cache == "int8":
        return 1 + _SCALE / config.head_dim
    return 4 if cache == "f32" else 2


def check_cache(cache: object) -> None:
    """PromptError unless it is None or one of `CACHES`."""
    if cache is not None and not (isinstance(cache, str) and cache in CACHES):
        raise PromptError(f'cache must be "f16", "bf16", "f32" or "int8", not {cache!r}')


def check_context(config: Config, wanted: int | None) -> None:
    """PromptError when a model has no context of `wanted` tokens."""
    if wanted is not None and wanted > config.context:
        raise PromptError(
            f"this model reads at most {config.context:,} tokens: ask for no larger context than that"
        )


def pool_pages(config: Config, context: int, memory: int, number: float = 2) -> tuple[int, int]:
    """Pages (global, local) of an engine that has `memory` bytes for them.

    Room for one text of `context` tokens always, and for more streams and snapshots up to a gigabyte.
    """
    one = estimate_memory(config, 0, context, number=number).pages
    longest = longest_step(config)
    texts = max(1.0, min(memory, _POOL_BYTES) / one)
    return (
        int(texts * pages_needed(config, GLOBAL, context, longest)),
        int(texts * pages_needed(config, LOCAL, context, longest)),
    )
