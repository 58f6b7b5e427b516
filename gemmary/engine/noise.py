"""Gumbel noise from a counter: a pure function of (seed, position, id).

Sampling is argmax(logit / T + noise), so a seed gives one text, whatever else runs beside it, and a
drafted token can be checked by drawing again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MASK = (1 << 64) - 1


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


def _mixed(x: int) -> int:
    """The same of one number, without the cost of an array."""
    x = (x ^ (x >> 30)) * int(_MIX_1) & _MASK
    x = (x ^ (x >> 27)) * int(_MIX_2) & _MASK
    return x ^ (x >> 31)


def gumbel(seed: int, position: int, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """Standard Gumbel noise for each id [n], float64. Of a seed, the low 64 bits count."""
    key = _mixed(_mixed(int(seed) & _MASK) + position * int(_STEP) & _MASK)
    bits = _mix(np.uint64(key) + ids.astype(np.uint64) * _STEP)
    # 52 bits and a half: exact in float64, so never 0 and never 1, and the noise is always finite.
    uniform = ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    noise: npt.NDArray[np.float64] = -np.log(-np.log(uniform))
    return noise
