"""What the compiled kernels ask of the machine: threads, and a path of instructions."""

from __future__ import annotations

import threading
from functools import cache

from .instructions import chosen
from .team import Team
from .team import usable_cores as usable_cores

_here = threading.local()


def prepare(threads: int | None = None) -> int:
    """Set the threads that compute what the calling thread asks for (None: one a core); how many they are."""
    _here.team = _team(threads or usable_cores())
    return int(_here.team.threads)


def team() -> Team:
    """The threads that `prepare` chose for the calling thread, or one a core."""
    if not hasattr(_here, "team"):
        prepare()
    found: Team = _here.team
    return found


def path() -> str:
    """The instruction set that kernels are compiled for; GEMMARY_CPU forces another."""
    return str(chosen.NAME)


@cache
def _team(threads: int) -> Team:
    return Team(threads)
