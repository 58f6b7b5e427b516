"""The op table of training: torch with autograd, packed rows.

The tokens of a step are B rows of equal length; a document (a sequence of the step) never crosses a row, so
attention is within rows and no two documents meet. All that is not attention is the reference's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch

from .banded import Banded
from .contract import Attention, LayerPages, Step
from .flex import Flex
from .intervals import Intervals, intervals
from .reference import Reference, Staged, Tensor


class Rowwise(Protocol):
    """How a table attends within rows: the seam of `Banded` (any device) and `Flex` (CUDA)."""

    name: str

    def stage(self, seen: Intervals, window: int | None, device: str) -> Any:
        """What tokens see, prepared once a step for all layers of a window."""

    def attend(self, q_BTNH: Tensor, k_BTKH: Tensor, v_BTKH: Tensor, seen: Any, scale: float) -> Tensor:
        """softmax(q k * scale) v over what is seen: [B, T, N, H], or bands of it in order."""


@dataclass
class StagedRows(Staged):
    """A step with what each token may see, by window (None: everything before), as the `Rowwise` wants it."""

    seen: dict[int | None, Any]


class Trainable(Reference):
    """Op table for rows of `row` tokens; `windows` are those of the model's layers (None: a global layer).

    `rowwise` defaults to what suits the device: FlexAttention on CUDA, SDPA elsewhere. Its name says which.
    """

    def __init__(
        self, row: int, windows: tuple[int | None, ...], device: str = "cpu", rowwise: Rowwise | None = None
    ) -> None:
        super().__init__(device)
        self.row = row
        self.windows = windows
        self.rowwise = rowwise or (Flex() if torch.device(device).type == "cuda" else Banded())

    def stage(self, step: Step) -> Staged:
        """Tensors and masks of a step; [T] must be whole rows unless the step reads pages."""
        staged = super().stage(step)
        if step.pages is not None:
            return staged
        seen = {
            window: self.rowwise.stage(intervals(step, self.row, window), window, self.device)
            for window in set(self.windows)
        }
        return StagedRows(step, staged.ids, staged.pos, staged.last, staged.rows, seen)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, kv: LayerPages | None, step: Any, attention: Attention
    ) -> Tensor:
        """Within rows, in the dtype of autocast where that is on; with pages, as the reference does."""
        if kv is not None:
            return super().attend(q, k, v, kv, step, attention)
        dtype = torch.get_autocast_dtype(q.device.type) if _autocast(q) else q.dtype
        q, k, v = (
            x.to(dtype).unflatten(0, (-1, self.row)).unflatten(-1, (-1, attention.head_dim))
            for x in (q, k, v)
        )
        o = self.rowwise.attend(q, k, v, step.seen[attention.window], attention.scale)
        return o.flatten(2).flatten(0, 1)


def _autocast(x: Tensor) -> bool:
    return torch.is_autocast_enabled(x.device.type)
