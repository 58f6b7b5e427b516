"""Kernels, each alone on a tape."""

from __future__ import annotations

from typing import Any

import numpy as np

from gemmary.config import Rope
from gemmary.formats import Format
from gemmary.ops.numba import norm, rotary
from gemmary.ops.numba.activation import BLOCK, dequantized, room, round_rows
from gemmary.ops.numba.kernel import Kernel
from gemmary.ops.numba.linear import PackedLinear, multiply
from gemmary.ops.numba.machine import team
from gemmary.ops.numba.memory import WeightMemory
from gemmary.ops.numba.tape import Tape
from gemmary.ops.numba.team import Team

EPS = 1e-6


def played(kernel: Kernel, pieces: int, threads: Team | None = None, **arguments: Any) -> None:
    """Run one kernel."""
    tape = Tape()
    tape.add(kernel, pieces, **arguments)
    (threads or team()).play(tape)


def rounded(x: np.ndarray, threads: Team | None = None) -> np.ndarray:
    """The codes of x [T, D], as products want them."""
    codes = room(*x.shape)
    played(round_rows, len(x), threads, x=x, codes=codes, tokens=len(x), columns=x.shape[1])
    return codes


def values_of(codes: np.ndarray, tokens: int, columns: int) -> np.ndarray:
    """What codes stand for: float64 [T, D]."""
    integers, scales = dequantized(codes, tokens, columns)
    return integers * np.repeat(scales, BLOCK, -1).astype(np.float64)


def linear(form: Format, raw: np.ndarray, rows: int, columns: int) -> PackedLinear:
    """A weight from a file's bytes."""
    return PackedLinear.pack(team(), WeightMemory(), form, raw, rows, columns)


def product(weight: PackedLinear, x: np.ndarray, threads: Team | None = None) -> np.ndarray:
    """x [T, D] through a weight: [T, rows]. Everything around the result is watched."""
    threads = threads or team()
    room_ = np.full((len(x) + 2, weight.rows), 7, np.float32)
    tape = Tape()
    source = rounded(x, threads) if weight.quantized else np.ascontiguousarray(x)
    multiply(tape, threads, weight, source, len(x), room_[1:-1], waits=True)
    threads.play(tape)
    assert (room_[[0, -1]] == 7).all(), "written outside of its place"
    return room_[1:-1]


def normalised(x: np.ndarray, gain: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """RMSNorm of the rows of x, or of some of them."""
    out = np.empty((len(x) if rows is None else len(rows), x.shape[1]), np.float32)
    played(
        norm.normalise, len(out), x=x, rows=rows, gain=gain, eps=EPS, out=out, codes=None,
        tokens=len(out), columns=x.shape[1],
    )  # fmt: skip
    return out


def added(x: np.ndarray, y: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """x + RMSNorm(y)."""
    out = np.empty_like(x)
    played(norm.add_normalised, len(x), x=x, y=y, gain=gain, eps=EPS, out=out, columns=x.shape[1])
    return out


def turned(
    q: np.ndarray, k: np.ndarray, gains: tuple[np.ndarray, np.ndarray], pos: np.ndarray, rope: Rope
) -> tuple[np.ndarray, np.ndarray]:
    """QK-norm and rotation of heads [T, N*H] and [T, K*H]."""
    head, outs = len(gains[0]), (np.empty_like(q), np.empty_like(k))
    played(
        rotary.rotate, len(q), q=q, k=k, q_gain=gains[0], k_gain=gains[1], q_eps=EPS, k_eps=EPS,
        angles=rotary.angles(pos, rope, head), q_out=outs[0], k_out=outs[1], q_heads=q.shape[1] // head,
        k_heads=k.shape[1] // head, head=head,
    )  # fmt: skip
    return outs
