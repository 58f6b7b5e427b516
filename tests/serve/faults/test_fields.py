"""Every field at its borders and far beyond: a 4xx with a short sentence, or an answer; never a fault."""

from __future__ import annotations

import json
import random
from collections import Counter

import httpx
import pytest

from .fields import Case, cases

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


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_all(url: str, every: list[Case]) -> None:
    assert len(every) > 2000
    ask(url, every)
