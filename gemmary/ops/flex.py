"""Attention of packed rows by FlexAttention: compiled kernels that skip the blocks nobody looks into.

    B rows, T tokens of a row, N query heads, K key/value heads, H head dim, Q blocks of 128 tokens in a row

What a token sees is an interval, so what a block of tokens sees is one, too: the block masks of a step are
made from two numbers a token, on the host, and no [T, T] mask exists. Their shapes do not depend on the
documents: nothing is compiled anew from step to step. On a CPU torch has no backward pass for it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from .contract import Ints
from .intervals import Intervals

Tensor = torch.Tensor
BLOCK = 128  # tokens; what the kernels are tuned for


class Flex:
    """A table's attention within rows. `fuse`: compile it, without which it is as slow as a dense mask."""

    name = "FlexAttention"

    def __init__(self, fuse: bool = True) -> None:
        self._flex = torch.compile(flex_attention, dynamic=False) if fuse else flex_attention

    def stage(self, seen: Intervals, window: int | None, device: str) -> BlockMask | None:
        """The block mask of a step; None: everybody sees the whole row."""
        return None if seen.whole else block_mask(seen, device)

    def attend(
        self, q_BTNH: Tensor, k_BTKH: Tensor, v_BTKH: Tensor, seen: BlockMask | None, scale: float
    ) -> Tensor:
        """softmax(q k * scale) v over what is seen: [B, T, N, H]."""
        q, k, v = (x.transpose(1, 2) for x in (q_BTNH, k_BTKH, v_BTKH))
        if seen is None:
            o = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale, enable_gqa=True)
        else:
            o = self._flex(q, k, v, block_mask=seen, scale=scale, enable_gqa=True)
        return o.transpose(1, 2)


def block_mask(seen: Intervals, device: str, block: int = BLOCK) -> BlockMask:
    """The mask of rows: which blocks of keys a block of queries sees in part, and which as a whole."""
    first, last = (torch.from_numpy(x).to(device) for x in (seen.first, seen.last))

    def sees(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (first[b, q] <= k) & (k <= last[b, q])

    width = first.shape[1]
    some_count, some, full_count, full = (
        torch.from_numpy(x).to(device) for chosen in _blocks(seen, block) for x in _ordered(chosen)
    )
    return BlockMask.from_kv_blocks(
        some_count, some, full_count, full, BLOCK_SIZE=block, mask_mod=sees, seq_lengths=(width, width)
    )


def _blocks(seen: Intervals, block: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Bool [B, Q, Q] twice: of a block of queries, the blocks of keys that are seen in part, and as a whole.

    A token's interval holds the token itself, so intervals of neighbours touch: their union has no gaps.
    """
    borders = np.arange(0, seen.first.shape[1], block)
    low, highest_low = (f.reduceat(seen.first, borders, 1)[..., None] for f in (np.minimum, np.maximum))
    high, lowest_high = (f.reduceat(seen.last, borders, 1)[..., None] for f in (np.maximum, np.minimum))
    some = (low < borders + block) & (borders <= high)
    full = (highest_low <= borders) & (borders + block - 1 <= lowest_high)
    return some & ~full, full


def _ordered(chosen: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """How many are chosen, int32 [B, 1, Q], and all numbers, the chosen first, int32 [B, 1, Q, Q]."""
    order = np.argsort(~chosen, axis=-1, kind="stable").astype(np.int32)
    return chosen.sum(-1, dtype=np.int32)[:, None], order[:, None]
