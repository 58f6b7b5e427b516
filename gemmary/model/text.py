"""The Gemma 3 decoder (technical report, section 2), written once over the op table.

`block` is the only copy of a layer in the project: training, prefill, decode and mixed batches run it. This
file knows no device, no dtype, no quantization and no optimizer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from ..config import Config, Rope
from ..ops.contract import Array, Attention, LayerPages, Ops, Step


def block(ops: Ops, x: Array, w: Any, kv: LayerPages | None, step: Any) -> Array:
    """One decoder layer: x [T, D] -> [T, D]. Post-norms come before the residual additions.

    `w` has the fields of `Layer`, as any side keeps them.
    """
    q, k, v = ops.project(x, w.attn_norm, (w.q, w.k, w.v))
    q, k = ops.rotate(q, k, w.q_norm, w.k_norm, step, w.rope)
    o = ops.attend(q, k, v, kv, step, w.attention)
    x = ops.merge(x, o, w.o, w.attn_post_norm)
    g, u = ops.project(x, w.ffn_norm, (w.gate, w.up))
    return ops.merge(x, ops.gate(g, u), w.down, w.ffn_post_norm)


def attention_of(config: Config, layer: int) -> Attention:
    """Window, scale and head width of a layer."""
    window = None if config.is_global(layer) else config.window
    return Attention(window=window, scale=config.query_scalar**-0.5, head_dim=config.head_dim)


@dataclass(frozen=True)
class Gain:
    """A norm's multiplier (1 + stored weight) and eps, as plain values; with a bias it is a LayerNorm."""

    gain: Array
    eps: float
    bias: Array | None = None


@dataclass(frozen=True)
class Layer:
    """One layer on the NumPy side. Linears are whatever the op table packs."""

    ops: Ops
    attn_norm: Gain
    q: Any
    k: Any
    v: Any
    q_norm: Gain
    k_norm: Gain
    o: Any
    attn_post_norm: Gain
    ffn_norm: Gain
    gate: Any
    up: Any
    down: Any
    ffn_post_norm: Gain
    rope: Rope
    attention: Attention

    def __call__(self, x: Array, kv: LayerPages | None, step: Any) -> Array:
        """`block` with these weights."""
        return block(self.ops, x, self, kv, step)


class Decoder(Protocol):
    """What `hidden` needs; the NumPy `Text` and the torch module both have it."""

    @property
    def ops(self) -> Any:
        """The op table."""

    @property
    def table(self) -> Any:
        """Embedding and head."""

    @property
    def layers(self) -> Any:
        """The layers in order: callables (x, kv, step) -> x."""

    @property
    def norm(self) -> Any:
        """The last norm."""

    @property
    def embed_scale(self) -> float:
        """sqrt(D), rounded as the checkpoint asks for."""


@dataclass(frozen=True)
class Text:
    """A decoder on the NumPy side. `table` is both embedding and head (tied)."""

    config: Config
    ops: Ops
    table: Any
    layers: tuple[Layer, ...]
    norm: Gain
    embed_scale: float


def hidden(decoder: Decoder, step: Step, kvs: Iterable[LayerPages | None]) -> Array:
    """Final hidden states [R, D] of the rows that want logits. `kvs` has one entry a layer."""

    def forward(staged: Any, stores: Iterable[LayerPages | None]) -> Array:
        x = decoder.ops.embed(decoder.table, staged, decoder.embed_scale)
        for layer, kv in zip(decoder.layers, stores, strict=True):
            x = layer(x, kv, staged)
        return decoder.ops.select(x, decoder.norm, staged)

    return decoder.ops.run(forward, step, kvs)
