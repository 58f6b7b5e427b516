"""The op table of training: torch with autograd, packed rows, SDPA with one mask a step.

The tokens of a step are B rows of equal length; a document (a sequence of the step) never crosses a row, so
attention is [B, heads, row, row] and no two documents meet. All that is not attention is the reference's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from .contract import Attention, LayerPages, Step
from .reference import Reference, Staged, Tensor


@dataclass
class StagedRows(Staged):
    """A step with what each token may see, by window (None: everything before).

    Bool [B, 1, row, row]; or, where nobody looks ahead, [B * bands, 1, window, 2 * window]: the queries of a
    band against the keys of the band before and its own.
    """

    seen: dict[int | None, Tensor]


class Trainable(Reference):
    """Op table for rows of `row` tokens; `windows` are those of the model's layers (None: a global layer)."""

    def __init__(self, row: int, windows: tuple[int | None, ...], device: str = "cpu") -> None:
        super().__init__(device)
        self.row = row
        self.windows = windows

    def stage(self, step: Step) -> Staged:
        """Tensors and masks of a step; [T] must be whole rows unless the step reads pages."""
        staged = super().stage(step)
        if step.pages is not None:
            return staged
        if len(step.ids) % self.row:
            raise ValueError(f"{len(step.ids)} tokens are not whole rows of {self.row}")
        text = bool((step.block < 0).all())  # pictures look ahead, out of their band
        seen = {
            window: self._seen(staged, window, self._band(window) if text else None)
            for window in self.windows
        }
        return StagedRows(step, staged.ids, staged.pos, staged.last, staged.rows, seen)

    def _band(self, window: int | None) -> int | None:
        """The window where it cuts rows into more than two bands; else None."""
        return window if window and self.row % window == 0 and self.row > 2 * window else None

    def _seen(self, staged: Staged, window: int | None, band: int | None) -> Tensor:
        seq, pos, last = (
            x.view(-1, self.row) for x in (self._tensor(staged.step.seq), staged.pos, staged.last)
        )
        if band is None:
            key_seq, key_pos = seq, pos
        else:
            key_seq, key_pos = _with_band_before(seq, band, -1), _with_band_before(pos, band, 0)
            seq, pos, last = (x.reshape(-1, band) for x in (seq, pos, last))
        seen = (seq[:, :, None] == key_seq[:, None]) & (key_pos[:, None] <= last[:, :, None])
        if window is not None:
            seen &= key_pos[:, None] > pos[:, :, None] - window
        return seen[:, None]

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, kv: LayerPages | None, step: Any, attention: Attention
    ) -> Tensor:
        """Within rows, or within bands of rows; with pages, as the reference does."""
        if kv is not None:
            return super().attend(q, k, v, kv, step, attention)
        seen = step.seen[attention.window]
        queries, keys = seen.shape[2:]
        k, v = k.to(q.dtype), v.to(q.dtype)
        if queries != keys:
            k, v = (
                _with_band_before(x.unflatten(0, (-1, self.row)), queries, 0.0).flatten(0, 1) for x in (k, v)
            )
        q_BNTH = q.unflatten(0, (-1, queries)).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        k_BKTH, v_BKTH = (
            x.unflatten(0, (-1, keys)).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2) for x in (k, v)
        )
        o_BNTH = scaled_dot_product_attention(
            q_BNTH, k_BKTH, v_BKTH, attn_mask=seen, scale=attention.scale, enable_gqa=True
        )
        return o_BNTH.transpose(1, 2).flatten(2).flatten(0, 1)


def _with_band_before(x_BT: Tensor, band: int, filling: float) -> Tensor:
    """[B, row, ...] -> [B * bands, 2 * band, ...]: each band behind the one before it."""
    bands = x_BT.unflatten(1, (-1, band))
    first = torch.full_like(bands[:, :1], filling)
    return torch.cat([torch.cat([first, bands[:, :-1]], 1), bands], 2).flatten(0, 1)
