"""What compiled code needs to let threads work together: atomic numbers, barriers, calls by address."""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from .emit import I32, I64, Emitter, Value, inline
from .instructions import chosen

SPINS = 2000  # looks at a number before the processor is offered to others: some 20 microseconds
NAPS = 200  # offers, before waiting is left to the operating system


@inline(types.intp, types.intp, types.intp)
def add(e: Emitter, address: Value, value: Value) -> Value:
    """Add to the number at an address; what it was before."""
    return e.b.atomic_rmw("add", e.b.inttoptr(address, I64.as_pointer()), value, "acq_rel")


@inline(types.intp, types.intp, types.intp)
def exchange(e: Emitter, address: Value, value: Value) -> Value:
    """Replace the number at an address; what it was before."""
    return e.b.atomic_rmw("xchg", e.b.inttoptr(address, I64.as_pointer()), value, "seq_cst")


@inline(types.intp, types.intp)
def read(e: Emitter, address: Value) -> Value:
    """The number at an address, as other threads left it."""
    return e.b.load_atomic(e.b.inttoptr(address, I64.as_pointer()), "acquire", 8)


@inline(types.void)
def pause(e: Emitter) -> None:
    """A moment of waiting."""
    chosen.pause(e)


@inline(types.void)
def give_way(e: Emitter) -> None:
    """Let another thread have the processor."""
    if sys.platform == "win32":
        e.call("SwitchToThread", I32)
    else:
        e.call("sched_yield", I32)


def _call(_typing: Any, _address: Any, _arguments: Any, _piece: Any) -> Any:
    """Call the kernel at an address."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, I64])
        function = builder.inttoptr(args[0], kind.as_pointer())
        builder.call(function, [builder.inttoptr(args[1], cgutils.voidptr_t), args[2]])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


call: Any = intrinsic(_call)  # (address, arguments, piece)


@njit(inline="always")
def meet(arrived: int, threads: int, spins: int) -> None:
    """Wait until all threads are here; `spins` looks, then the processor is offered to others.

    `arrived` is the address of a number that only ever grows.
    """
    target = (add(arrived, 1) // threads + 1) * threads
    looks = 0
    while read(arrived) < target:
        looks += 1
        if looks < spins:
            pause()
        else:
            give_way()
