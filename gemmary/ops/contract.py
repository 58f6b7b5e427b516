"""The seam between the model and the machine.

`model/` is written once over the table `Ops`; `reference`, `trainable` and `numba` each fill it. An array is
a NumPy array or a torch tensor: the model never looks inside one. This file knows no sizes and no device.

Shape legend of the house: T tokens in the step, S sequences, R rows that want logits, D model width,
N query heads, K key/value heads, H head dim, F feed-forward, V vocabulary, P pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..config import Rope

Array = Any
Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

PAGE = 64  # tokens a page; attention tiles are pages, so a tile border never depends on the step
GLOBAL, LOCAL = 0, 1  # the two kinds of page table


class Linear(Protocol):
    """A weight [out, in] as its maker keeps it: packed bytes, bias, low-rank addition. Opaque to the model.

    On the torch side it is a module that is called, so that hooks of FSDP2, LoRA and QAT fire.
    """


class Norm(Protocol):
    """RMSNorm of one weight: y = x * (mean(x^2) + eps)^-0.5 * gain, with gain = 1 + stored weight.

    With a bias it is a LayerNorm: y = (x - mean(x)) * (var(x) + eps)^-0.5 * gain + bias.
    """

    @property
    def gain(self) -> Array:
        """Multiplier [D] or [H], float32."""

    @property
    def bias(self) -> Array | None:
        """Added at the end [D], float32: None makes it an RMSNorm, anything else a LayerNorm."""

    @property
    def eps(self) -> float:
        """Added to the mean square."""


@dataclass(frozen=True)
class Attention:
    """What a layer may see: `window` keys, the query included (None: everything before).

    Heads are `head_dim` wide; scores are multiplied by `scale`.
    """

    window: int | None
    scale: float
    head_dim: int

    @property
    def kind(self) -> int:
        """Which page table of the step this layer reads."""
        return GLOBAL if self.window is None else LOCAL


@dataclass(frozen=True)
class LayerPages:
    """One layer's keys and values: keys [P, K, H, 64] and values [P, K, 64, H].

    Keys are stored transposed, so that 64 scores grow side by side and each sums over H in order. How the 64
    numbers of a row lie in its bytes is the table's affair (bf16 interleaves them).
    """

    keys: Array
    values: Array


@dataclass(frozen=True)
class Step:
    """One call of the forward pass: tokens of S sequences, packed. Host side, int32.

    ids, pos, seq, block: [T]. `block` is the number of the picture within this step, -1 for text; a
    picture never crosses a step. starts [S + 1] are the borders of the sequences in [0, T];
    past [S] counts the tokens that each had before. rows [R] are the tokens that want logits.
    soft [M, D] are picture features, spliced in order where block >= 0. pages [S, 2, n] maps page
    number (pos // 64) to page id for each kind, -1 where dropped; None in training and in the tower.
    """

    ids: Ints
    pos: Ints
    seq: Ints
    block: Ints
    starts: Ints
    past: Ints
    rows: Ints
    soft: Array | None = None
    pages: Ints | None = None

    @property
    def last_seen(self) -> Ints:
        """Position of the last key that each token may see [T]: its own, or the end of its picture."""
        last = self.pos.copy()
        for number in np.unique(self.block[self.block >= 0]):
            inside = self.block == number
            last[inside] = self.pos[inside].max()
        return last


def pack(
    ids: Sequence[Sequence[int]], past: Sequence[int] | None = None, rows: Sequence[int] | None = None
) -> Step:
    """A text step from new tokens per sequence. `rows` defaults to the last token of each."""
    counts = np.array([len(part) for part in ids], np.int32)
    before = np.zeros(len(ids), np.int32) if past is None else np.asarray(past, np.int32)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    flat = np.concatenate([np.asarray(part, np.int32) for part in ids])
    positions = np.concatenate(
        [np.arange(n, dtype=np.int32) + p for n, p in zip(counts, before, strict=True)]
    )
    return Step(
        ids=flat,
        pos=positions.astype(np.int32),
        seq=np.repeat(np.arange(len(ids), dtype=np.int32), counts),
        block=np.full(len(flat), -1, np.int32),
        starts=starts,
        past=before,
        rows=np.asarray(starts[1:] - 1 if rows is None else rows, np.int32),
    )


@dataclass(frozen=True)
class Full:
    """Every logit of a row: float32 [R, V]."""


@dataclass(frozen=True)
class Targets:
    """The logit of one given id a row, ids [R]. Answer: `Scored`."""

    ids: Ints


@dataclass(frozen=True)
class TopK:
    """The k largest logits of a row among `allowed` (None: all), and those of the ids `also`.

    allowed: bool [V], or [R, V] where it differs from row to row. Without `lse` a table may leave out log
    sum exp: it needs every logit, the candidates need few.
    """

    k: int
    allowed: npt.NDArray[np.bool_] | None = None
    also: Ints | None = None
    lse: bool = True

    def of(self, rows: slice | npt.NDArray[np.intp]) -> TopK:
        """The same question about some of the rows."""
        if self.allowed is None or self.allowed.ndim == 1:
            return self
        return replace(self, allowed=self.allowed[rows])


Want = Full | Targets | TopK


@dataclass(frozen=True)
class Scored:
    """Answer to `Targets`: logits [R] of the ids, lse [R] = log sum exp over V, best [R] = argmax."""

    logits: Floats
    lse: Floats
    best: Ints


@dataclass(frozen=True)
class Candidates:
    """Answer to `TopK`: ids and logits [R, k + len(also)], each row by falling logit, then rising id.

    Ids that are not allowed, and columns left over where an `also` id is among the k, have logit -inf.
    lse [R] is log sum exp over all V, whatever is allowed; it may be NaN where it was not asked for.
    """

    ids: Ints
    logits: Floats
    lse: Floats


Forward = Callable[[Any, Iterable[LayerPages | None]], Array]


class Ops(Protocol):
    """The op table. A staged step is what `stage` makes of a Step; only the same table reads it."""

    def stage(self, step: Step) -> Any:
        """Prepare masks and buffers of a step, once for all layers."""

    def run(self, forward: Forward, step: Step, kvs: Iterable[LayerPages | None]) -> Array:
        """forward(staged step, kvs). A table may record what it does and replay it for the next like step."""

    def embed(self, table: Any, step: Any, scale: float) -> Array:
        """Rows of the table times `scale` [T, D]; then picture features replace rows where block >= 0."""

    def project(self, x: Array, norm: Norm, linears: tuple[Any, ...]) -> tuple[Array, ...]:
        """norm(x) through each Linear: [T, D] -> one [T, out] each."""

    def rotate(
        self, q: Array, k: Array, q_norm: Norm, k_norm: Norm, step: Any, rope: Rope
    ) -> tuple[Array, Array]:
        """Per head RMSNorm over H, then half-split RoPE: [T, N*H], [T, K*H] -> the same shapes."""

    def attend(
        self, q: Array, k: Array, v: Array, kv: LayerPages | None, step: Any, attention: Attention
    ) -> Array:
        """Append k, v to the pages (kv None: use them as they are), then softmax(q k * scale) v: [T, N*H].

        A token sees key j of its own sequence iff j <= last_seen and |j - pos| < window. The window cuts
        pictures that are longer than itself on both sides, as in Google's code; none is at a real size.
        """

    def merge(self, x: Array, o: Array, linear: Any, post_norm: Norm | None) -> Array:
        """x + norm(o W^T): [T, D]; without a post_norm x + o W^T."""

    def gate(self, g: Array, u: Array) -> Array:
        """gelu_tanh(g) * u: [T, F]."""

    def gelu(self, x: Array) -> Array:
        """gelu_tanh(x): [T, F]. The tower's feed-forward has no gate."""

    def patchify(self, pixels: Floats, linear: Any, positions: Array, patch: int) -> Array:
        """Squares of `patch` pixels through a Linear, plus a row of `positions` [P, D] each.

        pixels float32 [n, 3, S, S] -> [n * P, D], P = (S // patch)^2, row by row. The Linear takes a square
        as [3, patch, patch].
        """

    def pool(self, x: Array, norm: Norm, grid: int, side: int) -> Array:
        """Mean of norm(x) over squares of patches: [n * grid^2, D] -> [n * side^2, D], row by row."""

    def select(self, x: Array, norm: Norm, step: Any) -> Array:
        """norm(x) of the rows that want logits: [R, D]."""

    def head(self, h: Array, table: Any, want: Want) -> Any:
        """h [R, D] against the tied table [V, D]: float32 [R, V], `Scored` or `Candidates`."""

    def pages(self, count: int, kv_heads: int, head_dim: int) -> LayerPages:
        """Storage of `count` pages for one layer."""

    def copy_page(self, store: LayerPages, source: int, target: int) -> None:
        """Copy one page of one layer."""
