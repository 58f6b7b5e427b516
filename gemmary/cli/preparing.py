"""The one long wait of a new installation: kernels are compiled for the processor that there is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .terminal import Waiting

PREPARING = "Preparing kernels for this processor, once"


@contextmanager
def preparing(wait: Waiting) -> Iterator[None]:
    """Say so, in the place of what else is said, when something has to be compiled meanwhile."""
    from ..formats.codecache import announced

    with announced(lambda: wait.say(PREPARING, line=True)):
        yield
