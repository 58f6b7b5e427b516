"""The truth: torch, float32, dense masks, never optimised. Every other op table is tested against it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..config import Rope
from .candidates import candidates
from .contract import PAGE, Attention, Forward, Full, LayerPages, Scored, Step, Targets, Want

Tensor = torch.Tensor


@dataclass
class Staged:
    """A step as tensors, with its rotary angles by base."""

    step: Step
    ids: Tensor
    pos: Tensor
    last: Tensor
    rows: Tensor


def normalise(x: Tensor, norm: Any) -> Tensor:
    """RMSNorm over the last axis, in float32; with a bias a LayerNorm."""
    x = x.float()
    if norm.bias is not None:
        x = x - x.mean(-1, keepdim=True)
    x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + norm.eps) * norm.gain
    return x if norm.bias is None else x + norm.bias


def rotary(x_TNH: Tensor, pos: Tensor, rope: Rope) -> Tensor:
    """Half-split ("NeoX") rotation: element j pairs with j + H/2 (spec 2.3)."""
    half = x_TNH.shape[-1] // 2
    frequency = rope.theta ** (-torch.arange(half, device=x_TNH.device, dtype=torch.float32) / half)
    angle = pos.float()[:, None] * (frequency / rope.factor)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    a, b = x_TNH[..., :half], x_TNH[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Reference:
    """Op table over torch modules; see `contract.Ops` for shapes."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def _tensor(self, array: Any) -> Tensor:
        return torch.as_tensor(array, device=self.device)

    def run(self, forward: Forward, step: Step, kvs: Iterable[LayerPages | None]) -> Tensor:
        result: Tensor = forward(self.stage(step), kvs)
        return result

    def stage(self, step: Step) -> Staged:
        tensor = self._tensor
        return Staged(
            step, tensor(step.ids).long(), tensor(step.pos), tensor(step.last_seen), tensor(step.rows).long()
        )

    def embed(self, table: Any, step: Staged, scale: float) -> Tensor:
        x = table(step.ids).float() * scale
        if step.step.soft is None:
            return x
        x = x.clone()
        x[self._tensor(step.step.block) >= 0] = self._tensor(step.step.soft).float()
        return x

    def project(self, x: Tensor, norm: Any, linears: tuple[Any, ...]) -> tuple[Tensor, ...]:
        h = normalise(x, norm)
        return tuple(linear(h) for linear in linears)

    def rotate(
        self, q: Tensor, k: Tensor, q_norm: Any, k_norm: Any, step: Staged, rope: Rope
    ) -> tuple[Tensor, Tensor]:
        def one(x: Tensor, norm: Any) -> Tensor:
            heads = x.unflatten(-1, (-1, norm.gain.shape[0]))
            return rotary(normalise(heads, norm), step.pos, rope).flatten(1)

        return one(q, q_norm), one(k, k_norm)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, kv: LayerPages | None, step: Staged, attention: Attention
    ) -> Tensor:
        q_TNH, k_TKH, v_TKH = (x.unflatten(-1, (-1, attention.head_dim)) for x in (q, k, v))
        if kv is not None:
            self._append(k_TKH, v_TKH, kv, step, attention.kind)
        outputs = []
        for s, past in enumerate(step.step.past):
            here = slice(int(step.step.starts[s]), int(step.step.starts[s + 1]))
            if kv is None:
                keys, values, first = k_TKH[here], v_TKH[here], int(past)
            else:
                keys, values = self._gather(kv, step.step, s, attention.kind)
                first = 0
            position = first + torch.arange(len(keys), device=keys.device)
            seen = position <= step.last[here, None]
            if attention.window is not None:
                seen &= (position - step.pos[here, None]).abs() < attention.window
            outputs.append(self._softmax(q_TNH[here], keys, values, seen, attention.scale))
        return torch.cat(outputs)

    @staticmethod
    def _softmax(q_TNH: Tensor, k_JKH: Tensor, v_JKH: Tensor, seen_TJ: Tensor, scale: float) -> Tensor:
        share = q_TNH.shape[1] // k_JKH.shape[1]
        k_JNH, v_JNH = (x.repeat_interleave(share, 1) for x in (k_JKH, v_JKH))
        scores = torch.einsum("tnh,jnh->ntj", q_TNH, k_JNH) * scale
        weights = scores.masked_fill(~seen_TJ, float("-inf")).softmax(-1)
        return torch.einsum("ntj,jnh->tnh", weights, v_JNH).flatten(1)

    def _append(self, k: Tensor, v: Tensor, kv: LayerPages, step: Staged, kind: int) -> None:
        tables = step.step.pages
        if tables is None:
            raise ValueError("a step that uses a cache needs page tables")
        page = self._tensor(tables[step.step.seq, kind, step.step.pos // PAGE]).long()
        slot = step.pos.long() % PAGE
        kv.keys[page, :, :, slot] = k
        kv.values[page, :, slot] = v

    def _gather(self, kv: LayerPages, step: Step, s: int, kind: int) -> tuple[Tensor, Tensor]:
        """Keys and values [J, K, H] of sequence s; the mask hides what stands in for dropped pages."""
        if step.pages is None:
            raise ValueError("a step that uses a cache needs page tables")
        length = int(step.past[s] + step.starts[s + 1] - step.starts[s])
        table = self._tensor(np.maximum(step.pages[s, kind, : -(-length // PAGE)], 0)).long()
        keys = kv.keys[table].permute(0, 3, 1, 2).flatten(0, 1)[:length]
        return keys, kv.values[table].transpose(1, 2).flatten(0, 1)[:length]

    def merge(self, x: Tensor, o: Tensor, linear: Any, post_norm: Any) -> Tensor:
        branch = linear(o)
        return x + (branch if post_norm is None else normalise(branch, post_norm))

    def gate(self, g: Tensor, u: Tensor) -> Tensor:
        return self.gelu(g) * u

    def gelu(self, x: Tensor) -> Tensor:
        return torch.nn.functional.gelu(x, approximate="tanh")

    def patchify(self, pixels: Any, linear: Any, positions: Tensor, patch: int) -> Tensor:
        squares = self._tensor(pixels).unfold(2, patch, patch).unfold(3, patch, patch)  # [n, 3, g, g, p, p]
        x_GPD = linear(squares.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2))
        return (x_GPD + positions).flatten(0, 1)

    def pool(self, x: Tensor, norm: Any, grid: int, side: int) -> Tensor:
        squares = normalise(x, norm).unflatten(0, (-1, side, grid // side, side, grid // side))
        return squares.mean((2, 4)).flatten(0, 2)

    def select(self, x: Tensor, norm: Any, step: Staged) -> Tensor:
        return normalise(x[step.rows], norm)

    def head(self, h: Tensor, table: Any, want: Want) -> Any:
        logits = self._tensor(h) @ table.weight.float().T
        if isinstance(want, Full):
            return logits
        lse = logits.logsumexp(-1).numpy(force=True)
        if isinstance(want, Targets):
            ids = self._tensor(want.ids).long()[:, None]
            best = logits.argmax(-1).numpy(force=True).astype(np.int32)
            return Scored(logits.gather(1, ids)[:, 0].numpy(force=True), lse, best)
        return candidates(logits.numpy(force=True), lse, want)

    def pages(self, count: int, kv_heads: int, head_dim: int) -> LayerPages:
        return LayerPages(
            torch.zeros(count, kv_heads, head_dim, PAGE, device=self.device),
            torch.zeros(count, kv_heads, PAGE, head_dim, device=self.device),
        )

    def copy_page(self, store: LayerPages, source: int, target: int) -> None:
        store.keys[target] = store.keys[source]
        store.values[target] = store.values[source]
