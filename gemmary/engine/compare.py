"""What a number format costs: a converted model beside the float32 expansion of its source, on one text.

Both read the text in step, a few rows at a time, so that two tables of logits are in memory for those rows
only.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import PromptError
from ..model.pages import Sequence
from ..ops.contract import Floats, Full
from ..ops.numba.machine import prepare
from ..weights.assemble import packed_text
from ..weights.checkpoint import Checkpoint, open_checkpoint
from .load import read_tokenizer
from .memory import choose_context, machine_memory, pool_pages
from .runner import Runner
from .sampling import NotFiniteError
from .thread import EngineThread

ROWS = 32  # of logits at a time: 34 MB a model with Gemma's vocabulary
LEAST = 2  # tokens that a text must have
BYTES = 6  # a parameter: 4 in float32, and 2 at most as converted

Told = Callable[[int, int], None]  # called with tokens read, and tokens in all
Logs = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Of the float32 model (`before`) and the converted one (`after`): perplexity of the text's tokens.

    divergence: mean KL(float32 || converted) per token, in nats. agreement: share of tokens after which both
    find the same one likeliest. tokens: how many were read.
    """

    tokens: int
    before: float
    after: float
    divergence: float
    agreement: float


def comparable_ids(source: Path, text: str, tokens: int) -> list[int]:
    """<bos> and the first `tokens` tokens of `text`, looked at before anything is converted.

    PromptError: the text is too short, or too long for the model. MemoryBudgetError: the float32 weights do
    not fit into this machine.
    """
    checkpoint = open_checkpoint(source)
    tokenizer = read_tokenizer(checkpoint)
    start = [] if tokenizer.bos is None else [tokenizer.bos]
    enough = text[: tokens * tokenizer.longest]  # no token has more characters
    ids = [*start, *tokenizer.encode(enough)[:tokens]]
    if len(ids) - len(start) < LEAST:
        raise PromptError(f"a text to check with needs {LEAST} tokens or more: give a longer one")
    choose_context(checkpoint.config, BYTES * checkpoint.parameters, len(ids), machine_memory())
    return ids


def compare(
    source: Path, converted: Path, ids: list[int], told: Told = lambda done, total: None
) -> Comparison:
    """Let both models read `ids`, as from `comparable_ids`. NotFiniteError when one computes NaN."""
    before = open_checkpoint(source)
    # Only the numbers may differ: files of another kind imply another rounding of the embedding's scale.
    after = replace(open_checkpoint(converted), embed_scale=before.embed_scale)
    thread = EngineThread(prepare)
    try:
        truth = _Reader(thread, before, True, len(ids))
        other = _Reader(thread, after, False, len(ids))
        sums = np.zeros(4)
        for start in range(0, len(ids), ROWS):
            part = ids[start : start + ROWS]
            sums += _sums(truth.read(part), other.read(part), ids[start + 1 : start + ROWS + 1])
            told(start + len(part), len(ids))
    finally:
        thread.close()
    lost, kept, divergence, same = sums
    targets = len(ids) - 1
    return Comparison(
        len(ids), math.exp(lost / targets), math.exp(kept / targets), divergence / len(ids), same / len(ids)
    )


class _Reader:
    """A model that reads one text, part by part."""

    def __init__(self, thread: EngineThread, checkpoint: Checkpoint, expand: bool, length: int) -> None:
        config = checkpoint.config
        decoder = thread.run(lambda: packed_text(checkpoint, expand))
        self._thread, self._sequence = thread, Sequence()
        self._runner = thread.run(lambda: Runner(decoder, config, length, pool_pages(config, length, 0)))
        thread.run(lambda: self._runner.start([], self._sequence))

    def read(self, ids: list[int]) -> Floats:
        """Logits [len(ids), V] after each of these tokens, which follow those read before."""

        def step() -> Floats:
            states = self._runner.step(self._sequence, ids, range(len(ids)), threading.Event())
            logits: Floats = self._runner.head(states, Full())
            return logits

        return self._thread.run(step)


def _sums(truth: Floats, logits: Floats, targets: list[int]) -> Logs:
    """Over these rows: -log p(target) of both, KL, and how often the likeliest tokens are the same."""
    if not (np.isfinite(truth).all() and np.isfinite(logits).all()):
        raise NotFiniteError
    sums = np.zeros(4)
    vocab = min(truth.shape[1], logits.shape[1])  # a file may leave out rows that no token uses
    for row in range(len(truth)):
        p, q = _logs(truth[row, :vocab]), _logs(logits[row, :vocab])
        sums[2:] += float(np.exp(p) @ (p - q)), p.argmax() == q.argmax()
        if row < len(targets):
            sums[:2] -= p[targets[row]], q[targets[row]]
    return sums


def _logs(logits: Floats) -> Logs:
    """Log-probabilities float64 [V]."""
    wide = logits.astype(np.float64)
    wide -= wide.max()
    return np.asarray(wide - math.log(np.exp(wide).sum()))
