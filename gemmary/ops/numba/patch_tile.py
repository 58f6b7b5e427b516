"""The inner loops of a picture's attention: 32 query rows against a block of keys.

A query row is a lane, as a weight row is elsewhere: scores of one key stand side by side for sixteen rows, so
that maxima, exponentials and sums never cross lanes, and four exponentials of a row are a word as the next
product wants it.

Bit rule: a score is an exact integer sum, made float32, times the key's scale. A block gives a row its
largest score; exponentials of the differences to it are 0 .. 255, rounded from 2^x, x in units of log2, by a
cubic. Their sums, alone and times values, are exact integers. Blocks are folded in order.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from .attention_row import emit_fold, larger
from .elementary import emit_exp
from .emit import F32, I32, LANES, VB, VF, VI, Emitter, Value, floats, ints, whole
from .instructions import chosen
from .patch_keys import COLUMNS, KEY_TAIL, KEY_TILE, KEYS, LOWEST, QUADS

STRIPS = 2  # of sixteen query rows
ROWS = STRIPS * LANES
_LINE = 4 * ROWS  # bytes of a number of each row

# The state of 32 rows: the largest score so far, the sum of exponentials, the scale of scores in natural
# units and in those of log2; a block's scores and exponentials; then the sums of values, a column a line.
TOP, DENOMINATOR, NATURAL, BINARY, SCORES = (i * _LINE for i in range(5))
POWERS = SCORES + KEYS * _LINE
SUMS = POWERS + QUADS * _LINE

_MOST = 7.994353436858858  # log2(255)
_LEAST = -2.0  # of x: a quarter is rounded to 0
_CUBIC = (0.05517166492415809, 0.24261112187668732, 0.6932609862236716, 0.9999280735783669)  # 2^r, |r| <= 1/2
_ROUND = 12582912.0  # 1.5 * 2^23
_ROUND_127 = _ROUND + 127.0  # the low bits of a sum with it are those of a power's exponent


def emit_block(
    e: Emitter, isa: Any, state: Value, query: Value, keys: Value, values: Value, words: Value, tiles: Value,
    quads: Value, columns: Value,
) -> None:  # fmt: skip
    """The rows take in a block of keys.

    query: codes [words][32 rows][4]. Tiles and quads of keys, and tiles of columns of values, are counted.
    """
    peaks = _scores(e, isa, state, query, keys, words, tiles)
    weights = [_weigh(e, state, s, peak) for s, peak in enumerate(peaks)]
    padded = e.b.mul(columns, whole(COLUMNS))
    numbers = e.step(values, padded, KEYS)
    ones = e.step(numbers, padded, 8)
    sums = _soften(e, isa, state, peaks, quads, ones)
    for s, total in enumerate(sums):
        _fold(e, e.at(state, DENOMINATOR + 64 * s), weights[s], e.as_float(total))
    _add_values(e, isa, state, weights, quads, values, (numbers, e.step(numbers, padded, 4)), columns)


def _dot(e: Emitter, isa: Any, total: Value, codes: Value, x: Value) -> Value:
    """Bytes 0 .. 255, or, where the machine has no product of those, each 128 too small, times int8."""
    return (isa.dot_unsigned if isa.SIGNED_BIAS else isa.dot_signed)(e, total, codes, x)


def _scores(
    e: Emitter, isa: Any, state: Value, query: Value, keys: Value, words: Value, tiles: Value
) -> list[Value]:
    """Write integer sums times the keys' scales; the largest of each row."""
    peaks = [e.variable(floats(LOWEST)) for _ in range(STRIPS)]
    length = e.b.add(e.b.mul(words, whole(4 * KEY_TILE)), whole(KEY_TAIL))
    with e.loop(tiles) as i:
        tile = e.b.add(keys, e.b.mul(i, length))
        tail = e.step(tile, words, 4 * KEY_TILE)
        starts = [e.splat(e.load(I32, tail, 8 * KEY_TILE + 4 * n)) for n in range(KEY_TILE)]
        sums = [[e.variable(start) for _ in range(STRIPS)] for start in starts]
        with e.loop(words) as w:
            codes = [e.load(VB, e.step(query, w, _LINE), 64 * s) for s in range(STRIPS)]
            for n in range(KEY_TILE):
                word = e.splat(e.load(I32, e.step(tile, w, 4 * KEY_TILE), 4 * n))
                for s, total in enumerate(sums[n]):
                    e.b.store(_dot(e, isa, e.b.load(total), codes[s], word), total)
        for n in range(KEY_TILE):
            scale, offset = (e.splat(e.load(F32, tail, 4 * KEY_TILE * k + 4 * n)) for k in (0, 1))
            for s, peak in enumerate(peaks):
                score = e.fma(e.as_float(e.b.load(sums[n][s])), scale, offset)
                e.store(score, e.step(state, i, KEY_TILE * _LINE), SCORES + _LINE * n + 64 * s)
                e.b.store(larger(e, e.b.load(peak), score), peak)
    return [e.b.load(peak) for peak in peaks]


def _weigh(e: Emitter, state: Value, s: int, peak: Value) -> tuple[Value, Value]:
    """Take a block's largest scores into the state. What old and new sums are multiplied by."""
    old, scale = (e.load(VF, state, at + 64 * s) for at in (TOP, NATURAL))
    top = larger(e, old, peak)
    e.store(top, state, TOP + 64 * s)
    old_weight, new_weight = (emit_exp(e, e.b.fmul(e.b.fsub(x, top), scale)) for x in (old, peak))
    return old_weight, new_weight


def _fold(e: Emitter, at: Value, weights: tuple[Value, Value], new: Value) -> None:
    old_weight, new_weight = weights
    e.store(emit_fold(e, e.load(VF, at), old_weight, new, new_weight), at)


def _soften(e: Emitter, isa: Any, state: Value, peaks: list[Value], quads: Value, ones: Value) -> list[Value]:
    """Scores become words of four exponentials; the sums of these, of keys that there are."""
    scales = [e.load(VF, state, BINARY + 64 * s) for s in range(STRIPS)]
    start = e.splat(e.load(I32, ones, 4 * QUADS))
    totals = [e.variable(start) for _ in range(STRIPS)]
    with e.loop(quads) as i:
        here = e.step(ones, i, 4)
        counted = e.splat(e.load(I32, here))
        scores = e.step(state, i, 4 * _LINE)
        for s in range(STRIPS):
            lanes = [e.load(VF, scores, SCORES + _LINE * n + 64 * s) for n in range(4)]
            word = _word([_power(e, x, peaks[s], scales[s]) for x in lanes], e)
            if not isa.SIGNED_BIAS:
                word = e.b.xor(word, ints(-0x7F7F7F80))  # 0x80808080
            e.store(word, e.step(state, i, _LINE), POWERS + 64 * s)
            e.b.store(_dot(e, isa, e.b.load(totals[s]), e.cast(word, VB), counted), totals[s])
    return [e.b.load(total) for total in totals]


def _power(e: Emitter, score: Value, peak: Value, scale: Value) -> Value:
    """255 * 2^((score - peak) * scale), rounded to the lowest byte of each lane; bytes above are not 0."""
    x = e.fma(e.b.fsub(score, peak), scale, floats(_MOST))
    x = e.b.select(e.b.fcmp_ordered("<", x, floats(_LEAST)), floats(_LEAST), x)
    shifted = e.b.fadd(x, floats(_ROUND_127))
    r = e.b.fsub(x, e.b.fsub(shifted, floats(_ROUND_127)))
    p = floats(_CUBIC[0])
    for c in _CUBIC[1:]:
        p = e.fma(p, r, floats(c))
    power = e.cast(e.b.shl(e.cast(shifted, VI), ints(23)), VF)
    return e.cast(e.fma(p, power, floats(_ROUND)), VI)


def _word(bytes_: list[Value], e: Emitter) -> Value:
    """The lowest bytes of four vectors, the first lowest."""
    word = e.b.shl(bytes_[3], ints(24))
    for n in range(3):
        byte = e.b.and_(bytes_[n], ints(0xFF))
        word = e.b.or_(word, e.b.shl(byte, ints(8 * n)) if n else byte)
    return word


def _add_values(
    e: Emitter, isa: Any, state: Value, weights: list[tuple[Value, Value]], quads: Value, values: Value,
    numbers: tuple[Value, Value], columns: Value,
) -> None:  # fmt: skip
    """Fold the exponentials times the values into the sums. numbers: where columns' starts and scales are."""
    with e.loop(columns) as i:
        starts, scales = (e.step(at, i, 4 * COLUMNS) for at in numbers)
        words = e.step(values, i, KEYS * COLUMNS)
        first = [e.splat(e.load(I32, starts, 4 * n)) for n in range(COLUMNS)]
        sums = [[e.variable(start) for _ in range(STRIPS)] for start in first]
        with e.loop(quads) as q:
            powers = [e.load(VB, e.step(state, q, _LINE), POWERS + 64 * s) for s in range(STRIPS)]
            for n in range(COLUMNS):
                word = e.splat(e.load(I32, e.step(words, q, 4 * COLUMNS), 4 * n))
                for s, total in enumerate(sums[n]):
                    e.b.store(_dot(e, isa, e.b.load(total), powers[s], word), total)
        line = e.step(state, i, COLUMNS * _LINE)
        for n in range(COLUMNS):
            scale = e.splat(e.load(F32, scales, 4 * n))
            for s in range(STRIPS):
                new = e.b.fmul(e.as_float(e.b.load(sums[n][s])), scale)
                _fold(e, e.at(line, SUMS + _LINE * n + 64 * s), weights[s], new)


def _take_block(
    _typing: Any, state: Any, query: Any, keys: Any, values: Any, words: Any, tiles: Any, quads: Any,
    columns: Any,
) -> Any:  # fmt: skip
    """`emit_block` for this machine."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        emit_block(Emitter(builder), chosen, *args)
        return context.get_dummy_value()

    return types.void(*([types.intp] * 8)), generate


take_block: Any = intrinsic(_take_block)
