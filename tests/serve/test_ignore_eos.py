"""Answers that may not end: what load tools ask for, in the words that guidellm sends."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

TAR = [{"role": "user", "content": "How do I list the contents of a tar archive?"}]


@pytest.mark.parametrize(
    ("route", "prompt", "limit"),
    [("chat/completions", {"messages": TAR}, "max_completion_tokens"),
     ("completions", {"prompt": "<start_of_turn>user\nhi"}, "max_tokens")],
)  # fmt: skip
def test_guidellm_is_understood(url: str, route: str, prompt: dict[str, Any], limit: str) -> None:
    body = {
        "model": "test", "stream": True, limit: 48, "stop": None, "ignore_eos": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True}, **prompt,
    }  # fmt: skip
    with httpx.stream("POST", f"{url}/v1/{route}", json=body, timeout=60) as answer:
        assert answer.status_code == 200
        events = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {")]
    assert events[-1]["usage"]["completion_tokens"] == 48
    assert [choice["finish_reason"] for choice in events[-2]["choices"]] == ["length"]


def test_without_it_the_answer_ends_by_itself(url: str) -> None:
    body = {"messages": TAR, "seed": 7, "max_tokens": 48}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] < 48
