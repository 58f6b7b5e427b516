"""How far the logits of a 6-bit plane may be off, and which rows that leaves.

A row h of activations is rounded to int8: h1. Where the processor has time while it waits for the plane, what
was left is rounded too: h2, else 0. The plane's products with both add up to a. With w a row of the table, q
its row of the plane, s the logit as the full product computes it, n columns in G = n / 32 groups, u = 2^-24,
and r1 = h - h1, r2 = r1 - h2:

    s is w . h          but for n / 16 + 5 roundings, each at most u |w| |h|           (`vector`: lanes, tree)
    w . h               = q . (h1 + h2) + (w - q) . h + q . r2
    a is q . (h1 + h2)  but for G + 3 roundings, each at most u |q| (|h1| + |h2|)      (`tile`, and their sum)

By Cauchy and Schwarz, with |q| <= |w| + |w - q| and |h1| + |h2| <= |h| + 2 |r1| + |r2| = H:

    |a - s| <= |w - q| (|h| + |r2| + g H) + |w| (|r2| + g H + g' |h|)

where g and g' are the numbers of roundings times u, with some to spare: for those of a - bound and a + bound.
What is too small for float32 is lost at 2^-100 altogether. `missed` and `length` of a `Plane` stand for
|w - q| and |w|, `reach` [2] for what they are multiplied by; all are rounded upwards.

Rows whose a + bound is below the k-th largest a - bound have k better ones: they are not among the k best.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types

from .emit import I64, LANES, VF, Emitter, Value, inline
from .plane import GROUP
from .ranking import LOWEST, border, order, value
from .selection import BLOCK
from .tile import TOKEN_BYTES

LINE = 64  # bytes of memory that come together
_UNIT = 2.0**-24
_UPWARDS = 1 + 2.0**-20
_TINY = np.float32(2.0**-100)
_SMALLEST = np.float32(1e-30)  # blocks below are rounded to 0
_HUGE = 1e37  # |w| |h| from here on: sums may come near the largest float32


@inline(types.void, types.intp)
def prefetch(e: Emitter, address: Value) -> None:
    """Start to read a line of memory."""
    e.prefetch(address)


@njit(error_model="numpy")
def _round(
    x: np.ndarray, codes: np.ndarray, numbers: np.ndarray, sums: np.ndarray, tokens: int, token: int
) -> float:
    """Round x float32 [n] to int8 in place: what was left takes its place. Returns |rest|.

    The codes go to one token of a tile (`tile`), seen as int8, float32 and int32.
    """
    squares = 0.0
    for block in range(len(x) // GROUP):
        peak = np.float32(0)
        for i in range(block * GROUP, (block + 1) * GROUP):
            peak = max(peak, np.float32(abs(x[i])))
        large = peak > _SMALLEST
        scale = np.float32(peak / np.float32(127)) if large else np.float32(0)
        inverse = np.float32(np.float32(127) / peak) if large else np.float32(0)
        at, total = block * tokens * TOKEN_BYTES, np.int32(0)
        for i in range(GROUP):
            old = x[block * GROUP + i]
            code = np.rint(np.float32(old * inverse))
            rest = np.float64(old) - np.float64(code) * np.float64(scale)
            x[block * GROUP + i] = np.float32(rest)
            squares += rest * rest
            codes[at + (i // 4 * tokens + token) * 4 + i % 4] = np.int8(np.int32(code))
            total += np.int32(code)
        numbers[at // 4 + 8 * tokens + token] = scale
        sums[at // 4 + 9 * tokens + token] = -total
    return np.sqrt(squares)


@njit(error_model="numpy")
def prepare(
    h: np.ndarray, x: np.ndarray, codes: np.ndarray, numbers: np.ndarray, sums: np.ndarray,
    tokens: int, token: int, parts: int, longest: float, reach: np.ndarray,
) -> None:  # fmt: skip
    """Round h, and write what multiplies |w - q| and |w| in the bound: reach [2], NaN if there is none."""
    squares = 0.0
    for i in range(len(h)):
        x[i] = h[i]
        squares += np.float64(h[i]) * np.float64(h[i])
    length = np.sqrt(squares)
    if not (longest * length < _HUGE and length < _HUGE):
        reach[:] = np.float32(np.nan)
        return
    left = rest = _round(x, codes, numbers, sums, tokens, token)
    if parts == 2:
        rest = _round(x, codes, numbers, sums, tokens, token + 1)
    rest += 2 * _UNIT * left  # on its way it was rounded to float32
    groups = len(h) // GROUP
    slack = (groups + 8) * _UNIT * (length + 2 * left + rest)
    spread = (2 * groups + 8) * _UNIT * length
    reach[0] = (length + rest + slack) * _UPWARDS + _SMALLEST
    reach[1] = (rest + slack + spread) * _UPWARDS + _SMALLEST


@njit(error_model="numpy")
def bound(missed: np.float32, length: np.float32, reach: np.ndarray) -> np.float32:
    """The most by which the plane's logit is off. It grows with both lengths, roundings included."""
    return np.float32(np.float32(missed * reach[0]) + np.float32(length * reach[1])) + _TINY


@njit(error_model="numpy")
def survivors(
    logits: np.ndarray, allowed: np.ndarray, k: int, reach: np.ndarray,
    maxima: np.ndarray, block_missed: np.ndarray, block_length: np.ndarray, uppers: np.ndarray,
    missed: np.ndarray, length: np.ndarray, ids: np.ndarray, lows: np.ndarray, highs: np.ndarray,
) -> int:  # fmt: skip
    """Write the ids of all rows that may be among the k best; how many. Uses up `maxima`."""
    for block in range(len(maxima)):
        top, off = value(np.int32(maxima[block])), bound(block_missed[block], block_length[block], reach)
        open_ = maxima[block] >= LOWEST
        uppers[block] = order(top + off) if open_ else LOWEST - 1
        maxima[block] = order(top - off) if open_ else LOWEST - 1
    low = border(maxima, k)
    found = _scan(logits, allowed, low, reach, block_missed, block_length, uppers, ids)
    _fetch_early(missed.ctypes.data, length.ctypes.data, ids[:found])
    for i in range(found):
        at = ids[i]
        off = bound(missed[at], length[at], reach)
        lows[i], highs[i] = order(logits[at] - off), order(logits[at] + off)
    low, kept = border(lows[:found], k), 0
    for i in range(found):
        if highs[i] >= low:
            ids[kept] = ids[i]
            kept += 1
    return kept


@inline(types.int64, types.intp, types.float32, types.float32)
def _reaching(e: Emitter, x: Value, off: Value, least: Value) -> Value:
    """One bit for each of 64 numbers at x: whether x + off >= least."""
    bits = ir.Constant(I64, 0)
    for w in range(BLOCK // LANES):
        high = e.b.fadd(e.load(VF, x, 4 * LANES * w), e.splat(off))
        reached = e.b.bitcast(e.b.fcmp_ordered(">=", high, e.splat(least)), ir.IntType(LANES))
        bits = e.b.or_(bits, e.b.shl(e.b.zext(reached, I64), ir.Constant(I64, LANES * w)))
    return bits


@inline(types.int64, types.int64)
def _lowest(e: Emitter, bits: Value) -> Value:
    """The place of the lowest bit that is set."""
    return e.b.cttz(bits, ir.Constant(ir.IntType(1), 1))


@njit(error_model="numpy")
def _scan(
    logits: np.ndarray, allowed: np.ndarray, low: int, reach: np.ndarray,
    block_missed: np.ndarray, block_length: np.ndarray, uppers: np.ndarray, ids: np.ndarray,
) -> int:  # fmt: skip
    """Write the ids that reach `low` by the bound of their block; how many."""
    for block in range(len(uppers)):
        if uppers[block] >= low:
            for line in range(4 * BLOCK * block, 4 * BLOCK * (block + 1), LINE):
                prefetch(logits.ctypes.data + line)
    found, least = 0, value(np.int32(low))
    for block in range(len(uppers)):
        if uppers[block] >= low:
            off, first = bound(block_missed[block], block_length[block], reach), block * BLOCK
            if first + BLOCK <= len(logits):
                places = _reaching(logits.ctypes.data + 4 * first, off, least)
                while places:
                    i = first + _lowest(places)
                    places &= places - 1
                    if len(allowed) == 0 or allowed[i]:
                        ids[found] = i
                        found += 1
            else:
                for i in range(first, len(logits)):
                    if logits[i] + off >= least and (len(allowed) == 0 or allowed[i]):
                        ids[found] = i
                        found += 1
    return found


@njit(error_model="numpy")
def _fetch_early(missed: int, length: int, ids: np.ndarray) -> None:
    """Ask for what will be read: the processor waits for many places of memory at once."""
    for i in ids:
        prefetch(missed + 4 * np.int64(i))
        prefetch(length + 4 * np.int64(i))
