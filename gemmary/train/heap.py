"""Memory that the C library keeps for itself: buffers of changing size, freed by several threads, leave holes
in its heaps that it does not give back. A run of a thousand steps at nano size grew from 2 to 6 GB that way.
"""

from __future__ import annotations

import ctypes

EVERY = 20  # steps between two times; a tidied heap has to be asked for anew, which takes milliseconds


def tidy(step: int) -> None:
    """Now and then, give what is free back to the system. C libraries that lack this do so by themselves."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None and step % EVERY == 0:
        trim(0)
