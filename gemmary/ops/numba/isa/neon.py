"""ARM with dot products: four lanes of signed bytes an instruction."""

from __future__ import annotations

import ctypes
import platform
import sys

from ..emit import F16, I16, I32, VB, VF, Emitter, Value, ir

NAME = "neon-dotprod"
TARGET: tuple[str, str] | None = None
NEEDS = ("dotprod",)
SIGNED_BIAS = 0

_QUARTER = ir.VectorType(I32, 4)
# Words of the kernel's list and their bits: AT_HWCAP and HWCAP_ASIMDDP, AT_HWCAP2 and HWCAP2_I8MM
_LINUX = {"dotprod": (16, 20), "i8mm": (26, 13)}


def untold() -> dict[str, bool]:
    """What an ARM has that LLVM 22 does not tell: on Linux it leaves out products of bytes, on a Mac all."""
    if platform.machine() not in ("aarch64", "arm64"):
        return {}
    if sys.platform == "darwin":
        return {"neon": True, "dotprod": True, "i8mm": _mac_says("hw.optional.arm.FEAT_I8MM")}  # M1: not i8mm
    if sys.platform == "linux":
        return {name: bool(_linux_says(word) >> bit & 1) for name, (word, bit) in _LINUX.items()}
    return {}


def _linux_says(word: int) -> int:
    ask = ctypes.CDLL(None).getauxval
    ask.restype, ask.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
    return int(ask(word))


def _mac_says(name: str) -> bool:
    found, size = ctypes.c_int(0), ctypes.c_size_t(4)
    ctypes.CDLL(None).sysctlbyname(
        name.encode(), ctypes.byref(found), ctypes.byref(size), None, ctypes.c_size_t(0)
    )
    return bool(found.value)


def dot_unsigned(e: Emitter, total: Value, codes: Value, x: Value) -> Value:
    """total + the four products of each lane; codes are bytes 0 .. 127, which are signed bytes too."""
    return dot_signed(e, total, codes, x)


def dot_signed(e: Emitter, total: Value, codes: Value, x: Value) -> Value:
    """The same for codes from -128 to 127."""
    operands = e.parts(total, 4), e.parts(e.cast(codes, VB), 16), e.parts(e.cast(x, VB), 16)
    name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
    return e.joined([e.call(name, _QUARTER, *lanes) for lanes in zip(*operands, strict=True)])


def half(e: Emitter, bits: Value) -> Value:
    """Sixteen IEEE halves as floats."""
    return e.b.fpext(e.cast(bits, ir.VectorType(F16, 16)), VF)


def narrow(e: Emitter, values: Value) -> Value:
    """Sixteen floats of at most 65504 as IEEE halves, rounded to nearest, ties to even; NaN stays NaN."""
    return e.cast(e.b.fptrunc(values, ir.VectorType(F16, 16)), ir.VectorType(I16, 16))


def pause(e: Emitter) -> None:
    """Tell the core that this thread is waiting."""
    e.call("llvm.aarch64.hint", ir.VoidType(), ir.Constant(I32, 1))
