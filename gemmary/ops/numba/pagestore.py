"""Keys and values as pages hold them: element formats, storage, and writing new tokens.

A page has 64 positions of every key/value head: keys [P, K, H, 64], transposed, so that one vector is the same
column of sixteen keys, and values [P, K, 64, H].
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
from .emit import I16, LANES, VF, VI, Emitter, Value, ints, whole

_UPPER = -65536  # mask of the upper half of 32 bits
VH = ir.VectorType(I16, LANES)


@dataclass(frozen=True)
class Element:
    """How a number lies in a page.

    `narrow(e, vectors)` makes floats into what is stored, and `widen(e, address, n)` reads n vectors of floats again:
    four that lie together, or one alone. `place(e, slot)` is where number `slot` of 64 lies.
    """

    dtype: type[np.generic]
    widen: Callable[[Emitter, Value, int], list[Value]]
    narrow: Callable[[Emitter, list[Value]], list[Value]]
    place: Callable[[Emitter, Value], Value]

    @property
    def size(self) -> int:
        """Bytes of a number."""
        return np.dtype(self.dtype).itemsize


def _widen_f32(e: Emitter, address: Value, count: int) -> list[Value]:
    return [e.load(VF, address, 4 * LANES * w) for w in range(count)]


# Two vectors of bf16 share sixteen 32-bit words, the first in the lower halves: a shift and a mask take them apart.


def _widen_bf16(e: Emitter, address: Value, count: int) -> list[Value]:
    if count == 1:
        return [e.cast(e.b.shl(e.b.zext(e.load(VH, address, align=2), VI), ints(16)), VF)]
    vectors = []
    for w in range(count // 2):
        pair = e.load(VI, address, 4 * LANES * w, 2)
        vectors += [e.b.shl(pair, ints(16)), e.b.and_(pair, ints(_UPPER))]
    return [e.cast(vector, VF) for vector in vectors]


def _narrow_bf16(e: Emitter, vectors: list[Value]) -> list[Value]:
    rounded = [_rounded_bf16(e, x) for x in vectors]
    if len(rounded) == 1:
        return [e.b.trunc(e.b.lshr(rounded[0], ints(16)), VH)]
    pairs = zip(rounded[::2], rounded[1::2], strict=True)
    return [e.b.or_(e.b.lshr(low, ints(16)), high) for low, high in pairs]


def _rounded_bf16(e: Emitter, x: Value) -> Value:
    """The bits of floats, the lower half zero: rounded to nearest, ties to even; NaN stays NaN."""
    bits = e.cast(x, VI)
    even = e.b.and_(e.b.lshr(bits, ints(16)), ints(1))
    rounded = e.b.add(bits, e.b.add(even, ints(0x7FFF)))
    damaged = e.b.or_(bits, ints(0x400000))
    return e.b.and_(e.b.select(e.b.fcmp_unordered("uno", x, x), damaged, rounded), ints(_UPPER))


def _place_bf16(e: Emitter, slot: Value) -> Value:
    """Of 32 numbers, i and 16 + i are neighbours."""
    half = e.b.and_(e.b.lshr(slot, whole(4)), whole(1))
    return e.b.or_(e.b.and_(slot, whole(32)), e.b.or_(e.b.shl(e.b.and_(slot, whole(15)), whole(1)), half))


ELEMENTS = {
    "F32": Element(np.float32, _widen_f32, lambda e, vectors: vectors, lambda e, slot: slot),
    "BF16": Element(np.uint16, _widen_bf16, _narrow_bf16, _place_bf16),
}


def pages(count: int, kv_heads: int, head_dim: int, element: str = "BF16") -> LayerPages:
    """Storage of `count` pages of one layer; memory is taken when a page is first written."""
    kind = ELEMENTS[element].dtype
    keys, values = (count, kv_heads, head_dim, PAGE), (count, kv_heads, PAGE, head_dim)
    return LayerPages(np.empty(keys, kind), np.empty(values, kind))


def element_of(store: LayerPages) -> str:
    """The format of a layer's pages."""
    return next(name for name, element in ELEMENTS.items() if store.keys.dtype == element.dtype)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def size_of(_typing: Any, element: Any) -> Any:
    """Bytes of a number in the format that is named."""
    size = ELEMENTS[element.literal_value].size
    return types.intp(element), lambda _context, _builder, _signature, _args: ir.Constant(ir.IntType(64), size)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def store_token(
    _typing: Any, element: Any, k: Any, v: Any, keys: Any, values: Any, slot: Any, head_dim: Any
) -> Any:
    """Write k and v (addresses of float32 [H]) to position `slot` of one head's page (addresses of its start)."""
    kind = ELEMENTS[element.literal_value]

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        _emit_store(Emitter(builder), kind, *args[1:])
        return context.get_dummy_value()

    return types.void(element, *([types.intp] * 6)), generate


def _emit_store(
    e: Emitter, kind: Element, k: Value, v: Value, keys: Value, values: Value, slot: Value, head_dim: Value
) -> None:
    key = e.step(keys, kind.place(e, slot), kind.size)
    value = e.b.add(values, e.b.mul(slot, e.b.mul(head_dim, whole(kind.size))))
    blocks = e.b.sdiv(head_dim, whole(PAGE))
    with e.loop(blocks) as i:
        _store_vectors(e, kind, e.step(v, i, 4 * PAGE), e.step(value, i, kind.size * PAGE), PAGE // LANES)
    with e.loop(e.b.sdiv(head_dim, whole(LANES)), e.b.mul(blocks, whole(PAGE // LANES))) as i:
        _store_vectors(e, kind, e.step(v, i, 4 * LANES), e.step(value, i, kind.size * LANES), 1)
    with e.loop(e.b.sdiv(head_dim, whole(LANES))) as i:
        column = kind.narrow(e, [e.load(VF, e.step(k, i, 4 * LANES))])[0]
        at = e.step(key, i, kind.size * LANES * PAGE)
        for lane in range(LANES):
            number = e.b.extract_element(column, ir.Constant(ir.IntType(32), lane))
            e.store(number, at, kind.size * PAGE * lane, align=kind.size)


def _store_vectors(e: Emitter, kind: Element, source: Value, target: Value, count: int) -> None:
    stored = kind.narrow(e, _widen_f32(e, source, count))
    for i, vector in enumerate(stored):
        e.store(vector, target, kind.size * LANES * count // len(stored) * i, align=2)
