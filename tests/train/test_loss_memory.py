"""Losses at the real vocabulary: half a gigabyte above weights, gradients, hidden states at 8k tokens."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINUX = Path("/proc/self/clear_refs").exists()
WIDTH = 64  # of the hidden states; the real ones only make weights and gradients larger

PROGRAM = f"""
import json, sys, time, torch
from pathlib import Path
from gemmary.train.loss import Target, chunked_cross_entropy, next_token
from gemmary.train.sampling import Distillation, sample

def peak(work):
    '''Bytes above what was there before, at the worst moment; and seconds.'''
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, start = memory("VmRSS"), time.monotonic()
    kept = work()
    return memory("VmHWM") - before, time.monotonic() - start

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))

torch.set_num_threads(2)
torch.manual_seed(0)
vocab, width, tokens = 262_144, {WIDTH}, int(sys.argv[2])
table = (torch.randn(vocab, width) / width**0.5).requires_grad_()
h = torch.randn(tokens, width).requires_grad_()
weights = torch.ones(tokens)
low = sys.argv[1] != "float32"

def loss(targets):
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        made = chunked_cross_entropy(h, table, targets, weights)
    return torch.autograd.grad(made, (h, table))

def sampled(how):
    with torch.no_grad():
        return [sample(x @ table.T * 4, torch.arange(len(x)), how) for x in h[:256].split(128)]

label = next_token(torch.randint(vocab, (tokens,)), h)
ids = torch.randint(vocab, (tokens, 256))
soft = Target(ids, torch.full(ids.shape, 1 / 256))
works = {{
    "next token": lambda: loss([label]),
    "256 ids": lambda: loss([soft]),
    "256 ids, a temperature and next token": lambda: loss([label, Target(*(soft.ids, soft.amounts), 2.0)]),
    "drawing with replacement": lambda: sampled(Distillation(reading="counts", replacement=True)),
    "drawing without replacement": lambda: sampled(Distillation()),
}}
sample(torch.zeros(1, 8), torch.zeros(1), Distillation(draws=2))
first = chunked_cross_entropy(h[:2], table[:50], [next_token(torch.zeros(2), h)], weights[:2])
torch.autograd.grad(first, (h, table))
print(json.dumps({{name: peak(works[name]) for name in sys.argv[3:]}}))
"""


DRAWING = ("drawing with replacement", "drawing without replacement")
WORKS = {
    8192: ("256 ids",),
    1024: ("next token", "256 ids, a temperature and next token", *DRAWING),
}


def measured(dtype: str, tokens: int) -> dict[str, tuple[int, float]]:
    """Peak bytes and seconds of the works at so many tokens, in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, dtype, str(tokens), *WORKS[tokens]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, tuple[int, float]] = json.loads(done.stdout)
    return found


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not LINUX, reason="needs Linux to reset the peak of a process's memory")
@pytest.mark.parametrize("dtype, low_bytes", [("float32", 0), ("bfloat16", 2)])
@pytest.mark.parametrize("tokens", WORKS)
def test_peak_is_under_half_a_gigabyte(dtype: str, low_bytes: int, tokens: int) -> None:
    known = 4 * (262_144 + tokens) * WIDTH  # gradients of the table and of the hidden states
    known += low_bytes * (262_144 + tokens) * WIDTH  # weights and states in the dtype of multiplication
    for name, (peak, seconds) in measured(dtype, tokens).items():
        above = peak - (0 if name in DRAWING else known)
        print(f"{dtype:8} {tokens} tokens, {name:40} {above / 1e6:6.0f} MB above, {seconds:5.1f} s")
        assert above < 0.5e9, name
