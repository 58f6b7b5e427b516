"""Calls in the answers of models, and answers that only look like calls."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from gemmary.errors import PromptError
from gemmary.inputs.tools import ToolCall, instructions, parse_tool_calls

from .trained import ROOT

F = ToolCall("f", {"a": 1})
G = ToolCall("g", {})


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ('{"name": "f", "parameters": {"a": 1}}', [F]),
        (' \n{"name": "f", "arguments": {"a": 1}}\n', [F]),
        ('[{"name": "f", "parameters": {"a": 1}}, {"name": "g", "parameters": {}}]', [F, G]),
        ('{"name": "f", "parameters": {"a": 1}}\n{"name": "g", "parameters": {}}', [F, G]),
        ('{"name": "f", "parameters": {"a": 1}}, {"name": "g", "parameters": {}};', [F, G]),
        ('```json\n{"name": "f", "parameters": {"a": 1}}\n```', [F]),
        ('Sure, I call it.\n```json\n{"name": "f", "parameters": {"a": 1}}\n```\nDone.', [F]),
        ('```\n[{"name": "f", "parameters": {"a": 1}}]```', [F]),
        ('```tool_code\n{"name": "f", "parameters": {"a": 1}}', [F]),  # not closed
        ("```tool_code\nf(a=1)\n```", [F]),
        ("```tool_code\nprint(f(a=1))\ng()\n```", [F, G]),
        ("[f(a=1)]", [F]), ("[f(a=1), g()]", [F, G]), ("f(a=1)", [F]), ("```python\n[f(a=1)]\n```", [F]),
        ('f(s="x\\ny", l=[1, 2.5, -3], d={"k": None}, t=True, u=(1, "b"))',
         [ToolCall("f", {"s": "x\ny", "l": [1, 2.5, -3], "d": {"k": None}, "t": True, "u": [1, "b"]})]),
        ("maps.find(place='Zürich')", [ToolCall("maps.find", {"place": "Zürich"})]),
        ('{"name": "f", "parameters": {"a": {"b": ["ü", {"c": null}]}}}',
         [ToolCall("f", {"a": {"b": ["ü", {"c": None}]}})]),
    ],
)  # fmt: skip
def test_calls(text: str, calls: list[ToolCall]) -> None:
    assert parse_tool_calls(text) == calls


@pytest.mark.parametrize(
    "text",
    [
        "", "Hello", "The weather is fine (I think).", '{"name": "Bob", "age": 3}', "[]", "{}", "[1, 2]",
        "null",
        '{"name": "f", "parameters": 5}', '{"name": 5, "parameters": {}}', '{"parameters": {}}', '"f"',
        'I would call {"name": "f", "parameters": {}} here.', '{"name": "f", "parameters": {}} is my call.',
        '{"name": "f"', "```python\nmain()\n```", "```python\nprint('hi')\n```", "```", "```\n```",
        "f(1)", "f(x)", "f(a=g())", "f(**{'a': 1})", "f(a=b)", "f(a=1, a=2)", "f(a=1) and more",
        "[f(a=1), 2]",
        "x = f(a=1)", "import os", "f(a=lambda: 1)", "f(a={1, 2})", "f(a=b'x')", "f(a=1j)", "f(a=...)",
        "f(a=1e999)", "f(a=open('x'))", "(f)(a=1)", "f()(a=1)", "print(f(a=1), 2)", "f(a=f'{1}')",
        "f(a=1 if 1 else 2)", "__import__('os').system('true')", "[__import__('os').system('true')]",
    ],
)  # fmt: skip
def test_answers_that_are_no_calls(text: str) -> None:
    assert parse_tool_calls(text) == []


HOSTILE = [
    "'['*n", "'{'*n", "'{\"a\":'*n", "'[' + '('*n", "'[f('*n", "'f(a='*n", "'f(a=' + '-'*n + '1)'",
    "'f(a=' + 'not '*n + '1)'", "'f(a=' + '1+'*n + '1)'", "'f(a=' + '9'*n + ')'",
    "'f(a=' + '['*90 + ']'*90 + ')'", "'f' + '.a'*n + '(a=1)'", "'f' + '()'*n", "'```'*n", "'```json\\n'*n",
    "'{} '*n", "'[]'*n", "'f(a=1)\\n'*n", "'f(a=' + 'lambda:'*n + '1)'", "'[f(' + ' '*n", "'\\0'*n + '('",
    "'{\"name\": \"f\", \"parameters\": {\"a\": ' + '9'*n + '}}'", "'f(a=\"' + '\\\\'*n",
    "'f(a=\"\\ud800\")'", "'f\\x0c(a=1)'", "'f(a=1)' + ' '*n + 'x'",
]  # fmt: skip


def test_hostile_answers_are_harmless() -> None:
    """In a process of their own: a parser that overflows its stack would take this one along."""
    probe = (
        "import time, json\nfrom gemmary.inputs.tools import parse_tool_calls\n"
        f"for shape in json.loads({json.dumps(json.dumps(HOSTILE))}):\n"
        "    for n in (100, 9_000, 60_000):\n"
        "        start = time.process_time()\n"
        "        calls = parse_tool_calls(eval(shape)[:65_536])\n"
        "        assert isinstance(calls, list) and time.process_time() - start < 2, shape\n"
        "print('alive')\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr[-2000:]


def test_long_answers_are_read_as_text() -> None:
    assert parse_tool_calls('{"name": "f", "parameters": {"a": "' + "x" * 70_000 + '"}}') == []


def test_a_call_as_message() -> None:
    written, again = F.message(), F.message()
    assert written["type"] == "function" and written["id"] != again["id"]
    assert written["function"]["name"] == "f" and json.loads(written["function"]["arguments"]) == {"a": 1}


@pytest.mark.parametrize(
    "tools",
    [
        "f", {"name": "f"}, ["f"], [{}], [{"function": {}}], [{"function": {"name": 5}}],
        [{"function": {"name": ""}}],
        [{"name": "f"}], [{"function": {"name": "f", "parameters": {"a": b"x"}}}],
        [{"function": {"name": "f", "parameters": {"a": float("nan")}}}], 5,
    ],
)  # fmt: skip
def test_faulty_tools_are_refused(tools: Any) -> None:
    with pytest.raises(PromptError):
        instructions(tools)


def test_endless_tools_are_refused() -> None:
    loop: dict[str, Any] = {}
    loop["again"] = loop
    with pytest.raises(PromptError, match="plain JSON"):
        instructions([{"function": {"name": "f", "parameters": loop}}])
