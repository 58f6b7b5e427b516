"""Memory of a chip in training, by arithmetic alone: the tensors that the trainer makes, at the worst moment.

Tests hold it against what torch allocates. It follows objective.py, loss.py, optimizer.py and sharded.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..config import Config
from ..ops.intervals import SCORES
from .split import FLOAT, LOW, Split, Work, matrices, numbers

CHUNK, LOGITS, BLOCK = 512, 1 << 26, 1 << 24  # as loss.py cuts its work


@dataclass(frozen=True)
class Memory:
    """Bytes a chip at the worst moment of a step. `weights` are float32, what optimizers see.

    `gathered`: layers and table made whole, their gradients before they are summed, bfloat16 copies.
    `activations`: what the backward pass needs. `loss`: gradient of the table, a chunk of logits. `update`:
    what the optimizer needs beside; it counts only where that moment is the worst.
    """

    weights: float
    optimizer: float
    average: float
    gradients: float
    gathered: float
    activations: float
    loss: float
    update: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(vars(self).values())


def memory(config: Config, split: Split, work: Work) -> Memory:
    """The worst of: loss, backward pass of the last layer and of the first, its end, update."""
    return max(_moments(config, split, work), key=lambda moment: moment.total)


def _moments(config: Config, split: Split, work: Work) -> Iterator[Memory]:
    table, layer = FLOAT * config.embedding_parameters, config.body_parameters / config.layers
    size = work.size
    tokens = work.row * work.rows / split.sequence
    share = 1 / split.pieces
    whole, of_layer, summed = 0.0, 0.0, 0.0
    if split.pieces > 1:  # root; layer; its gradients, and their copy to be summed
        whole, of_layer, summed = float(table), size * layer, (size + FLOAT) * layer
    casts = LOW * matrices(config) if work.low and split.pieces == 1 else 0
    base = {
        "weights": FLOAT * numbers(config) * share,
        "optimizer": _optimizer(config, work) * share,
        "average": FLOAT * numbers(config) * share * work.ema,
    }
    grads = FLOAT * numbers(config) * share
    inner = tokens * _of_layer(config, work)
    kept = config.layers * (tokens * FLOAT * config.width if work.recompute else inner) + _last(
        config, tokens
    )
    before = grads if work.parts > 1 else 0.0
    table_low = LOW * config.embedding_parameters if work.low else 0
    copies = 0 if work.recompute else casts
    chunk = _chunk(config, work, tokens)
    rest = {"update": 0.0, "gradients": before}
    yield Memory(
        **base,
        **rest,
        gathered=whole + 3 * of_layer + casts,
        activations=kept,
        loss=table + table_low + chunk,
    )
    backward = inner if work.recompute else tokens * 4 * size * config.ffn
    last = LOW * matrices(config) / config.layers if work.recompute and casts else copies
    gathered = whole + 2 * of_layer + summed + last
    yield Memory(**base, **rest, gathered=gathered, activations=kept + backward, loss=table)
    stream = tokens * FLOAT * config.width  # a layer's input, or its gradient
    rest["gradients"] = max(before, FLOAT * config.body_parameters * share * (1 - 1 / config.layers))
    yield Memory(**base, **rest, gathered=gathered, activations=2 * stream + inner, loss=table)
    rest["gradients"] = grads
    ends = table if split.pieces > 1 else 0  # a copy, to be summed
    yield Memory(**base, **rest, gathered=whole + ends, activations=stream, loss=table)
    rest["update"] = max(table * share, 12 * config.width * config.ffn * work.muon)
    yield Memory(**base, **rest, gathered=0, activations=0, loss=0)


def _optimizer(config: Config, work: Work) -> float:
    """Muon keeps one number for each of a matrix, AdamW two."""
    ones = matrices(config) if work.muon else 0
    return FLOAT * (2 * numbers(config) - ones)


def _of_layer(config: Config, work: Work) -> float:
    """Bytes a token that the backward pass of a layer needs: its input, and what it makes of it.

    float32 are the inputs of the four norms of the stream and their results, and those of the norms of
    queries and keys; in the dtype of multiplication are the inputs of the matrices, copied for each of them
    if that is bfloat16, and what attention and the gate keep.
    """
    size = work.size
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    copies = 5 if work.low else 2
    stream = config.width * (8 * FLOAT + copies * size)
    attention = (queries + keys) * (2 * FLOAT + 2 * size) + 8 * config.head_dim + FLOAT * config.heads
    means = FLOAT * (4 + config.heads + config.kv_heads)
    return stream + attention + means + _scores(config, work) + 4 * size * config.ffn


def _scores(config: Config, work: Work) -> float:
    """Bytes a token that dense attention keeps, as the mean of a layer: its mask, or the scores' softmax.

    See ops/banded.py: few scores are kept, in float32 and in the dtype of multiplication.
    """
    if not work.dense:
        return 0.0
    near = 2 * config.window if work.row % config.window == 0 and work.row > 2 * config.window else work.row
    local = config.layers - len(config.global_layers or ())
    kept = 0.0
    for layers, keys in ((local, near), (config.layers - local, work.row)):
        few = work.rows * work.row * config.heads * keys <= SCORES
        numbers = config.heads * (FLOAT + (work.size if work.low else 0)) if few else work.size
        kept += layers * keys * numbers / config.layers
    return kept


def _last(config: Config, tokens: float) -> float:
    """The last norm, the hidden states, and their gradients."""
    return tokens * config.width * 4 * FLOAT


def _chunk(config: Config, work: Work, tokens: float) -> float:
    """A chunk's logits, in both dtypes; or its slopes and a block of the table's gradient."""
    chunk = min(CHUNK, LOGITS // config.vocab, tokens)
    block = min(config.embedding_parameters, BLOCK)
    low = LOW if work.low else 0
    product = work.size * chunk * config.vocab + block * (FLOAT + low)
    return max((FLOAT + low) * chunk * config.vocab, product)
