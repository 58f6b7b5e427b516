"""A model of random weights says valid JSON: what it says is constrained, not learned."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import gemmary
from gemmary.errors import GemmaryError, PromptError

HELLO = [{"role": "user", "content": "abc"}]

Check = Callable[[Any], bool]
SCHEMAS: list[tuple[dict[str, Any], Check]] = [
    ({"type": "boolean"}, lambda v: isinstance(v, bool)),
    ({"enum": ["red", "green", 7]}, lambda v: v in ("red", "green", 7)),
    (
        {
            "type": "object",
            "properties": {"name": {"type": "string", "maxLength": 8}, "old": {"type": "boolean"}},
            "required": ["name", "old"],
            "additionalProperties": False,
        },
        lambda v: set(v) == {"name", "old"} and len(v["name"]) <= 8 and isinstance(v["old"], bool),
    ),
    (
        {
            "type": "array",
            "items": {"type": "integer", "minimum": 3, "maximum": 9},
            "minItems": 2,
            "maxItems": 4,
        },
        lambda v: 2 <= len(v) <= 4 and all(type(i) is int and 3 <= i <= 9 for i in v),
    ),
    (
        {"anyOf": [{"type": "null"}, {"type": "object", "properties": {}, "additionalProperties": False}]},
        lambda v: v is None or v == {},
    ),
    ({"type": "string", "pattern": "^[ab]{3}-[0-9]$"}, lambda v: len(v) == 5 and v[3] == "-"),
    ({"const": "<end_of_turn> <bos>"}, lambda v: v == "<end_of_turn> <bos>"),
]


@pytest.mark.parametrize(
    ("schema", "fits"), SCHEMAS, ids=lambda s: str(s)[:30] if isinstance(s, dict) else ""
)
def test_answers_fit_their_schema(model: gemmary.Model, schema: dict[str, Any], fits: Check) -> None:
    """Drawn hot from a random model: everything that could go wrong would."""
    for seed in range(6):
        options: dict[str, Any] = {
            "seed": seed,
            "temperature": 2.0,
            "top_k": 0,
            "top_p": 1.0,
            "max_tokens": 300,
        }
        reply = model.chat(HELLO, schema=schema, **options)
        assert reply.finish_reason == "stop"
        assert fits(json.loads(reply.text)), reply.text
        assert not set(reply.ids) & model.tokenizer.controls
        text = "".join(p.text for p in model.chat(HELLO, stream=True, schema=json.dumps(schema), **options))
        assert text == reply.text


def test_an_open_end_is_left_by_a_stop_token(model: gemmary.Model) -> None:
    """Behind 12 may come another digit or either token that ends a turn."""
    seen = set()
    for stop in model.tokenizer.stops:
        reply = model.chat(
            HELLO, schema={"type": "integer"}, seed=1, max_tokens=200, logit_bias={stop: 1e5}, logprobs=20
        )
        assert isinstance(json.loads(reply.text), int)
        assert reply.finish_reason == "stop"
        seen.add(reply.text)
    assert len(seen) == 1


def test_bias_cannot_break_a_schema(model: gemmary.Model) -> None:
    wish = dict.fromkeys(range(300, 400), 1e6)
    assert model.chat(HELLO, schema={"type": "boolean"}, logit_bias=wish).text in ("true", "false")


def test_an_answer_cut_by_max_tokens_says_so(model: gemmary.Model) -> None:
    reply = model.chat(HELLO, schema={"type": "string", "minLength": 40}, max_tokens=4, seed=1)
    assert reply.finish_reason == "length"


def test_a_greedy_answer_follows_a_schema_too(model: gemmary.Model) -> None:
    assert model.chat(HELLO, schema={"type": "boolean"}, temperature=0).text in ("true", "false")


def test_requests_with_and_without_schema_run_side_by_side(model: gemmary.Model) -> None:
    texts: list[str] = []
    workers = [
        threading.Thread(
            target=lambda: texts.append(model.chat(HELLO, schema={"enum": ["x", "y"]}, temperature=2).text)
        )
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    model.chat(HELLO, max_tokens=20)
    for worker in workers:
        worker.join()
    assert set(texts) <= {'"x"', '"y"'}
    assert len(texts) == 4


BAD: list[Any] = [
    5,
    ["type"],
    b"{}",
    "",
    "not json",
    "[1]",
    "{" * 100_000,
    '{"type": "object"' + " " * 300_000 + "}",
    {"type": "no such type"},
    {"$ref": "#/nowhere"},
    {"type": "string", "pattern": "("},
    {"type": {1, 2}},
    {"minimum": float("nan")},
    False,
    {"enum": []},
]


@pytest.mark.parametrize("schema", BAD, ids=range(len(BAD)))
def test_schemas_that_are_none(model: gemmary.Model, schema: Any) -> None:
    for stream in (False, True):
        with pytest.raises(PromptError, match="schema"):
            model.chat(HELLO, stream=stream, schema=schema)


def test_a_missing_package_is_named(model: gemmary.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(PromptError, match=r'pip install "gemmary\[serve\]"'):
        model.chat(HELLO, schema={"type": "boolean"})
    assert len(model.chat(HELLO, max_tokens=2, seed=1).ids) == 2


def test_a_matcher_that_gives_up_is_a_typed_error(fresh: gemmary.Model) -> None:
    """llguidance enters an error state instead of raising; nobody may take that for "everything goes"."""
    constraint = fresh._schemas.constraint({"type": "boolean"})
    with pytest.raises(GemmaryError, match="schema"):
        constraint.accept(300)
    with pytest.raises(GemmaryError, match="schema"):
        constraint.allowed()
