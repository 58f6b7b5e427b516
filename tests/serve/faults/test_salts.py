"""What one user has asked cannot be told by another from how soon an answer comes."""

from __future__ import annotations

import random
import time
from typing import Any

import httpx
import numpy as np
import pytest

import gemmary

from .wire import CHAT, idle, until

WORDS = "the sea a road seven pictures of an old tar archive and the moon over a list of files".split()


def guessed(hits: list[float], misses: list[float]) -> float:
    """How well a threshold on the time tells them apart: the area under the curve; 0.5 is not at all."""
    a, b = np.asarray(hits), np.asarray(misses)
    return float((a[:, None] < b).mean() + 0.5 * (a[:, None] == b).mean())


def times(url: str, pairs: int, salt: str) -> tuple[list[float], list[float]]:
    """Seconds to a first token of texts that a victim has just asked, and of texts that nobody has."""
    rng, found = random.Random(pairs), ([], [])  # type: ignore[var-annotated]
    with httpx.Client(base_url=url, timeout=120) as client:

        def ask(text: str, salt: str) -> float:
            body: dict[str, Any] = {"messages": [{"role": "user", "content": text}], "max_tokens": 1}
            started = time.perf_counter()
            assert client.post(CHAT, json={**body, "cache_salt": salt}).status_code == 200
            return time.perf_counter() - started

        for number in range(2 * pairs):
            text = " ".join(rng.choices(WORDS, k=60))
            ask(text if number % 2 else " ".join(rng.choices(WORDS, k=60)), "victim")
            found[(number + 1) % 2].append(ask(text, salt))
    return found


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_another_users_texts_cannot_be_guessed_from_times(url: str, bundled: gemmary.Model) -> None:
    """1,000 times; the control, under the same salt, shows that they could be. 0.07 is four deviations."""
    together = guessed(*times(url, 50, "victim"))
    apart = guessed(*times(url, 500, "thief"))
    print(f"told apart under one salt: {together:.3f}; under two: {apart:.3f}")
    assert together > 0.75
    assert abs(apart - 0.5) < 0.07
    until(lambda: idle(bundled))
