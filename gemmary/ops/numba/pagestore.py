"""Keys and values as pages hold them: element formats, storage, and writing new tokens.

A page has 64 positions of every key/value head: keys [P, K, H, 64], transposed, so that one column of
sixteen keys is a vector, and values [P, K, 64, H]. How 64 numbers side by side lie in their bytes is the
format's affair. In I8 they are codes with scales beside them, bytes [P, K, 64 * (H + 4)] (`pagecodes`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..contract import PAGE, LayerPages
from .emit import I16, I32, LANES, VF, VI, Emitter, Value, floats, ints, whole
from .instructions import chosen
from .memory import aligned
from .pagecodes import SCALE, store_codes

VECTORS = PAGE // LANES
_LARGEST_HALF = 65504.0
_UPPER = -65536  # mask of the upper half of 32 bits
_HALVES = ir.VectorType(I16, LANES)


@dataclass(frozen=True)
class Element:
    """How numbers lie in a page: 64 together, or sixteen alone where a head's width leaves them over.

    `widen(e, address, w)` is vector w of 64 as floats; `narrow(e, vectors)` is what is stored for four
    vectors; `widen_alone` and `narrow_alone` are the same for sixteen. `place(e, i)`: where number i of 64
    lies.
    """

    dtype: type[np.generic]
    widen: Callable[[Emitter, Value, int], Value]
    narrow: Callable[[Emitter, list[Value]], list[Value]]
    widen_alone: Callable[[Emitter, Value], Value]
    narrow_alone: Callable[[Emitter, Value], Value]
    place: Callable[[Emitter, Value], Value]

    @property
    def size(self) -> int:
        """Bytes of a number."""
        return np.dtype(self.dtype).itemsize


# bf16: of 32 numbers, i and 16 + i share a 32-bit word, the first in its lower half. So a shift and a mask
# make two vectors of floats out of one of words.


def _widen_bf16(e: Emitter, address: Value, w: int) -> Value:
    words = e.load(VI, address, 4 * LANES * (w // 2), 2)
    return e.cast(e.b.and_(words, ints(_UPPER)) if w % 2 else e.b.shl(words, ints(16)), VF)


def _narrow_bf16(e: Emitter, vectors: list[Value]) -> list[Value]:
    rounded = [_rounded_bf16(e, vector) for vector in vectors]
    pairs = zip(rounded[::2], rounded[1::2], strict=True)
    return [e.b.or_(e.b.lshr(low, ints(16)), high) for low, high in pairs]


def _widen_bf16_alone(e: Emitter, address: Value) -> Value:
    return e.cast(e.b.shl(e.b.zext(e.load(_HALVES, address, align=2), VI), ints(16)), VF)


def _narrow_bf16_alone(e: Emitter, vector: Value) -> Value:
    return e.b.trunc(e.b.lshr(_rounded_bf16(e, vector), ints(16)), _HALVES)


def _rounded_bf16(e: Emitter, x: Value) -> Value:
    """The bits of floats, rounded to nearest, ties to even; the lower halves are zero. NaN stays NaN."""
    bits = e.cast(x, VI)
    even = e.b.and_(e.b.lshr(bits, ints(16)), ints(1))
    rounded = e.b.add(bits, e.b.add(even, ints(0x7FFF)))
    quiet = e.b.or_(bits, ints(0x400000))
    return e.b.and_(e.b.select(e.b.fcmp_unordered("uno", x, x), quiet, rounded), ints(_UPPER))


def _place_bf16(e: Emitter, i: Value) -> Value:
    half = e.b.and_(e.b.lshr(i, whole(4)), whole(1))
    return e.b.or_(e.b.and_(i, whole(32)), e.b.or_(e.b.shl(e.b.and_(i, whole(15)), whole(1)), half))


# IEEE halves: three bits more than bf16, and numbers to 65504; what is larger is stored as that.


def _widen_f16(e: Emitter, address: Value, w: int) -> Value:
    return chosen.half(e, e.load(_HALVES, address, 2 * LANES * w, 2))


def _narrow_f16(e: Emitter, vector: Value) -> Value:
    low, high = floats(-_LARGEST_HALF), floats(_LARGEST_HALF)
    vector = e.b.select(e.b.fcmp_ordered("<", vector, low), low, vector)
    vector = e.b.select(e.b.fcmp_ordered(">", vector, high), high, vector)
    return chosen.narrow(e, vector)


ELEMENTS = {
    "F32": Element(
        np.float32,
        lambda e, address, w: e.load(VF, address, 4 * LANES * w),
        lambda e, vectors: vectors,
        lambda e, address: e.load(VF, address),
        lambda e, vector: vector,
        lambda e, i: i,
    ),
    "F16": Element(
        np.float16,
        _widen_f16,
        lambda e, vectors: [_narrow_f16(e, vector) for vector in vectors],
        lambda e, address: _widen_f16(e, address, 0),
        _narrow_f16,
        lambda e, i: i,
    ),
    "BF16": Element(np.uint16, _widen_bf16, _narrow_bf16, _widen_bf16_alone, _narrow_bf16_alone, _place_bf16),
}


CODES = "I8"
FORMATS = (*ELEMENTS, CODES)


def pages(count: int, kv_heads: int, head_dim: int, element: str = "F16") -> LayerPages:
    """Storage of `count` pages of one layer; the system gives memory to a page when it is first written."""
    if element == CODES:
        shape = count, kv_heads, PAGE * (head_dim + SCALE)
        return LayerPages(_storage(shape, np.uint8), _storage(shape, np.uint8))
    kind = ELEMENTS[element].dtype
    keys, values = (count, kv_heads, head_dim, PAGE), (count, kv_heads, PAGE, head_dim)
    return LayerPages(_storage(keys, kind), _storage(values, kind))


def _storage(shape: tuple[int, ...], kind: type[np.generic]) -> np.ndarray:
    return aligned(int(np.prod(shape)) * np.dtype(kind).itemsize).view(kind).reshape(shape)


def element_of(store: LayerPages) -> str:
    """The format of a layer's pages."""
    if store.keys.dtype == np.uint8:
        return CODES
    return next(name for name, element in ELEMENTS.items() if store.keys.dtype == element.dtype)


def _part_bytes(_typing: Any, element: Any, head_dim: Any) -> Any:
    name = element.literal_value

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        e, head_dim = Emitter(builder), args[1]
        if name == CODES:
            return e.step(whole(PAGE * SCALE), head_dim, PAGE)
        return e.b.mul(head_dim, whole(PAGE * ELEMENTS[name].size))

    return types.intp(element, types.intp), generate


def _store_token(
    _typing: Any, element: Any, k: Any, v: Any, keys: Any, values: Any, slot: Any, head_dim: Any
) -> Any:
    name = element.literal_value

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        if name == CODES:
            store_codes(Emitter(builder), *args[1:])
        else:
            _store_floats(Emitter(builder), ELEMENTS[name], *args[1:])
        return context.get_dummy_value()

    return types.void(element, *([types.intp] * 6)), generate


# (element, head_dim) -> bytes of one head's keys, or values, in a page
part_bytes: Any = intrinsic(prefer_literal=True)(_part_bytes)

# (element, k, v, keys, values, slot, head_dim): write k and v, addresses of float32 [H], to position `slot`
# of one head's part of a page, at `keys` and `values`.
store_token: Any = intrinsic(prefer_literal=True)(_store_token)


def _store_floats(
    e: Emitter, kind: Element, k: Value, v: Value, keys: Value, values: Value, slot: Value, head_dim: Value
) -> None:
    row = e.b.mul(head_dim, whole(kind.size))
    _store_value(e, kind, v, e.b.add(values, e.b.mul(slot, row)), head_dim)
    _store_key(e, kind, k, e.step(keys, kind.place(e, slot), kind.size), head_dim)


def _store_value(e: Emitter, kind: Element, v: Value, target: Value, head_dim: Value) -> None:
    blocks = e.b.sdiv(head_dim, whole(PAGE))
    with e.loop(blocks) as i:
        source, at = e.step(v, i, 4 * PAGE), e.step(target, i, kind.size * PAGE)
        stored = kind.narrow(e, [e.load(VF, source, 4 * LANES * w) for w in range(VECTORS)])
        for w, vector in enumerate(stored):
            e.store(vector, at, kind.size * PAGE // len(stored) * w, align=kind.size)
    with e.loop(e.b.sdiv(head_dim, whole(LANES)), e.b.mul(blocks, whole(VECTORS))) as i:
        alone = kind.narrow_alone(e, e.load(VF, e.step(v, i, 4 * LANES)))
        e.store(alone, e.step(target, i, kind.size * LANES), align=kind.size)


def _store_key(e: Emitter, kind: Element, k: Value, target: Value, head_dim: Value) -> None:
    """Its numbers lie a row of 64 apart."""
    with e.loop(e.b.sdiv(head_dim, whole(LANES))) as i:
        column = kind.narrow_alone(e, e.load(VF, e.step(k, i, 4 * LANES)))
        for lane in range(LANES):
            number = e.b.extract_element(column, ir.Constant(I32, lane))
            at = e.step(target, i, kind.size * PAGE * LANES)
            e.store(number, at, kind.size * PAGE * lane, align=kind.size)
