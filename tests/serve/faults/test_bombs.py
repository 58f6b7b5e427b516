"""Requests that are small and would cost much: refused within a second, and others do not notice."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import httpx
import numpy as np
import pytest

import gemmary
from gemmary.serve.settings import Settings

from .wire import CHAT, endless, idle, memory, until

# What goes wrong in a client's thread is a failure too.
pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
SAY = [{"role": "user", "content": "hi"}]


def matching(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


def doubling(keyword: str, levels: int, times: int) -> dict[str, Any]:
    """A schema that says the next one several times, and so on."""
    defs: dict[str, Any] = {
        f"d{i}": {keyword: [{"$ref": f"#/$defs/d{i + 1}"}] * times} for i in range(levels)
    }
    return {"$defs": {**defs, f"d{levels}": {"type": "integer"}}, "$ref": "#/$defs/d0"}


SCHEMAS: dict[str, Any] = {
    "catastrophic": matching("^(a+)+b$"),
    "alternatives": matching("^(a|a|a)*b$"),
    "counted": matching("^((.{1,1000}){1,1000}){1,1000}$"),
    "far behind": matching("^.*a.{1000}$"),
    "long pattern": matching("^" + "(a|b)?" * 20_000 + "$"),
    "middling pattern": matching("^" + "(a|b)?" * 650 + "$"),
    "letters": matching("^[\\p{L}]{5000}$"),
    "look around": matching("^(?=a)(?!b).*$"),
    "at least": {"type": "string", "minLength": 10**9},
    "many items": {"type": "array", "minItems": 10**9, "items": {"type": "integer"}},
    "items of items": {
        "type": "array",
        "minItems": 1000,
        "items": {"type": "array", "minItems": 1000, "items": {"type": "array", "minItems": 1000}},
    },
    "a large divisor": {"type": "integer", "multipleOf": 999_983},
    "a small divisor": {"type": "number", "multipleOf": 1e-300},
    "divisors": {"allOf": [{"type": "integer", "multipleOf": p} for p in (9973, 9967, 9949, 9941)]},
    "divisors apart": {
        "$defs": {"a": {"multipleOf": 997}},
        "type": "integer",
        "multipleOf": 991,
        "$ref": "#/$defs/a",
    },
    "a long literal": {"const": "x" * 100_000},
    "a long name": {"type": "object", "properties": {"x" * 100_000: {}}},
    "many literals": {"enum": [str(i) for i in range(12_000)]},
    "many names": {"type": "object", "required": [f"p{i}" for i in range(10_000)]},
    "properties": {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(1500)}},
    "wide numbers": {"type": "integer", "minimum": -(10**300), "maximum": 10**300},
    "deep": nested(400),
    "of itself": {"$ref": "#"},
    "in a circle": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    "all of all": doubling("allOf", 10, 8),
    "any of any": doubling("anyOf", 25, 2),
    "items doubled": doubling("prefixItems", 20, 8),
    "patterns of names": {"type": "object", "patternProperties": {f"^.*{i}.{{20}}$": {} for i in range(100)}},
    "patterns together": {"allOf": [matching(f"^.*{i}.*$") for i in range(20)]},
    "separators": {
        "x-guidance": {"whitespace_flexible": True, "item_separator": "(.{1,1000}){1,1000}"},
        "type": "array",
    },
    "somewhere else": {"$ref": "http://127.0.0.1:1/x.json"},
    "a file": {"$ref": "file:///etc/passwd"},
    "half a character": {"const": "\ud800"},
    "many nodes": {"anyOf": [{"const": i} for i in range(5000)]},
}


def as_format(schema: Any) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "bomb", "schema": schema}}
    return {"messages": SAY, "max_tokens": 8, "response_format": form}


def as_tool(schema: Any) -> dict[str, Any]:
    tool = {"type": "function", "function": {"name": "f", "parameters": {**schema, "type": "object"}}}
    return {"messages": SAY, "max_tokens": 8, "tools": [tool], "tool_choice": "required"}


FEW = (
    "catastrophic",
    "counted",
    "long pattern",
    "a large divisor",
    "divisors",
    "a long literal",
    "deep",
    "of itself",
)


@pytest.mark.parametrize(
    "names", [FEW, pytest.param(tuple(SCHEMAS), marks=pytest.mark.long)], ids=["few", "all"]
)
def test_schemas(url: str, bundled: gemmary.Model, names: tuple[str, ...]) -> None:
    """Processor time, for others may use this machine too; the text of a neighbour; memory."""
    asked = endless(bundled, max_tokens=150)
    alone = bundled.chat(
        asked["messages"],
        seed=1,
        max_tokens=150,
        logit_bias={int(token): bias for token, bias in asked["logit_bias"].items()},
    ).text
    texts = []

    def neighbour() -> None:
        said = httpx.post(f"{url}{CHAT}", json=asked, timeout=120).json()
        texts.append(said["choices"][0]["message"]["content"])

    beside = threading.Thread(target=neighbour)
    beside.start()
    before = memory()
    with httpx.Client(base_url=url, timeout=120) as client:
        for name in names:
            for body in (as_format(SCHEMAS[name]), as_tool(SCHEMAS[name])):
                started = time.process_time()
                answer = client.post(
                    CHAT, content=json.dumps(body), headers={"content-type": "application/json"}
                )
                spent = time.process_time() - started
                assert answer.status_code in (200, 400, 422), (name, answer.text)
                assert spent < 1.5, f"{name} took {spent:.1f} s"
                if answer.status_code != 200:
                    assert len(answer.json()["error"]["message"]) < 300, name
    beside.join()
    assert texts == [alone]
    assert memory() - before < 256 << 20
    until(lambda: idle(bundled))


@pytest.mark.long
def test_ten_thousand_schemas(url: str) -> None:
    """Each another one: nothing of them is kept."""
    grown: list[int] = []
    with httpx.Client(base_url=url, timeout=120) as client:
        for number in range(10_000):
            body = {**as_format(matching(f"^[a-z]{{3}}{number}$")), "max_tokens": 1}
            assert client.post(CHAT, json=body).status_code == 200
            if number % 1000 == 999:
                grown.append(memory())
    print([size >> 20 for size in grown])
    assert grown[-1] - grown[1] < 64 << 20


def test_stop_strings(url: str) -> None:
    """Many, long and all alike at their beginnings."""
    lists: list[Any] = [["a"] * 17, ["x"] * 100_000, "x" * 1_000_000, [""], ["a" * 257], ["\ud800"], [["a"]]]
    with httpx.Client(base_url=url, timeout=120) as client:
        for stop in lists:
            body = {"messages": SAY, "max_tokens": 2, "stop": stop}
            answer = client.post(CHAT, content=json.dumps(body), headers={"content-type": "application/json"})
            assert answer.status_code == 400, str(stop)[:50]
        hard = [f"{'a' * 200}{n}" for n in range(16)]
        assert client.post(CHAT, json={"messages": SAY, "max_tokens": 20, "stop": hard}).status_code == 200


def test_prompts_at_the_limit(url: str, bundled: gemmary.Model) -> None:
    """The last length that leaves room for a token, the next, and far beyond; nothing is cut."""
    context = bundled.context
    with httpx.Client(base_url=url, timeout=120) as client:

        def completed(length: int) -> httpx.Response:
            return client.post("/v1/completions", json={"prompt": [5] * length, "max_tokens": 5})

        for length in (context - 2, context - 1):
            answer = completed(length)
            assert answer.status_code == 200
            said = answer.json()
            assert said["usage"]["prompt_tokens"] == length
            assert said["usage"]["completion_tokens"] <= context - length
        for length in (context, context + 1, 100 * context):
            answer = completed(length)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
            assert f"{context:,}" in answer.json()["error"]["message"]
        long = client.post(CHAT, json={"messages": [{"role": "user", "content": "word " * 100 * context}]})
        assert long.json()["error"]["code"] == "context_length_exceeded"
        large = client.post(CHAT, json={"messages": SAY, "user": "x" * (Settings().max_body + 1)})
        assert large.status_code == 413


def test_a_large_text_takes_linear_time(url: str, bundled: gemmary.Model) -> None:
    """The longest texts that are tokenised: others are answered meanwhile. A longer one is refused."""
    longest = (bundled.context + 1) * bundled.tokenizer.longest - 1
    gaps = []

    def pulse() -> None:
        with httpx.Client(base_url=url, timeout=120) as client:
            while not over.is_set():
                started = time.perf_counter()
                client.get("/health")
                gaps.append(time.perf_counter() - started)

    over = threading.Event()
    beside = threading.Thread(target=pulse)
    beside.start()
    started = time.process_time()
    for unit in ("a", " ", "\n", "<", "é\u0301"):
        body = {"prompt": (unit * longest)[:longest], "return_token_strs": True}
        answer = httpx.post(f"{url}/tokenize", json=body, timeout=120)
        assert answer.status_code == 200
        assert len(answer.json()["token_strs"]) == answer.json()["count"] > bundled.context // 2
    spent = time.process_time() - started
    for text in ("a" * (longest + 1), "a" * 30_000_000):
        started = time.process_time()
        answer = httpx.post(f"{url}/tokenize", json={"prompt": text}, timeout=120)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
        assert time.process_time() - started < 1
    over.set()
    beside.join()
    assert spent < 4
    assert np.median(gaps) < 0.5
