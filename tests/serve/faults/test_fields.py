"""Every field at its borders and far beyond: a 4xx with a short sentence, or an answer; never a fault."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from typing import Any

import httpx
import pytest

from .fields import MANY, Case, cases
from .wire import forget_highest, highest, memory

SAY = [{"role": "user", "content": "hi"}]
# One token, or a word: whatever else a field asks for, the answer is short.
FORMAT = {"type": "json_schema", "json_schema": {"name": "word", "schema": {"enum": ["x"]}}}
BASE = {
    "/v1/chat/completions": {"messages": SAY, "max_completion_tokens": 1},
    "/v1/completions": {"prompt": "hi", "max_tokens": 1},
    "/v1/messages": {"model": "test", "messages": SAY, "max_tokens": 1},
    "/v1/messages/count_tokens": {"model": "test", "messages": SAY},
    "/tokenize": {"prompt": "hi"},
    "/detokenize": {"tokens": [5]},
}
REFUSED = (400, 404, 413, 422)
# These may not be as large as their schema lets them, for the answer would be: they are tried with a schema.
LONG = ("max_tokens", "max_completion_tokens")


@pytest.fixture(scope="module")
def every(url: str) -> list[Case]:
    document = httpx.get(f"{url}/openapi.json", timeout=60).json()
    return list(cases(document, BASE))


def ask(url: str, chosen: list[Case]) -> None:
    statuses: Counter[int] = Counter()
    with httpx.Client(base_url=url, timeout=120) as client:
        for case in chosen:
            body = case.body
            if case.field in LONG and case.fits and case.value not in (None, 1):
                if case.path != "/v1/chat/completions":
                    continue
                body = {**body, "response_format": FORMAT}
            answer = client.post(
                case.path, content=json.dumps(body), headers={"content-type": "application/json"}
            )
            statuses[answer.status_code] += 1
            assert answer.status_code == 200 or answer.status_code in REFUSED, (str(case), answer.text[:300])
            if case.fits is False:
                assert answer.status_code != 200, f"{case} was taken"
            if answer.status_code != 200:
                assert len(answer.json()["error"]["message"]) < 400, str(case)
    assert statuses[200] > len(chosen) / 50, "nothing was answered: the cases are wrong otherwise"
    assert statuses[400] > len(chosen) / 4


def test_some(url: str, every: list[Case]) -> None:
    ask(url, random.Random(0).sample(every, 120))


def keys(count: int, value: Any = 0) -> dict[str, Any]:
    return {f"k{number}": value for number in range(count)}


def many() -> list[tuple[str, dict[str, Any]]]:
    """Small bodies in which very much is wrong, or very many parts are right."""
    chat, said, part = "/v1/chat/completions", BASE["/v1/messages"], {"type": "text", "text": ""}
    contents = [[1] * 100_000, [{}] * 100_000, [part] * 20_000]
    asked = [
        *({"role": role, "content": content} for role in ("system", "user") for content in contents),
        {"role": "assistant", "content": "x", "tool_calls": [1] * 100_000},
    ]
    result = {"type": "tool_result", "tool_use_id": "x", "content": [1] * 100_000}
    function = {"type": "function", "function": {"name": "f", **keys(50_000)}}
    return [
        *((chat, {"messages": [message]}) for message in asked),
        (chat, {"messages": [{"role": "user", "content": [part] * 5}] * 4096}),
        (chat, {"messages": SAY, **keys(50_000)}),
        (chat, {"messages": SAY, "tools": [function]}),
        (chat, {"messages": SAY, "logit_bias": keys(50_000)}),
        (chat, {"messages": SAY, "tools": [{"type": "function", "function": keys(90)}] * 128}),
        ("/v1/messages", {**said, "messages": [{"role": "user", "content": [result]}]}),
        ("/v1/completions", {"prompt": [["", *[1] * 20_000]] * 16}),
        ("/v1/completions", {"prompt": [""] * 200_000}),
        ("/detokenize", {"tokens": [""] * 200_000}),
        ("/models/load", {"model": "test", **keys(50_000)}),
        ("/api/conversations", {"title": "x", "settings": keys(50_000, [])}),
    ]


def test_what_is_refused_costs_little(url: str, every: list[Case]) -> None:
    """A list of 100,000 numbers in every place, and more of this kind: processor time, and memory."""
    bodies = [(case.path, case.body) for case in every if case.value is MANY and case.fits is not True]
    with httpx.Client(base_url=url, timeout=120) as client:
        for path, body in [*many(), *random.Random(0).sample(bodies, 30)]:
            data = json.dumps(body)
            times = []
            while not times or (times[-1] >= 0.5 and len(times) < 3):  # who shares a core gets half of it
                before, started = memory(), time.process_time()
                forget_highest()
                answer = client.post(path, content=data, headers={"content-type": "application/json"})
                times.append(time.process_time() - started)
                grown = highest() - before
                assert answer.status_code in (200, 400), answer.text
                assert grown < 64 << 20, f"{path} {data[:200]} took {grown >> 20} MiB"
            assert min(times) < 0.5, f"{path} {data[:200]} took {min(times):.2f} s"


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_all(url: str, every: list[Case]) -> None:
    assert len(every) > 2000
    ask(url, every)
