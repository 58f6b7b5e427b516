"""What the engine is asked to continue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Prompt:
    """Ids, <bos> included, and the pictures that they mention.

    pixels: float32 [n, 3, S, S] in -1..1, one for each run of soft tokens in `ids`, in order; None for text.
    """

    ids: list[int]
    pixels: npt.NDArray[np.float32] | None = None
