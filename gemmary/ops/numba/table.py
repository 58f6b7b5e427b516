"""The op table of the CPU engine; see `contract.Ops` for shapes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...config import Rope
from ..candidates import candidates
from ..contract import (
    PAGE,
    Attention,
    Candidates,
    Floats,
    Full,
    Ints,
    LayerPages,
    Norm,
    Scored,
    Step,
    Targets,
    TopK,
    Want,
)
from .activation import Quantized, quantize
from .attention import append, attend, attend_items
from .gate import gate
from .linear import PackedLinear, fetch, multiply
from .machine import WORTH_A_LAUNCH
from .norm import add_normalised, normalise
from .rotary import angles, rotate

_HEAD_ROWS = 8  # rows whose full logits exist at once when only candidates or scores were asked for


@dataclass
class Staged:
    """A step and what its layers share: the end of each token's sight, and rotary angles by base."""

    step: Step
    last: Ints
    angles: dict[tuple[Rope, int], tuple[Floats, Floats]] = field(default_factory=dict)


class NumbaOps:
    """Packed weights, integer dot products, paged attention, over NumPy arrays."""

    def stage(self, step: Step) -> Staged:
        return Staged(step, step.last_seen)

    def embed(self, table: PackedLinear, step: Staged, scale: float) -> Floats:
        x = fetch(table, step.step.ids) * np.float32(scale)
        if step.step.soft is not None:
            x[step.step.block >= 0] = step.step.soft
        return x

    def project(self, x: Floats, norm: Norm, linears: tuple[PackedLinear, ...]) -> tuple[Floats, ...]:
        h = np.empty_like(x)
        normalise(x, norm.gain, np.float32(norm.eps), h)
        codes = _codes(h, linears)
        return tuple(multiply(linear, h, codes) for linear in linears)

    def rotate(
        self, q: Floats, k: Floats, q_norm: Norm, k_norm: Norm, step: Staged, rope: Rope
    ) -> tuple[Floats, Floats]:
        head_dim = len(q_norm.gain)
        if (rope, head_dim) not in step.angles:
            step.angles[rope, head_dim] = angles(step.step.pos, rope, head_dim)
        cos, sin = step.angles[rope, head_dim]
        turned = np.empty_like(q), np.empty_like(k)
        for x, norm, out in zip((q, k), (q_norm, k_norm), turned, strict=True):
            rotate(x, norm.gain, np.float32(norm.eps), cos, sin, out)
        return turned

    def attend(
        self, q: Floats, k: Floats, v: Floats, kv: LayerPages | None, step: Staged, attention: Attention
    ) -> Floats:
        host = step.step
        if kv is None or host.pages is None:
            raise ValueError("the CPU engine attends over pages: put their table into the step")
        table = np.ascontiguousarray(host.pages[:, attention.kind])
        append(k, v, kv.keys, kv.values, table, host.seq, host.pos)
        first = np.zeros_like(host.pos)
        if attention.window is not None:
            np.maximum(host.pos - np.int32(attention.window - 1), 0, out=first)
        out = np.empty_like(q)
        work = q, kv.keys, kv.values, table, host.seq, first, step.last, np.float32(attention.scale)
        if int((step.last - first + 1).sum()) * q.shape[1] < WORTH_A_LAUNCH:
            attend_items(*work, 0, q.size // attention.head_dim, out)
        else:
            attend(*work, out)
        return out

    def merge(self, x: Floats, o: Floats, linear: PackedLinear, post_norm: Norm) -> Floats:
        y = multiply(linear, o, _codes(o, (linear,)))
        out = np.empty_like(x)
        add_normalised(x, y, post_norm.gain, np.float32(post_norm.eps), out)
        return out

    def gate(self, g: Floats, u: Floats) -> Floats:
        out = np.empty_like(g)
        gate(g.reshape(-1), u.reshape(-1), out.reshape(-1))
        return out

    def select(self, x: Floats, norm: Norm, step: Staged) -> Floats:
        chosen = x[step.step.rows]
        out = np.empty_like(chosen)
        normalise(chosen, norm.gain, np.float32(norm.eps), out)
        return out

    def head(self, h: Floats, table: PackedLinear, want: Want) -> Floats | Scored | Candidates:
        if isinstance(want, Full):
            return multiply(table, h, _codes(h, (table,)))
        parts = []
        for start in range(0, len(h), _HEAD_ROWS):
            rows = slice(start, start + _HEAD_ROWS)
            logits = multiply(table, h[rows], _codes(h[rows], (table,)))
            parts.append(_answer(logits, want, rows))
        return _join(parts)

    def pages(self, count: int, kv_heads: int, head_dim: int) -> LayerPages:
        # np.empty leaves untouched pages to the operating system: capacity costs nothing until it is written.
        return LayerPages(
            np.empty((count, kv_heads, head_dim, PAGE), np.float32),
            np.empty((count, kv_heads, PAGE, head_dim), np.float32),
        )

    def copy_page(self, store: LayerPages, source: int, target: int) -> None:
        store.keys[target] = store.keys[source]
        store.values[target] = store.values[source]


def _codes(x: Floats, linears: tuple[PackedLinear, ...]) -> Quantized | None:
    """x rounded to int8, once for all linears that want it."""
    return quantize(x) if any(linear.quantized for linear in linears) else None


def _answer(logits: Floats, want: Targets | TopK, rows: slice) -> Scored | Candidates:
    peak = logits.max(-1, keepdims=True)
    lse = np.log(np.exp(logits - peak).sum(-1)) + peak[:, 0]
    if isinstance(want, Targets):
        picked = logits[np.arange(len(logits)), want.ids[rows]]
        return Scored(picked, lse, logits.argmax(-1).astype(np.int32))
    return candidates(logits, lse, want)


def _join(parts: list[Any]) -> Any:
    """One answer from the answers of consecutive rows."""
    kind = type(parts[0])
    names = kind.__dataclass_fields__
    return kind(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
