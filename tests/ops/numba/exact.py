"""float32 arithmetic on exact fractions: the word on what one rounding gives."""

from __future__ import annotations

from fractions import Fraction

import numpy as np


def rounded(x: Fraction) -> np.float32:
    """The nearest float32 of a finite number, ties to even."""
    guess = np.float32(float(x))
    around = (np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf)))
    return min(around, key=lambda y: (abs(Fraction(float(y)) - x), int(np.float32(y).view(np.int32)) & 1))


def fused(a: np.float32, b: np.float32, c: np.float32) -> np.float32:
    """a * b + c with one rounding."""
    return rounded(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))


def dot(w: np.ndarray, x: np.ndarray) -> np.float32:
    """w . x in the order that `ops.numba.vector` promises: 16 lanes, halves added, then the rest in order."""
    whole = len(x) // 16 * 16
    lanes = [np.float32(0)] * 16
    for i in range(whole):
        lanes[i % 16] = fused(w[i], x[i], lanes[i % 16])
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [np.float32(a + b) for a, b in zip(lanes[:half], lanes[half:], strict=True)]
    rest = np.float32(0)
    for i in range(whole, len(x)):
        rest = fused(w[i], x[i], rest)
    return np.float32(lanes[0] + rest)
