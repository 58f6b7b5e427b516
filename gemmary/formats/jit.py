"""How functions are compiled: one place, so that no file differs, and all are kept for the next start.

There is no fastmath here: every value must have the same bits on every machine. `nogil` lets a loader
decode from several threads. The NumPy error model makes 1 / 0 infinite instead of raising.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit
from numba.core import sigutils
from numba.core.ccallback import CFunc

from gemmary.formats.codecache import CodeCache

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compiled when first called, for each kind of arguments."""
    return _kept(njit(nogil=True, error_model="numpy")(function))


def inlined(function: Function) -> Function:
    """The same, and put into the code of whoever calls it."""
    return _kept(njit(nogil=True, error_model="numpy", forceinline=True)(function))


def compiled_for(signature: Any) -> Callable[[Function], Function]:
    """Compiled for these arguments only, at once."""

    def decorate(function: Function) -> Function:
        dispatcher: Any = compiled(function)
        dispatcher.compile(signature)
        dispatcher.disable_compile()
        return cast(Function, dispatcher)

    return decorate


def callback(signature: Any, function: Any) -> Any:
    """A C function, compiled at once: its `address` can be called."""
    made: Any = CFunc(function, sigutils.normalize_signature(signature), {}, {"error_model": "numpy"})
    made._cache = CodeCache(function)
    made.compile()
    return made


def _kept(dispatcher: Any) -> Any:
    dispatcher._cache = CodeCache(dispatcher.py_func)
    return dispatcher
