"""How the compiled functions of `formats/` are compiled: one place, so that no file differs.

There is no fastmath here: every value must have the same bits on every machine. `nogil` lets a loader
decode from several threads. The NumPy error model makes 1 / 0 infinite instead of raising.
"""

from numba import njit

from gemmary.formats import codecache as codecache  # before anything is compiled

compiled = njit(cache=True, nogil=True, error_model="numpy")
inlined = njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
