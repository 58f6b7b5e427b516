"""Writing LLVM vectors: the few operations that the kernels' inner loops are made of.

Everything is sixteen lanes wide: one weight row a lane, whatever the machine's registers hold. LLVM cuts the
vectors to the registers that there are; only the integer dot product has to be spelled for each instruction
set (`isa/`). Addresses are integers (`intp` in Numba's words), turned into pointers where they are read.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir as ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
F16, F32 = ir.HalfType(), ir.FloatType()
LANES = 16
VB = ir.VectorType(I8, 4 * LANES)  # four columns of sixteen rows
VI = ir.VectorType(I32, LANES)
VF = ir.VectorType(F32, LANES)

Value = Any  # of llvmlite, which has no types


def whole(number: int) -> Value:
    """An integer constant, 64 bit."""
    return ir.Constant(I64, number)


def ints(number: int) -> Value:
    """An integer in each of sixteen lanes."""
    return ir.Constant(VI, [number] * LANES)


def floats(number: float) -> Value:
    """A float in each of sixteen lanes."""
    return ir.Constant(VF, [number] * LANES)


class Emitter:
    """An IR builder that knows sixteen lanes."""

    def __init__(self, builder: Any) -> None:
        self.b = builder
        # LLVM may turn a sum of two integers that is used as an address into a pointer made of either of
        # them. Where that one later becomes the constant 0, it takes the access for one through a null
        # pointer, and removes the code as unreachable, unless the function says that address 0 is like any
        # other.
        set.add(builder.function.attributes, "null_pointer_is_valid")  # a name that llvmlite does not know

    def at(self, address: Value, offset: int) -> Value:
        """address + offset bytes."""
        return self.b.add(address, whole(offset)) if offset else address

    def step(self, address: Value, index: Value, size: int) -> Value:
        """address + index * size bytes."""
        return self.b.add(address, self.b.mul(index, whole(size)))

    def load(self, kind: Any, address: Value, offset: int = 0, align: int = 4) -> Value:
        """A value of `kind` from memory."""
        value = self.b.load(self.b.inttoptr(self.at(address, offset), kind.as_pointer()))
        value.align = align
        return value

    def store(self, value: Value, address: Value, offset: int = 0, align: int = 4) -> None:
        """Write a value to memory."""
        self.b.store(value, self.b.inttoptr(self.at(address, offset), value.type.as_pointer()), align=align)

    def prefetch(self, address: Value, offset: int = 0, cache: int = 1) -> None:
        """Ask for a line of memory, into the first or second cache; a wrong address does no harm."""
        place = self.b.inttoptr(self.at(address, offset), I8.as_pointer())
        how = (ir.Constant(I32, number) for number in (0, 4 - cache, 1))  # to be read, how near, data
        self.call("llvm.prefetch.p0", ir.VoidType(), place, *how)

    def splat(self, scalar: Value, lanes: int = LANES) -> Value:
        """A scalar in every lane."""
        empty = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
        one = self.b.insert_element(empty, scalar, ir.Constant(I32, 0))
        return self.b.shuffle_vector(one, empty, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))

    def call(self, name: str, result: Any, *args: Value) -> Value:
        """An LLVM intrinsic or a function of the C library."""
        kind = ir.FunctionType(result, [value.type for value in args])
        return self.b.call(cgutils.get_or_insert_function(self.b.module, kind, name), args)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c with one rounding, in each lane."""
        return self.call(f"llvm.fma.v{a.type.count}f32", a.type, a, b, c)

    def part(self, vector: Value, first: int, count: int) -> Value:
        """Lanes first .. first + count - 1."""
        order = ir.Constant(ir.VectorType(I32, count), list(range(first, first + count)))
        return self.b.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), order)

    def join(self, low: Value, high: Value) -> Value:
        """The lanes of two vectors of one type, one after the other."""
        count = 2 * low.type.count
        return self.b.shuffle_vector(low, high, ir.Constant(ir.VectorType(I32, count), list(range(count))))

    def parts(self, vector: Value, count: int) -> list[Value]:
        """The vector in pieces of `count` lanes."""
        return [self.part(vector, i, count) for i in range(0, vector.type.count, count)]

    def joined(self, parts: list[Value]) -> Value:
        """The inverse of `parts`."""
        while len(parts) > 1:
            parts = [self.join(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    def cast(self, value: Value, kind: Any) -> Value:
        """The same bits as another type."""
        return value if value.type == kind else self.b.bitcast(value, kind)

    def as_float(self, value: Value) -> Value:
        """int32 lanes as float32, exactly where they are below 2^24."""
        return self.b.sitofp(value, ir.VectorType(F32, value.type.count))

    def variable(self, value: Value) -> Value:
        """A place in the frame that starts with `value`; LLVM keeps it in a register."""
        return cgutils.alloca_once_value(self.b, value)

    @contextmanager
    def loop(self, count: Value, start: Value | None = None) -> Iterator[Value]:
        """for i in range(start or 0, count)."""
        begin = whole(0) if start is None else start
        with cgutils.for_range_slice(self.b, begin, count, whole(1)) as (i, _):
            yield i


def inline(result: Any, *parameters: Any) -> Callable[[Callable[..., Value]], Any]:
    """A function of compiled code whose body is emitted: body(emitter, *values) returns a value or None."""

    def decorate(body: Callable[..., Value]) -> Any:
        def define(_typing: Any, *_args: Any) -> Any:
            def generate(context: Any, builder: Any, _signature: Any, args: Sequence[Value]) -> Any:
                value = body(Emitter(builder), *args)
                return context.get_dummy_value() if result is types.void else value

            return result(*parameters), generate

        # Numba looks at the signature to bind arguments, and knows no variable number of them.
        names = ["typing", *(f"a{i}" for i in range(len(parameters)))]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        define.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])  # type: ignore[attr-defined]
        define.__name__, define.__doc__ = body.__name__, body.__doc__
        return intrinsic(define)

    return decorate
