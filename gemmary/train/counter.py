"""Random numbers from a counter: a pure function of (seed, token, draw).

So a token's draws are the same whichever tokens are beside it, on which device, and in which order they come:
a teacher's targets can be drawn online, or written to disk, cut off and gone on with, and are the same.
"""

from __future__ import annotations

import torch

Tensor = torch.Tensor

_SIGN = 1 << 63


def _signed(x: int) -> int:
    """The int64 with the bits of an unsigned number: torch multiplies int64 modulo 2^64."""
    return (x + _SIGN) % (1 << 64) - _SIGN


_MIX_1, _MIX_2 = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)
_STEP = _signed(0x9E3779B97F4A7C15)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """A shift that brings in zeros, as unsigned numbers do."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014), in place: all bits move all bits."""
    x.bitwise_xor_(_shifted(x, 30)).mul_(_MIX_1)
    x.bitwise_xor_(_shifted(x, 27)).mul_(_MIX_2)
    return x.bitwise_xor_(_shifted(x, 31))


def uniform(seed: int, tokens: Tensor, draws: int) -> Tensor:
    """Numbers in (0, 1), never 0 and never 1, float64 [R, draws], for tokens int64 [R].

    Of `seed`, the low 64 bits count.
    """
    start = _mix(torch.tensor([_signed(seed)], dtype=torch.int64, device=tokens.device))
    key = _mix(start + tokens.long() * _STEP)
    bits = _mix(key[:, None] + torch.arange(draws, device=tokens.device) * _STEP)
    # 52 bits and a half: exact in float64.
    return _shifted(bits, 12).double().add_(0.5).mul_(2.0**-52)
