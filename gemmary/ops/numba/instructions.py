"""Which instruction set the kernels are compiled for; chosen once, before anything is compiled.

The environment variable GEMMARY_CPU forces one: avx512-vnni, avx-vnni, avx2, neon-i8mm, neon-dotprod or
generic.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

import numba
from llvmlite import binding

from ...errors import UnsupportedModelError
from .isa import avx2, avx512, avxvnni, generic, neon, neon_i8mm

_ARM = (neon_i8mm, neon)
_BEST_FIRST = (avx512, avxvnni, avx2, *_ARM)
_ALL = {module.NAME: module for module in (*_BEST_FIRST, generic)}


def features() -> frozenset[str]:
    """What this machine's processor has, in LLVM's words."""
    return frozenset(name for name, there in _known().items() if there)


def _known() -> dict[str, bool]:
    try:
        found = dict(binding.get_host_cpu_features())
    except RuntimeError:  # LLVM cannot tell on this system
        found = {}
    return found | neon.untold()


def choose(wanted: str | None, has: frozenset[str]) -> Any:
    """The instruction set's module. UnsupportedModelError where a forced one is unknown or absent."""
    if not wanted:
        return next((module for module in _BEST_FIRST if _fits(module, has)), generic)
    if wanted not in _ALL:
        raise UnsupportedModelError(f"GEMMARY_CPU={wanted} is none of: " + ", ".join(_ALL))
    if wanted != generic.NAME and not _fits(_ALL[wanted], has):
        raise UnsupportedModelError(
            f"GEMMARY_CPU={wanted}: this processor cannot run that; unset it, or take generic"
        )
    return _ALL[wanted]


def _fits(module: ModuleType, has: frozenset[str]) -> bool:
    if module is avxvnni and {"avx512vnni", "avx512vl"} <= has:
        return True
    return set(module.NEEDS) <= has


def _compile_for(module: Any, has: frozenset[str]) -> None:
    """Let Numba use no instruction that a forced path must do without, and all that an ARM has."""
    target = module.TARGET
    if module in _ARM:
        target = None, ",".join(f"{'+' if there else '-'}{name}" for name, there in _known().items())
    if module is avxvnni and "avxvnni" not in has:
        target = avxvnni.TARGET_EVEX
    if target is not None:
        numba.config.CPU_NAME, numba.config.CPU_FEATURES = target  # type: ignore[attr-defined]


_forced, _has = os.environ.get("GEMMARY_CPU"), features()
chosen: Any = choose(_forced, _has)
if _forced or chosen in _ARM:
    _compile_for(chosen, _has)
