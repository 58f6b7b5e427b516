"""The gated GELU of the feed-forward."""

from __future__ import annotations

import numpy as np
from numba import njit

from .scalar import gelu


@njit(cache=True, nogil=True, error_model="numpy")
def gate(g: np.ndarray, u: np.ndarray, out: np.ndarray) -> None:
    """out = gelu_tanh(g) * u, element by element over flat arrays."""
    for i in range(len(g)):
        out[i] = np.float32(gelu(g[i]) * u[i])
