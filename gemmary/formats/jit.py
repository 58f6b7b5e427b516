"""How the compiled functions of `formats/` are compiled: one place, so that no file differs.

There is no fastmath here: every value must have the same bits on every machine. `nogil` lets a loader
decode from several threads. The NumPy error model makes 1 / 0 infinite instead of raising.
"""

from numba import njit

compiled = njit(cache=True, nogil=True, error_model="numpy")
inlined = njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
