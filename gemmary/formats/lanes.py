"""Sixteen bytes at once, for compiled code.

The compiler unrolls loops of 16 or 32 bytes into scalar code before it looks for vectors, so the blocks of
`formats/` name the vectors themselves. They are portable LLVM vectors: AVX, NEON or plain registers.
Indices are in elements of contiguous 1-D arrays, and nothing checks bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model
from numba.np.arrayobj import make_array

WIDTH = 16
_BYTES = ir.VectorType(ir.IntType(8), WIDTH)
_FLOATS = ir.VectorType(ir.FloatType(), WIDTH)


class Lanes(types.Type):
    """The compiler's type of sixteen bytes in a register."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes = Lanes()


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    """Lanes are an LLVM vector."""

    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _BYTES)  # type: ignore[no-untyped-call]


def operation(define: Callable[..., Any]) -> Any:
    """`intrinsic`, whose stub expects what a call does not have."""
    return intrinsic(define)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, at: Any, vector: Any) -> Any:
    """The address of element `at`, as that of a vector."""
    first = make_array(kind)(context, builder, array).data  # type: ignore[no-untyped-call]
    return builder.bitcast(builder.gep(first, [at]), vector.as_pointer())


def _splat(builder: Any, scalar: Any, vector: Any) -> Any:
    """`scalar` in every lane."""
    empty = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(empty, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, empty, ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH))


@operation
def load(_typing: Any, array: Any, at: Any) -> Any:
    """Bytes at .. at + 15 of a uint8 array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array_, at_ = args
        value = builder.load(_pointer(context, builder, signature.args[0], array_, at_, _BYTES))
        value.align = 1
        return value

    return lanes(array, types.intp), generate


@operation
def store(_typing: Any, array: Any, at: Any, value: Any) -> Any:
    """Write lanes to elements at .. at + 15 of an int8 or uint8 array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array_, at_, value_ = args
        pointer = _pointer(context, builder, signature.args[0], array_, at_, _BYTES)
        builder.store(value_, pointer, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@operation
def flags(_typing: Any, bits: Any) -> Any:
    """1 in lane e where bit e of a uint16 is set, else 0."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.zext(builder.bitcast(args[0], ir.VectorType(ir.IntType(1), WIDTH)), _BYTES)

    return lanes(types.uint16), generate


@operation
def field(_typing: Any, value: Any, first: Any, mask: Any) -> Any:
    """(value >> first) & mask in each lane."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        value_, first_, mask_ = args
        return builder.and_(
            builder.lshr(value_, _splat(builder, first_, _BYTES)), _splat(builder, mask_, _BYTES)
        )

    return lanes(lanes, types.uint8, types.uint8), generate


@operation
def join(_typing: Any, low: Any, high: Any, first: Any) -> Any:
    """low | (high << first) in each lane."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        low_, high_, first_ = args
        return builder.or_(low_, builder.shl(high_, _splat(builder, first_, _BYTES)))

    return lanes(lanes, lanes, types.uint8), generate


@operation
def less(_typing: Any, value: Any, zero: Any) -> Any:
    """value - zero in each lane, modulo 256."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.sub(args[0], _splat(builder, args[1], _BYTES))

    return lanes(lanes, types.uint8), generate


@operation
def spread(_typing: Any, value: Any, scale: Any, add: Any, out: Any, at: Any) -> Any:
    """Write scale * value + add, signed lanes, two float32 roundings, to out[at : at + 16]."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value_, scale_, add_, out_, at_ = args
        product = builder.fmul(builder.sitofp(value_, _FLOATS), _splat(builder, scale_, _FLOATS))
        total = builder.fadd(product, _splat(builder, add_, _FLOATS))
        pointer = _pointer(context, builder, signature.args[3], out_, at_, _FLOATS)
        builder.store(total, pointer, align=4)
        return context.get_dummy_value()

    return types.void(lanes, types.float32, types.float32, out, types.intp), generate
