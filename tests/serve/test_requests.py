"""What is wrong with a request is said by one sentence with the field in it; nothing is converted."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from gemmary.config import NANO

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
TEXT: dict[str, Any] = {"prompt": "hi", "max_tokens": 1}
OVER = 1 << 64
SURROGATE: Any = [{"role": "user", "content": "\ud800"}]
DEEP: Any = json.loads("[" * 300 + "]" * 300)

WRONG: dict[str, list[Any]] = {
    "temperature": [False, "1", -0.1, 101, [1], 10**400],
    "top_p": [1.1, True],
    "top_k": [1.0, -2, 1 << 40],
    "min_p": [2],
    "n": [0, 17, 1.0, True],
    "seed": [OVER, -OVER, "1", 1.0],
    "max_tokens": [0, -1, 1 << 31, 2.0],
    "stop": [[""], "", ["a"] * 17, "x" * 300, 5, [5]],
    "logprobs": [1],
    "top_logprobs": [21, -1],
    "logit_bias": [{"a": 1}, {"1": 101}, {"99999999": 1}, {"1": True}, [1]],
    "presence_penalty": [2.1],
    "frequency_penalty": [-3],
    "repeat_penalty": [0],
    "stream": ["true", 1],
    "stream_options": [{"usage": True}],
    "user": [5, "x" * 300],
    "cache_salt": [["x"], "\ud800" * 300],
    "ignore_eos": [1, "true"],
    "tiles": [1, 9],
    "pan_and_scan": [1],
    "model": ["", 5],
    "tools": [
        [{"type": "function"}],
        [{"type": "x", "function": {"name": "f"}}],
        {},
        [{"type": "function", "function": {"name": "a b"}}],
    ],
    "tool_choice": ["always", 1, "required"],
    "parallel_tool_calls": [1],
    "response_format": [{"type": "xml"}, {"type": "json_schema"}, "text"],
    "functions": [[]],
    "audio": [{}],
    "messages": [
        [],
        "hi",
        [{"role": "nobody", "content": "x"}],
        [{}],
        [{"role": "user"}],
        [{"role": "user", "content": 5}],
        None,
        [{"role": "user", "content": [{"type": "text"}]}],
        ["hi"],
        [None],
        [{"role": "user", "content": DEEP}],
        SURROGATE,
        [{"role": "tool", "content": "x"}],
    ],
    "best_of": [2],
    "echo": [True],
    "anything": [1],
    "chat_template": ["{{ 1 }}"],
    "chat_template_kwargs": [{"a": 1}],
}


@pytest.fixture(scope="module")
def http(url: str) -> Any:
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


def said(http: httpx.Client, path: str, content: Any) -> httpx.Response:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return http.post(path, content=text, headers={"content-type": "application/json"})


def test_fields_are_refused_by_name(http: httpx.Client) -> None:
    for field, value in ((field, value) for field, values in WRONG.items() for value in values):
        answer = said(http, "/v1/chat/completions", {**CHAT, field: value})
        assert answer.status_code == 400, (field, value, answer.text)
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["type"] == "invalid_request_error"
        assert field in error["message"] or value == SURROGATE, (field, error)
        assert len(error["message"]) < 300


def test_null_is_the_default(http: httpx.Client) -> None:
    names = ("temperature", "n", "stop", "seed", "tools", "functions", "response_format", "stream", "user")
    assert said(http, "/v1/chat/completions", {**CHAT, **dict.fromkeys(names)}).status_code == 200


def test_what_cannot_change_the_answer_is_taken(http: httpx.Client) -> None:
    harmless = {"store": True, "metadata": {"a": "b"}, "service_tier": "auto", "reasoning_effort": "low"}
    noted = [
        {"role": "assistant", "content": "x", "refusal": None, "annotations": [], "reasoning_content": "y"}
    ]
    content = {**CHAT, **harmless, "messages": [*noted, *CHAT["messages"]]}
    assert said(http, "/v1/chat/completions", content).status_code == 200


def test_half_characters_are_no_fault_of_the_server(http: httpx.Client) -> None:
    half = "\ud800"
    for field in (half, "model", "stop", "user", "cache_salt"):
        assert said(http, "/v1/chat/completions", {**CHAT, field: half}).status_code == 400


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"messages": NaN}', b"9" * 5000,
     b'{"messages": [{"role": "user", "content": "hi"}], "temperature": NaN}',
     b'{"messages": [{"role": "user", "content": "hi"}], "temperature": 1e999}'],
    ids=lambda body: str(body[:12]),
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/tokenize"])
def test_broken_bodies(http: httpx.Client, path: str, body: bytes) -> None:
    answer = said(http, path, body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("prompt", [5, [], [-1], [1 << 40], [[]], ["a"] * 17, [NANO.vocab], [True], ["a", 1]])
def test_prompts_of_completions(http: httpx.Client, prompt: Any) -> None:
    assert said(http, "/v1/completions", {**TEXT, "prompt": prompt}).status_code == 400


@pytest.mark.parametrize(
    ("field", "value"), [("suffix", "x"), ("best_of", 2), ("logprobs", 21), ("logprobs", True), ("n", 17)]
)
def test_fields_of_completions(http: httpx.Client, field: str, value: Any) -> None:
    answer = said(http, "/v1/completions", {**TEXT, field: value})
    assert answer.status_code == 400, answer.text


def test_echo_and_logprobs(http: httpx.Client) -> None:
    assert (
        said(http, "/v1/completions", {**TEXT, "echo": True, "logprobs": 1}).json()["error"]["param"]
        == "echo"
    )
    assert said(http, "/v1/completions", {**TEXT, "prompt": ["a"] * 9, "n": 2}).status_code == 400


def test_tokens_there_and_back(http: httpx.Client) -> None:
    for field in ("prompt", "content"):
        found = said(http, "/tokenize", {field: "Hello, world", "return_token_strs": True}).json()
        assert found["count"] == len(found["tokens"])
        assert "".join(found["token_strs"][1:]) == "Hello, world"
        text = said(http, "/detokenize", {"tokens": found["tokens"]}).json()
        assert text == {"prompt": "Hello, world", "content": "Hello, world"}
    bare = said(http, "/tokenize", {"prompt": "Hello, world", "add_special_tokens": False}).json()
    assert bare["tokens"] == found["tokens"][1:]
    chat = said(http, "/tokenize", {"messages": CHAT["messages"]}).json()
    used = said(http, "/v1/chat/completions", CHAT).json()["usage"]["prompt_tokens"]
    assert chat["count"] == used
    for wrong in ({}, {"prompt": "a", "content": "b"}, {"prompt": 5}, {"prompt": "\ud800"}):
        assert said(http, "/tokenize", wrong).status_code == 400
    for wrong in ({"tokens": [-1]}, {"tokens": ["a"]}, {"tokens": [True]}, {}):
        assert said(http, "/detokenize", wrong).status_code == 400


def test_addresses_that_are_not_here(http: httpx.Client) -> None:
    for answer, status in ((http.get("/nothing"), 404), (http.get("/v1/chat/completions"), 405)):
        assert answer.status_code == status
        assert answer.json()["error"]["message"].endswith(("what is", "what it takes"))


def test_the_page_of_the_API_is_whole(http: httpx.Client) -> None:
    page = http.get("/docs").text
    for path in http.get("/openapi.json").json()["paths"]:
        assert f" {path}</code>" in page
    assert "cache_salt" in page
    assert "<script" not in page
    assert "//" not in page.replace("/openapi.json", "")
    assert http.get("/health").json() == {"status": "ok"}
