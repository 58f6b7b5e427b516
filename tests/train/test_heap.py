"""Memory that nobody uses goes back to the system, though it lies in holes between what is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

HOLES = """
import ctypes
from gemmary.train.heap import EVERY, tidy

def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
blocks = [libc.malloc(100_000) for _ in range(3000)]  # below the size that is mapped by itself
for block in blocks:
    ctypes.memset(block, 1, 100_000)
for block in blocks[:-1]:
    libc.free(ctypes.c_void_p(block))
before = held()
tidy(EVERY + 1)
assert held() > before - 1e6, "not its turn"
tidy(EVERY)
print(before - held())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_holes_are_given_back() -> None:
    found = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    assert int(found.stdout) > 200e6
