"""ARM with matrix products of bytes: for two tokens or more, two rows times two tokens an instruction."""

from __future__ import annotations

from ..emit import I8, I32, VI, Emitter, Value, ir
from .neon import dot_signed as dot_signed
from .neon import dot_unsigned as dot_unsigned
from .neon import half as half
from .neon import narrow as narrow
from .neon import pause as pause

NAME = "neon-i8mm"
TARGET: tuple[str, str] | None = None
NEEDS = ("dotprod", "i8mm")
SIGNED_BIAS = 0

_NAME = "llvm.aarch64.neon.smmla.v4i32.v16i8"
_SQUARE, _BYTES = ir.VectorType(I32, 4), ir.VectorType(I8, 16)
_HALF = ir.VectorType(I32, 2)


def dot_pairs(e: Emitter, totals: list[Value], codes: list[Value], x: Value) -> list[Value]:
    """The totals of 2, 4 or 8 tokens, plus the products of all codes with the words [codes, tokens] at x.

    A square is two rows times two tokens: [r0 t0, r0 t1, r1 t0, r1 t1]. Eight columns are added to it at a
    time, from two vectors of codes and two words of each token.
    """
    tokens = len(totals)
    pairs, columns = range(0, tokens, 2), range(0, len(codes), 2)
    words = {
        (j, t): _two_tokens(e, e.at(x, 4 * (j * tokens + t)), 4 * tokens) for j in columns for t in pairs
    }
    squares: dict[tuple[int, int], Value] = {}
    for r in range(0, 16, 2):
        for t in pairs:
            squares[r, t] = _picked(e, totals[t], totals[t + 1], (r, 16 + r, r + 1, 17 + r))
        for j in columns:
            rows = _two_rows(e, codes[j], codes[j + 1], r)
            for t in pairs:
                squares[r, t] = e.call(_NAME, _SQUARE, squares[r, t], rows, words[j, t])
    return [_lanes(e, squares, t) for t in range(tokens)]


def _two_tokens(e: Emitter, x: Value, stride: int) -> Value:
    """Eight columns of a token, then of the next: two words of each, `stride` bytes apart."""
    order = (0, 2, 1, 3)
    return e.cast(_picked(e, e.load(_HALF, x), e.load(_HALF, x, stride), order), _BYTES)


def _two_rows(e: Emitter, first: Value, second: Value, row: int) -> Value:
    """Eight columns of a row, then of the next, from two vectors of four columns."""
    order = (row, 16 + row, row + 1, 17 + row)
    return e.cast(_picked(e, e.cast(first, VI), e.cast(second, VI), order), _BYTES)


def _lanes(e: Emitter, squares: dict[tuple[int, int], Value], token: int) -> Value:
    """One token of all rows."""
    own, t = token % 2, token - token % 2
    order = (own, own + 2, own + 4, own + 6)
    return e.joined([_picked(e, squares[r, t], squares[r + 2, t], order) for r in range(0, 16, 4)])


def _picked(e: Emitter, low: Value, high: Value, order: tuple[int, ...]) -> Value:
    """Lanes of two vectors."""
    return e.b.shuffle_vector(low, high, ir.Constant(_SQUARE, list(order)))
