"""A kernel: compiled code behind one address, called as kernel(arguments, piece).

All kernels have one shape, so that a step is a list of (kernel, arguments, how many pieces) that compiled
code walks through (`tape`). Arguments are a record of addresses and numbers; a piece is a share of the work
that any thread may take. Pieces of one kernel write to different places, so who takes which changes no bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import carray, from_dtype, types  # type: ignore[attr-defined]
from numba.extending import intrinsic, register_jitable

from ...formats.jit import callback
from .emit import Emitter

ADDRESS, COUNT, NUMBER = np.intp, np.int64, np.float32  # kinds of arguments


class Kernel:
    """A function (arguments, piece) of compiled code: compiled, or read from the cache, when first used."""

    def __init__(self, body: Callable[..., None], fields: np.dtype[Any]) -> None:
        self.fields = fields
        self._body = body
        self._compiled: Any = None

    @property
    def address(self) -> int:
        """Where its code is."""
        if self._compiled is None:
            signature = types.void(types.CPointer(from_dtype(self.fields)), types.intp)
            self._compiled = callback(signature, self._body)
        return int(self._compiled.address)

    def arguments(self, **values: Any) -> npt.NDArray[Any]:
        """A record [1]; arrays are given as themselves, None as address 0. Who passes it keeps the arrays."""
        record = np.zeros(1, self.fields)
        for name, value in values.items():
            record[name] = address_of(value) if value is None or isinstance(value, np.ndarray) else value
        return record


def kernel(**fields: Any) -> Callable[[Callable[..., None]], Kernel]:
    """A kernel whose arguments have these names and kinds."""
    layout = np.dtype(list(fields.items()), align=True)
    return lambda body: Kernel(body, layout)


def address_of(array: npt.NDArray[Any] | None) -> int:
    """Where an array's first element is; 0 for None."""
    # `array.ctypes.data` says the same and takes four microseconds, twenty times a token
    return 0 if array is None else int(array.__array_interface__["data"][0])


@register_jitable(forceinline=True)
def record(pointer: Any) -> Any:
    """The arguments of a running kernel."""
    return carray(pointer, (1,))[0]


def _pointer(kind: Any, element: Any) -> Any:
    def define(_typing: Any, address: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return Emitter(builder).b.inttoptr(args[0], element.as_pointer())

        return types.CPointer(kind)(types.intp), generate

    return intrinsic(define)


_floats, _ints = _pointer(types.float32, ir.FloatType()), _pointer(types.int32, ir.IntType(32))
_bytes, _halves = _pointer(types.uint8, ir.IntType(8)), _pointer(types.uint16, ir.IntType(16))


@register_jitable(forceinline=True)
def floats_at(address: int, count: int) -> Any:
    """float32 [count] at an address."""
    return carray(_floats(address), (count,))


@register_jitable(forceinline=True)
def ints_at(address: int, count: int) -> Any:
    """int32 [count] at an address."""
    return carray(_ints(address), (count,))


@register_jitable(forceinline=True)
def halves_at(address: int, count: int) -> Any:
    """uint16 [count] at an address."""
    return carray(_halves(address), (count,))


@register_jitable(forceinline=True)
def bytes_at(address: int, count: int) -> Any:
    """uint8 [count] at an address."""
    return carray(_bytes(address), (count,))
