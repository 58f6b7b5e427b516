"""Tapes and the threads that play them: in order, every piece once, by any number, awake or asleep."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemmary.ops.numba import team as module
from gemmary.ops.numba.kernel import ADDRESS, COUNT, ints_at, kernel, record
from gemmary.ops.numba.tape import Tape
from gemmary.ops.numba.team import Team
from gemmary.ops.numba.threads import add, exchange

THREADS = (1, 2, 3, 7, 16)


@kernel(counts=ADDRESS)
def tick(args: Any, piece: int) -> None:
    """counts[piece] += 1."""
    add(record(args).counts + 8 * piece, 1)


@kernel(x=ADDRESS, out=ADDRESS, n=COUNT)
def shift(args: Any, piece: int) -> None:
    """out[piece] = x[piece + 1] + 1: needs what another piece of the step before wrote."""
    a = record(args)
    ints_at(a.out, a.n)[piece] = ints_at(a.x, a.n)[(piece + 1) % a.n] + 1


@kernel(place=ADDRESS, value=COUNT)
def put(args: Any, piece: int) -> None:
    """Write a number."""
    a = record(args)
    exchange(a.place, a.value)


@kernel(told=ADDRESS, pieces=COUNT)
def tell(args: Any, piece: int) -> None:
    """Write the number of pieces that the kernel was told."""
    a = record(args)
    exchange(a.told, a.pieces)


def chain(length: int, n: int) -> tuple[Tape, np.ndarray, list[np.ndarray]]:
    """A tape that shifts numbers to and fro; where they begin, and all that must be kept."""
    x = [np.arange(n, dtype=np.int32), np.empty(n, np.int32)]
    tape = Tape()
    for i in range(length):
        tape.add(shift, n, x=x[i % 2], out=x[(i + 1) % 2], n=n)
    return tape, x[length % 2], x


def shifted(length: int, n: int) -> np.ndarray:
    return np.roll(np.arange(n), -length) + length


@pytest.mark.parametrize("threads", THREADS)
def test_every_piece_is_taken_once(threads: int) -> None:
    counts, tape = np.zeros(1000, np.int64), Tape()
    for pieces in (1000, 1, 37, 0, 500):
        tape.add(tick, pieces, waits=False, counts=counts)
    team = Team(threads)
    for played in range(1, 4):
        team.play(tape)
        want = (np.arange(1000)[:, None] < [1000, 1, 37, 0, 500]).sum(1)
        np.testing.assert_array_equal(counts, played * want)


@pytest.mark.parametrize("threads", THREADS)
def test_a_barrier_holds(threads: int) -> None:
    tape, out, kept = chain(300, 40)
    team = Team(threads)
    for _ in range(3):
        kept[0][:] = np.arange(40)
        team.play(tape)
        np.testing.assert_array_equal(out, shifted(300, 40))


@pytest.mark.parametrize("threads", THREADS)
def test_pieces_are_counted_when_the_instruction_runs(threads: int) -> None:
    """An earlier instruction, or the caller between two plays, says how many there are."""
    counts, pieces = np.zeros(9, np.int64), np.array([0], np.int64)
    tape, team = Tape(), Team(threads)
    tape.add(put, 1, place=pieces, value=5)
    tape.add(tick, pieces, counts=counts)
    team.play(tape)
    assert counts.tolist() == [1] * 5 + [0] * 4
    late = Tape()
    late.add(tick, pieces, counts=counts)
    for number in (9, 0, 2):
        pieces[0] = number
        team.play(late)
    assert counts.tolist() == [3, 3, 2, 2, 2, 1, 1, 1, 1]


def test_a_kernel_is_told_how_many_pieces_there_are() -> None:
    told, tape = np.zeros(1, np.int64), Tape()
    tape.add(tell, 12, told=told)
    Team(1).play(tape)
    assert told[0] == 12


def test_an_empty_tape() -> None:
    Team(3).play(Tape())


def test_a_tape_may_grow() -> None:
    counts, tape, team = np.zeros(2, np.int64), Tape(), Team(2)
    tape.add(tick, 1, counts=counts)
    team.play(tape)
    tape.add(tick, 2, counts=counts)
    team.play(tape)
    assert counts.tolist() == [3, 1]


def asleep(team: Team) -> bool:
    flags = team._state[module._ASLEEP :: module._APART][1 : team.threads]
    return bool((flags == 1).all())


def test_threads_sleep_and_wake() -> None:
    tape, out, kept = chain(20, 8)
    team = Team(4)
    for _ in range(5):
        kept[0][:] = np.arange(8)
        team.play(tape)
        np.testing.assert_array_equal(out, shifted(20, 8))
        end = time.monotonic() + 60
        while not asleep(team):
            assert time.monotonic() < end, "somebody still waits for work"
            time.sleep(0.01)


def test_pauses_of_any_length() -> None:
    """Tapes that come while threads are about to fall asleep."""
    tape, out, kept = chain(4, 6)
    team, rng = Team(3), np.random.default_rng(0)
    for _ in range(300):
        kept[0][:] = np.arange(6)
        team.play(tape)
        np.testing.assert_array_equal(out, shifted(4, 6))
        time.sleep(rng.choice([0, 0, 1e-5, 1e-4, 3e-4, 1e-3]))


def together(jobs: list[Any]) -> None:
    faults: list[BaseException] = []

    def guarded(job: Any) -> None:
        try:
            job()
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


@pytest.mark.parametrize("shared", [True, False], ids=["one team", "two teams"])
def test_two_callers(shared: bool) -> None:
    """Each gets its own result, whether they take turns or not."""
    teams = [Team(3)] * 2 if shared else [Team(3), Team(2)]

    def work(number: int) -> None:
        tape, out, kept = chain(20 + number, 12)
        for _ in range(100):
            kept[0][:] = np.arange(12)
            teams[number].play(tape)
            np.testing.assert_array_equal(out, shifted(20 + number, 12))

    together([lambda: work(0), lambda: work(1)])


FORKED = """
import os, sys
import numpy as np
from gemmary.errors import GemmaryError
from gemmary.ops.numba.tape import Tape
from gemmary.ops.numba.team import Team
for threads in (1, 3):
    team = Team(threads)
    team.play(Tape())
    child = os.fork()
    if not child:
        try:
            team.play(Tape())
        except GemmaryError as fault:
            os._exit(0 if "does not survive os.fork" in str(fault) else 3)
        os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    team.play(Tape())
"""


def test_a_fork_is_told() -> None:
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", FORKED], cwd=root, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
