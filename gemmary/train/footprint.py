"""What a training run needs, before it is started: memory a chip, and seconds a step. Arithmetic only, no torch.

Memory counts the tensors that the trainer makes (objective.py, loss.py, sharded.py), at the worst moment of a step.
A test holds it against what torch really allocates. Time is a bound from rates: matrix products at a stated
share of the chip's peak, and traffic over its links, the one behind the other.

Letters: D width, A width of the queries, C of the keys, F of the feed-forward, V vocabulary, T tokens that a chip
has in a micro-batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..config import Config
from .chips import Chip

FLOAT, LOW = 4, 2  # bytes of float32, bfloat16
CHUNK, LOGITS, BLOCK = 512, 1 << 26, 1 << 24  # as loss.py cuts its work
UTILISATION = 0.4  # share of the peak that FSDP training of such models reaches (torchtitan reports 0.33 to 0.39)
LINKS = 0.8  # share of a link's bandwidth that a collective reaches
RESERVE = 0.08  # share of memory for driver, communication buffers and gaps between tensors


@dataclass(frozen=True)
class Split:
    """Chips = replicas x shards x sequence. Weights are cut over shards x sequence, rows of text over `sequence`.

    `gemmary train` itself does not cut rows: its `sequence` is 1.
    """

    replicas: int = 1
    shards: int = 1
    sequence: int = 1

    @property
    def chips(self) -> int:
        """All of them."""
        return self.replicas * self.pieces

    @property
    def pieces(self) -> int:
        """Into how many pieces weights, gradients and optimizer states are cut."""
        return self.shards * self.sequence


@dataclass(frozen=True)
class Work:
    """A step: `parts` micro-batches of `rows` rows of `row` tokens, for each data shard of each replica.

    The switches are those of `loop.Plan`; `dense`: attention reads a mask of numbers, as it does on a CPU.
    """

    row: int
    rows: int = 1
    parts: int = 1
    low: bool = True
    recompute: bool = True
    muon: bool = True
    ema: bool = False
    dense: bool = False

    def tokens(self, split: Split) -> int:
        """Tokens of a step, on all chips."""
        return self.row * self.rows * self.parts * split.replicas * split.shards


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


@dataclass(frozen=True)
class Time:
    """Seconds a step: `compute`, `shards` (gathering weights, summing gradients), `replicas` (summing those of
    replicas), `sequence` (keys and values of other chips), `update`; `total` after overlapping.
    """

    compute: float
    shards: float
    replicas: float
    sequence: float
    update: float
    total: float


@dataclass(frozen=True)
class Footprint:
    """A plan on chips, and what it costs. `spare`: bytes left on a chip after the reserve; negative: no fit."""

    config: Config
    chip: Chip
    split: Split
    work: Work
    memory: Memory
    time: Time

    @property
    def spare(self) -> float:
        """Memory of the chip, less reserve, less need."""
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
    time = _time(config, chip, split, work, utilisation)
    return Footprint(config, chip, split, work, memory(config, split, work), time)


def _norms(config: Config) -> int:
    return config.layers * (4 * config.width + 2 * config.head_dim) + config.width


def _matrices(config: Config) -> int:
    """Numbers in the layers' matrices."""
    return config.body_parameters - _norms(config)


def _text(config: Config) -> int:
    return config.embedding_parameters + config.body_parameters


# --- memory


def memory(config: Config, split: Split, work: Work) -> Memory:
    """The worst of: loss, last layer's backward pass, end of the backward pass, update."""
    return max(_moments(config, split, work), key=lambda moment: moment.total)


def _moments(config: Config, split: Split, work: Work) -> Iterator[Memory]:
    table, layer = FLOAT * config.embedding_parameters, config.body_parameters / config.layers
    size = LOW if work.low else FLOAT
    tokens = work.row * work.rows / split.sequence
    share = 1 / split.pieces
    whole, of_layer, summed = 0.0, 0.0, 0.0
    if split.pieces > 1:  # the root, two layers (one is fetched ahead), a layer's gradients and what is summed
        whole, of_layer, summed = float(table), size * layer, (size + FLOAT) * layer
    casts = LOW * _matrices(config) if work.low and split.pieces == 1 else 0
    base = {
        "weights": FLOAT * _text(config) * share,
        "optimizer": _optimizer(config, work) * share,
        "average": FLOAT * _text(config) * share * work.ema,
    }
    grads = FLOAT * _text(config) * share
    inner = tokens * _of_layer(config, work)
    kept = (
        config.layers * (tokens * FLOAT * config.width if work.recompute else inner) + _last(config, tokens)
    )
    before = grads if work.parts > 1 else 0.0
    table_low = LOW * config.embedding_parameters if work.low else 0
    copies = 0 if work.recompute else casts
    chunk = _chunk(config, work, tokens)
    rest = {"update": 0.0, "gradients": before}
    yield Memory(
        **base, **rest, gathered=whole + 3 * of_layer + casts, activations=kept, loss=table + table_low + chunk
    )
    backward = inner if work.recompute else tokens * 4 * size * config.ffn
    last = LOW * _matrices(config) / config.layers if work.recompute and casts else copies
    yield Memory(
        **base, **rest, gathered=whole + 2 * of_layer + summed + last, activations=kept + backward, loss=table
    )
    rest["gradients"] = grads
    ends = table if split.pieces > 1 else 0  # a copy, to be summed
    yield Memory(**base, **rest, gathered=whole + ends, activations=tokens * FLOAT * config.width, loss=table)
    rest["update"] = max(table * share, 12 * config.width * config.ffn * work.muon)
    yield Memory(**base, **rest, gathered=0, activations=0, loss=0)


def _optimizer(config: Config, work: Work) -> float:
    """Muon keeps one number for each of a matrix, AdamW two."""
    ones = _matrices(config) if work.muon else 0
    return FLOAT * (2 * _text(config) - ones)


def _of_layer(config: Config, work: Work) -> float:
    """Bytes a token that the backward pass of a layer needs: its input, and what it makes of it.

    float32 are the inputs of the four norms of the stream and their results, and those of the norms of queries
    and keys; in the dtype of multiplication are the inputs of the matrices, copied for each of them if that
    is bfloat16, and what attention and the gate keep.
    """
    size = LOW if work.low else FLOAT
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    copies = 5 if work.low else 2
    stream = config.width * (8 * FLOAT + copies * size)
    attention = (queries + keys) * (2 * FLOAT + 2 * size) + 8 * config.head_dim + FLOAT * config.heads
    means = FLOAT * (4 + config.heads + config.kv_heads)
    mask = work.row * size if work.dense else 0
    return stream + attention + means + mask + 4 * size * config.ffn


def _last(config: Config, tokens: float) -> float:
    """The last norm, the hidden states, and their gradients."""
    return tokens * config.width * 4 * FLOAT


def _chunk(config: Config, work: Work, tokens: float) -> float:
    """A chunk's logits twice (one is what logsumexp makes), or its slopes with a block of the table's gradient."""
    chunk = min(CHUNK, LOGITS // config.vocab, tokens)
    block = min(config.embedding_parameters, BLOCK)
    size = LOW if work.low else FLOAT
    product = size * chunk * config.vocab + block * (FLOAT + (LOW if work.low else 0))
    return max(2 * FLOAT * chunk * config.vocab, product)


# --- time


def operations(config: Config, work: Work) -> float:
    """Floating-point operations a token: 6 a weight that multiplies, attention within windows, and again."""
    again = 2 * _matrices(config) if work.recompute else 0
    seen = sum(_seen(config, layer, work.row) for layer in range(config.layers))
    products = 4 * config.heads * config.head_dim * seen  # scores, and values by weights
    return 6 * (_matrices(config) + config.embedding_parameters) + again + products * (4 if work.recompute else 3)


def _seen(config: Config, layer: int, row: int) -> float:
    """Keys that a token of a row sees, on average."""
    window = row if config.is_global(layer) else min(row, config.window)
    return window - window * (window - 1) / (2 * row)


def _time(config: Config, chip: Chip, split: Split, work: Work, utilisation: float) -> Time:
    rate = chip.peak * utilisation
    tokens = work.row * work.rows / split.sequence
    compute = operations(config, work) * tokens / rate
    shards, root = _gathering(config, chip, split, work)
    sequence = _exchange(config, chip, split, work)
    replicas = _summing(config, chip, split)
    update = _orthogonalising(config) / split.pieces / rate if work.muon else 0.0
    hidden = max(0.0, replicas - compute * 2 / 3)  # behind the last backward pass
    total = work.parts * max(compute, shards + sequence) + root + hidden + update
    parts = work.parts
    return Time(compute * parts, shards * parts, replicas, sequence * parts, update, total)


def _gathering(config: Config, chip: Chip, split: Split, work: Work) -> tuple[float, float]:
    """Seconds a micro-batch to gather layers twice and the table once, and to sum gradients; of the table alone."""
    size = LOW if work.low else FLOAT
    table = FLOAT * config.embedding_parameters
    total = 2 * size * config.body_parameters + FLOAT * _text(config) + table
    return _collective(total, split.pieces, chip), _collective(table, split.pieces, chip)


def _collective(size: float, chips: int, chip: Chip) -> float:
    """Seconds until each of `chips` has `size` bytes of which each had a part, or until their sum is shared out.

    An island takes what it lacks over all its network cards, and passes it round inside.
    """
    islands = -(-chips // chip.island)
    inside = size * (chips - 1) / chips / chip.link
    between = size * (islands - 1) / islands / (min(chips, chip.island) * chip.network)
    return max(inside, between) / LINKS


def _summing(config: Config, chip: Chip, split: Split) -> float:
    """Seconds a step to sum the gradients of replicas."""
    size = 2 * FLOAT * _text(config) / split.pieces * (split.replicas - 1) / split.replicas
    return size / (chip.link if split.chips <= chip.island else chip.network) / LINKS


def _exchange(config: Config, chip: Chip, split: Split, work: Work) -> float:
    """Seconds a micro-batch for keys and values that other chips have of the same row, and for their gradients."""
    if split.sequence == 1:
        return 0.0
    size = 2 * config.kv_heads * config.head_dim * (LOW if work.low else FLOAT) * work.rows
    own = work.row / split.sequence
    keys = sum(
        work.row - own if config.is_global(layer) else min(config.window, work.row - own)
        for layer in range(config.layers)
    )
    return (4 if work.recompute else 3) * size * keys / chip.link / LINKS


def _orthogonalising(config: Config) -> float:
    """Operations of Muon's five steps over all matrices."""
    width, queries, keys = config.width, config.heads * config.head_dim, config.kv_heads * config.head_dim
    shapes = [(width, queries)] * 2 + [(width, keys)] * 2 + [(width, config.ffn)] * 3
    return config.layers * sum(5 * (4 * min(s) ** 2 * max(s) + 2 * min(s) ** 3) for s in shapes)


# --- choice


def splits(chips: int) -> Iterator[Split]:
    """Every way to make replicas of shards; rows of text stay whole."""
    return (Split(chips // shards, shards) for shards in range(1, chips + 1) if chips % shards == 0)


def best(
    config: Config, chip: Chip, chips: int, work: Work, tokens: int, utilisation: float = UTILISATION
) -> list[Footprint]:
    """For every split the fastest plan that fits (layers recomputed or not, rows a micro-batch), or the smallest
    where none does; the best first. A step has `tokens` tokens, or a row a chip where that is more.
    """
    found = [_of_split(config, chip, split, work, tokens, utilisation) for split in splits(chips)]
    return sorted(found, key=_worth)


def _of_split(
    config: Config, chip: Chip, split: Split, work: Work, tokens: int, utilisation: float
) -> Footprint:
    wanted = max(1, round(tokens / (work.row * split.replicas * split.shards)))  # rows a chip
    tried = [
        footprint(config, chip, split, replace(work, rows=rows, parts=wanted // rows, recompute=again), utilisation)
        for rows in (1, 2, 4, 8, 16)
        for again in (False, True)
        if wanted % rows == 0
    ]
    return min(tried, key=_worth)


def _worth(plan: Footprint) -> tuple[bool, float, float]:
    """Those that fit first, by seconds a token and then by memory; the others by what they lack."""
    fits = plan.spare >= 0
    return not fits, 1 / plan.speed if fits else -plan.spare, plan.memory.total
