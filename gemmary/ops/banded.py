"""Attention of packed rows by SDPA: a dense mask, and bands where a window cuts rows into several.

Runs on every device; on a CPU it is the way. B rows, T tokens of a row, N query heads, K key/value heads,
H head dim.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from .intervals import SCORES, Intervals

Tensor = torch.Tensor


class Banded:
    """A table's attention within rows. A band of `window` queries meets the keys of the band before and its
    own; also those of the band after it, where a picture reaches into that.
    """

    name = "SDPA with masks in bands"

    def stage(self, seen: Intervals, window: int | None, device: str) -> Tensor | None:
        """Bool [B, 1, T, T] or [B * bands, 1, window, 2 or 3 windows]; None: all see their whole row."""
        if seen.whole:
            return None
        first, last = (torch.from_numpy(x).to(device) for x in (seen.first, seen.last))
        width = first.shape[1]
        keys = torch.arange(width, device=device, dtype=first.dtype)[None]
        bands = _bands(seen, window)
        if bands and window:
            first, last = (x.reshape(-1, window) for x in (first, last))
            starts = torch.arange(-window, width - window, window, device=device, dtype=keys.dtype)
            keys = starts[:, None] + torch.arange(bands * window, device=device, dtype=keys.dtype)
            keys = keys.repeat(len(seen.first), 1)
        return ((first[:, :, None] <= keys[:, None]) & (keys[:, None] <= last[:, :, None]))[:, None]

    def attend(
        self, q_BTNH: Tensor, k_BTKH: Tensor, v_BTKH: Tensor, seen: Tensor | None, scale: float
    ) -> Tensor:
        """softmax(q k * scale) v over what is seen: [B, T, N, H]."""
        queries, keys = (q_BTNH.shape[1],) * 2 if seen is None else seen.shape[2:]
        if queries != keys:
            q_BTNH = q_BTNH.unflatten(1, (-1, queries)).flatten(0, 1)
            k_BTKH, v_BTKH = (_with_neighbours(x, queries, keys // queries) for x in (k_BTKH, v_BTKH))
        q, k, v = (x.transpose(1, 2) for x in (q_BTNH, k_BTKH, v_BTKH))
        if q[..., 0].numel() * k.shape[2] <= SCORES:
            return _attend_plainly(q, k, v, seen, scale).transpose(1, 2)
        o = scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale, enable_gqa=True)
        return o.transpose(1, 2)


def _attend_plainly(
    q_BNTH: Tensor, k_BKSH: Tensor, v_BKSH: Tensor, seen: Tensor | None, scale: float
) -> Tensor:
    """Two products, a softmax in float32 between; queries that share a key are rows of one product."""
    kv_heads, queries = k_BKSH.shape[1], q_BNTH.shape[2]
    q_BKRH = q_BNTH.unflatten(1, (kv_heads, -1)).flatten(2, 3)
    scores = (q_BKRH @ k_BKSH.transpose(2, 3)).float() * scale
    if seen is not None:
        scores = (
            scores.unflatten(2, (-1, queries)).masked_fill(~seen[:, :, None], float("-inf")).flatten(2, 3)
        )
    weights = scores.softmax(-1).to(v_BKSH.dtype)
    return (weights @ v_BKSH).unflatten(2, (-1, queries)).flatten(1, 2)


def _bands(seen: Intervals, window: int | None) -> int:
    """Bands of keys that a band of queries needs: 2, or 3 with pictures; 0 where whole rows are no more."""
    width = seen.last.shape[1]
    if not window or width % window:
        return 0
    end = np.arange(width) // window * window + window - 1
    bands = 3 if (seen.last > end).any() else 2
    return bands if width > bands * window else 0


def _with_neighbours(x_BTKH: Tensor, band: int, count: int) -> Tensor:
    """[B, T, K, H] -> [B * bands, count * band, K, H]: the band before and each band; with 3, the next."""
    bands = x_BTKH.unflatten(1, (-1, band))
    nothing = torch.zeros_like(bands[:, :1])
    parts = [torch.cat([nothing, bands[:, :-1]], 1), bands]
    if count == 3:
        parts.append(torch.cat([bands[:, 1:], nothing], 1))
    return torch.cat(parts, 2).flatten(0, 1)
