"""Dot products of float rows in arrays, for norms and for single rows of the table.

The bit rule is that of `floatrows`: sixteen lanes (index mod 16), a fixed tree, the remainder in order.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import impl_ret_untracked
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

_I16, _I32, _I64 = (ir.IntType(n) for n in (16, 32, 64))
_F32 = ir.FloatType()
_LANES = 16
_VF = ir.VectorType(_F32, _LANES)


def _address(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    """Pointer to element `offset` of a contiguous 1-D array."""
    return builder.gep(make_array(kind)(context, builder, array).data, [offset])


def _load(builder: Any, pointer: Any, vector: Any, align: int) -> Any:
    value = builder.load(builder.bitcast(pointer, vector.as_pointer()))
    value.align = align
    return value


def _widen_f32(builder: Any, value: Any, count: int) -> Any:
    return value


def _widen_bf16(builder: Any, value: Any, count: int) -> Any:
    wide = ir.VectorType(_I32, count)
    high = builder.shl(builder.zext(value, wide), ir.Constant(wide, [16] * count))
    return builder.bitcast(high, ir.VectorType(_F32, count))


def _widen_f16(builder: Any, value: Any, count: int) -> Any:
    """IEEE half to float by integer arithmetic: exponents move by 112, subnormals scale exactly."""
    wide, floats = ir.VectorType(_I32, count), ir.VectorType(_F32, count)

    def splat(number: int) -> Any:
        return ir.Constant(wide, [number] * count)

    bits = builder.zext(value, wide)
    magnitude = builder.shl(builder.and_(bits, splat(0x7FFF)), splat(13))
    sign = builder.shl(builder.and_(bits, splat(0x8000)), splat(16))
    scaled = builder.fmul(builder.bitcast(magnitude, floats), ir.Constant(floats, [2.0**112] * count))
    special = builder.or_(magnitude, splat(0x7F800000))
    is_special = builder.icmp_unsigned(">=", magnitude, splat(0x7C00 << 13))
    chosen = builder.select(is_special, special, builder.bitcast(scaled, wide))
    return builder.bitcast(builder.or_(chosen, sign), floats)


def _tree(builder: Any, lanes: Any) -> Any:
    """((l0+l8)+(l4+l12)) + ... : halves added until one is left."""
    count = _LANES
    while count > 1:
        count //= 2
        undefined = ir.Constant(lanes.type, ir.Undefined)
        low, high = (
            builder.shuffle_vector(
                lanes, undefined, ir.Constant(ir.VectorType(_I32, count), list(range(start, start + count)))
            )
            for start in (0, count)
        )
        lanes = builder.fadd(low, high)
    return builder.extract_element(lanes, ir.Constant(_I32, 0))


def _float_dot(stored: Any, size: int, widen: Any) -> Any:
    """An intrinsic for w . x over n elements; w is stored in 16 or 32 bits, x is float32."""

    @intrinsic
    def dot(_typing: Any, w: Any, w_at: Any, x: Any, x_at: Any, n: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            w_at_, x_at_, count = args[1], args[3], args[4]

            def operand(index: int, at: Any, i: Any, lanes: int) -> Any:
                pointer = _address(context, builder, signature.args[index], args[index], builder.add(at, i))
                kind = (stored, size) if index == 0 else (_F32, 4)
                value = _load(builder, pointer, ir.VectorType(kind[0], lanes), kind[1])
                return widen(builder, value, lanes) if index == 0 else value

            def accumulate(total: Any, i: Any, lanes: int) -> None:
                vector = ir.VectorType(_F32, lanes)
                fused = cgutils.get_or_insert_function(
                    builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f32"
                )
                product = [operand(0, w_at_, i, lanes), operand(2, x_at_, i, lanes)]
                builder.store(builder.call(fused, [*product, builder.load(total)]), total)

            lanes = cgutils.alloca_once_value(builder, ir.Constant(_VF, [0.0] * _LANES))
            rest = cgutils.alloca_once_value(builder, ir.Constant(ir.VectorType(_F32, 1), [0.0]))
            whole = builder.and_(count, ir.Constant(_I64, -_LANES))
            with cgutils.for_range_slice(builder, ir.Constant(_I64, 0), whole, ir.Constant(_I64, _LANES)) as (
                i,
                _,
            ):
                accumulate(lanes, i, _LANES)
            with cgutils.for_range_slice(builder, whole, count, ir.Constant(_I64, 1)) as (i, _):
                accumulate(rest, i, 1)
            tail = builder.extract_element(builder.load(rest), ir.Constant(_I32, 0))
            result = builder.fadd(_tree(builder, builder.load(lanes)), tail)
            return impl_ret_untracked(context, builder, types.float32, result)

        return types.float32(w, types.intp, x, types.intp, types.intp), generate

    return dot


dot_f32 = _float_dot(_F32, 4, _widen_f32)  # (w [m], w_at, x float32 [k], x_at, n) -> float32
dot_f16 = _float_dot(_I16, 2, _widen_f16)  # w as uint16 bits
dot_bf16 = _float_dot(_I16, 2, _widen_bf16)
