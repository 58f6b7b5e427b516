"""What is asked with and without guesses, and whether the replies are the same."""

from __future__ import annotations

import dataclasses
from typing import Any

import gemmary
from tests.parity.sharp import text_ids

PROMPT = text_ids(90, seed=8)  # past the window of 48
WORDS = {i: 100.0 for i in range(300, 512)}  # an answer of whole words
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "greedy": {"temperature": 0},
    "hot": {"temperature": 2.0, "top_k": 0, "top_p": 1.0},
    "filtered": {"temperature": 0.8, "top_k": 7, "top_p": 0.8, "min_p": 0.02},
    "logprobs": {"logprobs": 5},
    "logprobs, greedy": {"logprobs": 0, "temperature": 0},
    "repeat": {"repeat_penalty": 1.4, "temperature": 0},
    "counts": {"presence_penalty": 1.5, "frequency_penalty": 0.7},
    "wish to repeat": {"repeat_penalty": 0.8, "frequency_penalty": -0.5, "top_k": 3, "logprobs": 4},
    "bias": {"logit_bias": {300: 9.0, 301: 8.5, 17: -50.0}, "top_k": 5},
    "ends often": {"logit_bias": {1: 6.0, 261: 6.0}},
    "stop strings": {"stop": ["rd37", "77", "8 word4"], "logit_bias": WORDS},
}


def same(a: gemmary.Reply, b: gemmary.Reply) -> bool:
    """All but the times."""
    return dataclasses.replace(a, timings=b.timings) == b
