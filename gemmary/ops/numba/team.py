"""The threads that play tapes: they stay awake for a moment after each, and sleep when nothing comes.

Threads of our own, not a thread layer of Numba's: a step needs all of them at once behind barriers, a
sleeping one must be woken once a step instead of once a kernel, and nothing may spin for long on a busy
machine.
"""

from __future__ import annotations

import os
import threading

import numpy as np
from numba import types

from ...errors import GemmaryError
from ...formats.jit import compiled_for
from .kernel import address_of
from .tape import Tape, play
from .threads import NAPS, SPINS, exchange, give_way, pause, read

# Places in the shared state; 0 counts arrivals at barriers.
_NUMBER, _WORDS, _COUNT, _SPINS, _ASLEEP = 16, 17, 18, 19, 32
_APART = 16  # numbers between two threads' flags, so that they lie in cache lines of their own


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Team:
    """`threads` threads, the caller among them. Only one caller at a time."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._process = os.getpid()
        self._state = np.zeros(_ASLEEP + _APART * threads, np.int64)
        self._state[_SPINS] = SPINS if threads <= usable_cores() else 0  # more threads than cores: never spin
        self._bells = [threading.Semaphore(0) for _ in range(threads)]
        self._busy = threading.Lock()
        for number in range(1, threads):
            name = f"gemmary-kernels-{number}"
            threading.Thread(target=self._work, args=(number,), name=name, daemon=True).start()

    def play(self, tape: Tape) -> None:
        """Run a tape to its end."""
        if os.getpid() != self._process:
            raise GemmaryError(
                "a model does not survive os.fork: start processes with the spawn method, and load it there"
            )
        words = tape.words
        with self._busy:
            tape.rewind()
            for number in _publish(address_of(self._state), address_of(words), len(words), self.threads):
                self._bells[number].release()
            play(address_of(words), len(words), address_of(self._state), self.threads, self._state[_SPINS])

    def _work(self, number: int) -> None:
        state, done = address_of(self._state), 0
        while True:
            done = _help(state, number, done, self.threads)
            self._bells[number].acquire()


@compiled_for(types.List(types.intp)(types.intp, types.intp, types.intp, types.intp))
def _publish(state: int, words: int, count: int, threads: int) -> list[int]:
    """Show a tape to all threads; the numbers of those that sleep."""
    exchange(state + 8 * _WORDS, words)
    exchange(state + 8 * _COUNT, count)
    exchange(state + 8 * _NUMBER, read(state + 8 * _NUMBER) + 1)
    return [n for n in range(1, threads) if exchange(state + 8 * (_ASLEEP + _APART * n), 0) == 1]


@compiled_for(types.intp(types.intp, types.intp, types.intp, types.intp))
def _help(state: int, number: int, done: int, threads: int) -> int:
    """Play tapes until none has come for a moment; the number of the last one played."""
    flag = state + 8 * (_ASLEEP + _APART * number)
    looks = 0
    while True:
        if read(state + 8 * _NUMBER) != done:
            done += 1
            exchange(flag, 0)
            words, count = read(state + 8 * _WORDS), read(state + 8 * _COUNT)
            play(words, count, state, threads, read(state + 8 * _SPINS))
            looks = 0
        elif looks < read(state + 8 * _SPINS):
            looks += 1
            pause()
        elif looks < SPINS + NAPS:
            looks += 1
            give_way()
        elif looks == SPINS + NAPS:
            looks += 1
            exchange(flag, 1)  # now a new tape rings the bell; one that came just before is seen above
        else:
            return done
