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
from .emit import I16, LANES, VF, VI, Emitter, Value, ints

VH = ir.VectorType(I16, LANES)


@dataclass(frozen=True)
class Element:
    """How a number lies in a page: its NumPy type, sixteen of them as floats, and sixteen floats made into them."""

    dtype: type[np.generic]
    widen: Callable[[Emitter, Value], Value]  # (e, address) -> floats
    narrow: Callable[[Emitter, Value], Value]  # (e, floats) -> vector of stored numbers

    @property
    def size(self) -> int:
        """Bytes of a number."""
        return np.dtype(self.dtype).itemsize


def _widen_bf16(e: Emitter, address: Value) -> Value:
    return e.cast(e.b.shl(e.b.zext(e.load(VH, address, align=2), VI), ints(16)), VF)


def _narrow_bf16(e: Emitter, x: Value) -> Value:
    """The upper half of each float, rounded to nearest, ties to even; NaN stays NaN."""
    bits = e.cast(x, VI)
    high = e.b.lshr(bits, ints(16))
    even = e.b.add(e.b.and_(high, ints(1)), ints(0x7FFF))
    rounded = e.b.lshr(e.b.add(bits, even), ints(16))
    damaged = e.b.fcmp_unordered("uno", x, x)
    return e.b.trunc(e.b.select(damaged, e.b.or_(high, ints(0x40)), rounded), VH)


ELEMENTS = {
    "F32": Element(np.float32, lambda e, address: e.load(VF, address), lambda e, x: x),
    "BF16": Element(np.uint16, _widen_bf16, _narrow_bf16),
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
    key = e.step(keys, slot, kind.size)
    value = e.b.add(values, e.b.mul(slot, e.b.mul(head_dim, ir.Constant(slot.type, kind.size))))
    with e.loop(e.b.sdiv(head_dim, ir.Constant(slot.type, LANES))) as i:
        e.store(
            kind.narrow(e, e.load(VF, e.step(v, i, 4 * LANES))), e.step(value, i, kind.size * LANES), align=2
        )
        column = kind.narrow(e, e.load(VF, e.step(k, i, 4 * LANES)))
        at = e.step(key, i, kind.size * LANES * PAGE)
        for lane in range(LANES):
            number = e.b.extract_element(column, ir.Constant(ir.IntType(32), lane))
            e.store(number, at, kind.size * PAGE * lane, align=kind.size)
