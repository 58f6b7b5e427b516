"""Calls in an answer, however it is cut into pieces."""

from __future__ import annotations

import json

import pytest

from gemmary.engine.schema import SchemaError
from gemmary.serve.schemas import MOST_LEVELS, calls_schema, checked
from gemmary.serve.tools import CallPart, CallReader

Calls = list[tuple[str, str]]

ONE = '{"name": "f", "parameters": {"a": "}\\"{", "b": {"c": [1, {}]}}}'
ARGUMENTS = '{"a": "}\\"{", "b": {"c": [1, {}]}}'
CASES: list[tuple[str, str, Calls]] = [
    ("plain text", "Hello {world} [1] `x` f(a)", []),
    ("one call", ONE, [("f", ARGUMENTS)]),
    ("a list", f"[{ONE},\n {ONE} ]\n", [("f", ARGUMENTS)] * 2),
    ("one behind the other", f" {ONE}\n{ONE}", [("f", ARGUMENTS)] * 2),
    ("arguments", '{"name":"g","arguments":{}}', [("g", "{}")]),
    ("another order", '{"parameters": {"x": 1}, "name": "g"}', [("g", '{"x": 1}')]),
    ("python", '[f(a=1), g(b="x")]', [("f", '{"a": 1}'), ("g", '{"b": "x"}')]),
    ("python in lines", "f(a=1)\ng()", [("f", '{"a": 1}'), ("g", "{}")]),
    ("a fence", f"```json\n{ONE}\n```", [("f", json.dumps(json.loads(ARGUMENTS)))]),
    ("tool code", "```tool_code\nprint(f(a=1))\n```", [("f", '{"a": 1}')]),
    ("an unknown function", '{"name": "h", "parameters": {}}', []),
    ("JSON", '{"name": "Bob", "age": 3}', []),
    ("code", "Look:\n```python\nf(a=1)\n```\nand ```\n[1, 2]\n``` there", []),
    ("a list of numbers", "[1, 2, 3]", []),
    ("an open fence", "```json\n{", []),
    ("a name", "f is a function", []),
]  # fmt: skip


def read(text: str, size: int, reader: CallReader) -> tuple[str, Calls]:
    shown, calls = "", []
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    for parts in [*map(reader.push, pieces), reader.finish()]:
        for part in parts:
            if isinstance(part, str):
                shown += part
            elif part.name:
                assert part.index == len(calls)
                assert part.id
                calls.append((part.name, part.arguments))
            else:
                name, arguments = calls[part.index]
                calls[part.index] = name, arguments + part.arguments
    return shown, calls


@pytest.mark.parametrize(("text", "calls"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_calls_are_found_in_any_pieces(text: str, calls: Calls) -> None:
    for size in (1, 2, 3, 7, len(text)):
        shown, found = read(text, size, CallReader(["f", "g"]))
        assert found == calls
        assert shown == ("" if calls else text)


def test_text_around_a_fence_stays() -> None:
    for size in (1, 5, 100):
        reader = CallReader(["f"])
        shown, calls = read("Let me look.\n```tool_code\nf(a=1)\n```\n", size, reader)
        assert (shown.strip(), calls, reader.called) == ("Let me look.", [("f", '{"a": 1}')], True)


def test_text_is_shown_as_it_comes() -> None:
    reader = CallReader(["find"])
    assert reader.push("Hel") == ["Hel"]
    assert reader.push("lo {") == ["lo {"]
    assert CallReader(["find"]).push("fi") == []
    assert CallReader(["find"]).push("five") == ["five"]


def test_arguments_grow() -> None:
    reader = CallReader(["f"])
    assert reader.push('{"name": "f", "para') == []
    first, second = reader.push('meters": {"a')
    assert isinstance(first, CallPart)
    assert (first.name, first.arguments) == ("f", "")
    assert second == CallPart(0, '{"a')
    assert reader.push('": 1}') == [CallPart(0, '": 1}')]


def test_only_one_call_where_one_was_asked_for() -> None:
    for text in (f"[{ONE}, {ONE}]", "[f(a=1), g()]"):
        assert len(read(text, 4, CallReader(["f", "g"], several=False))[1]) == 1


def test_what_was_cut_off_is_no_text_where_calls_are_forced() -> None:
    assert read(ONE[:10], 3, CallReader(["f"], forced=True)) == ("", [])
    assert read(ONE[:-9], 3, CallReader(["f"], forced=True)) == ("", [("f", ARGUMENTS[:-8])])


def test_references_move_with_their_schema() -> None:
    inner = {"$ref": "#/$defs/X", "const": {"$ref": "#"}}
    function = {"name": "f", "parameters": {"properties": {"x": inner}, "$defs": {"X": {"type": "null"}}}}
    schema = calls_schema([function], several=True)
    moved = schema["$defs"]["f0"]["properties"]["x"]
    assert moved == {"$ref": "#/$defs/f0/$defs/X", "const": {"$ref": "#"}}
    for names in ("properties", "patternProperties", "$defs"):
        for name in ("default", "enum", "const", "examples", "$ref"):
            function = {"name": "f", "parameters": {names: {name: {"items": inner}}}}
            below = calls_schema([function], several=False)["$defs"]["f0"][names]
            assert below == {name: {"items": moved}}, (names, name)
    with pytest.raises(SchemaError, match="type object"):
        calls_schema([{"name": "f", "parameters": {"type": "string"}}], several=False)


def test_deep_and_large_schemas_are_refused() -> None:
    deep: dict[str, object] = {}
    for _ in range(MOST_LEVELS):
        deep = {"items": deep}
    with pytest.raises(SchemaError, match="levels"):
        checked(deep)
    with pytest.raises(SchemaError, match="levels"):
        checked({"enum": [[] for _ in range(3000)]})
