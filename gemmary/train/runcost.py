"""What a run will take, before it begins: parameters, tokens, steps, memory, disk."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..config import Config
from .data.rows import PackedShards
from .loop import Plan
from .loss import CHUNK, LOGITS
from .runplan import RunPlan
from .sampling import Distillation

BYTES_A_TOKEN = 4.0  # of text, about, where nobody has tokenised it yet
# Bytes that a layer keeps of a token for the backward pass, for each number of its width, its attention and
# its feed-forward; and what a process has besides. Fitted to peaks of 2 to 25 M parameters on a CPU (10 %).
WIDTH, ATTENTION, FFN, PROCESS = 40, 10, 14, 420 << 20


@dataclass(frozen=True)
class Cost:
    """Of a run. tokens: of the data; exact: counted, not guessed from bytes.

    memory: bytes at the peak; fixed: those of weights, gradients and the optimizer alone. disk: bytes of
    checkpoints and of the files at the end.
    """

    parameters: int
    table: int
    tokens: int
    exact: bool
    step_tokens: int
    steps: int
    memory: int
    fixed: int
    disk: int

    @property
    def epochs(self) -> float:
        """How often the data is seen."""
        return self.steps * self.step_tokens / max(1, self.tokens)


def run_cost(
    plan: RunPlan, config: Config, teacher: Config | None, data: PackedShards | int, on_cpu: bool
) -> Cost:
    """data: rows that are there, or the bytes of texts that are not prepared yet."""
    train = plan.train
    step_tokens = train.rows * train.parts * plan.row
    if isinstance(data, PackedShards):
        tokens = data.tokens
        steps = steps_of(plan, len(data))
    else:
        tokens = round(data / BYTES_A_TOKEN)
        steps = train.steps or math.ceil((plan.epochs or 0) * tokens / step_tokens)
    fixed = _fixed(config, train, on_cpu)
    side = min(train.workers, train.parts) if on_cpu else 1
    memory = fixed + PROCESS + side * _micro_batch(config, train, plan.row * train.rows)
    if teacher is not None:
        memory += 4 * teacher.parameters + _logits(teacher.vocab, train.distill)
    saved = (8 if train.ema else 4) * config.parameters + _optimizer(config, train)
    return Cost(
        config.parameters, config.embedding_parameters, tokens, isinstance(data, PackedShards), step_tokens,
        steps, memory, fixed, (train.keep + 1) * saved + 4 * config.parameters,
    )  # fmt: skip


def steps_of(plan: RunPlan, rows: int) -> int:
    """The steps of a plan over so many rows of data."""
    if plan.train.steps or plan.epochs is None:
        return plan.train.steps
    return math.ceil(plan.epochs * rows / (plan.train.rows * plan.train.parts))


def _optimizer(config: Config, train: Plan) -> int:
    """One number a parameter of Muon's, two of AdamW's."""
    return (4 if train.learning.muon else 8) * config.body_parameters + 8 * config.embedding_parameters


def _fixed(config: Config, train: Plan, on_cpu: bool) -> int:
    """Weights and their average, the optimizer's state, gradients; on a CPU of all micro-batches at once."""
    copies = (2 if train.ema else 1) + (train.parts + 1 if on_cpu else 2)
    return 4 * copies * config.parameters + _optimizer(config, train)


def _micro_batch(config: Config, train: Plan, tokens: int) -> int:
    attention = (config.heads + 2 * config.kv_heads) * config.head_dim
    layer = WIDTH * config.width + ATTENTION * attention + FFN * config.ffn
    copies = 2 * config.parameters if train.low else 0
    kept = layer + config.layers * 4 * config.width if train.recompute else config.layers * layer
    return tokens * kept + copies + _logits(config.vocab, None)


def _logits(vocab: int, how: Distillation | None) -> int:
    """The logits that exist at a time, and some of them twice; a draw needs float64, too."""
    rows = max(1, min(CHUNK, LOGITS // vocab))
    return round((1.3 if how is None else 3.0) * 4 * rows * vocab)
