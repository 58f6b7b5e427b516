"""Functions that the model may call, as text: Gemma 3 has no control tokens for them.

Google documents two styles for Gemma 3: a JSON object with name and parameters, which is asked for here, and
Python calls in a list, which models write at times. `parse_tool_calls` reads both.
"""

from __future__ import annotations

import ast
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import PromptError

ASK = """\
You can call functions. To call one, answer with nothing but a JSON object in this format:
{"name": "<name of the function>", "parameters": {"<name of a parameter>": <its value>}}
To call several, answer with a list of such objects. Call a function only if you need it; otherwise answer \
as usual.

These are the functions:
"""
MAX_CALLS_TEXT = 1 << 16  # characters; longer answers hold no calls
FENCE = re.compile(r"```([a-z_]*)\s(.*?)(?:```|\Z)", re.DOTALL)
SEPARATORS = re.compile(r"[\s,;]*")
PYTHON_LIST = re.compile(r"\[\s*[A-Za-z_][\w.]*\(")
PYTHON_CALL = re.compile(r"[A-Za-z_][\w.]*\(")
PYTHON_FENCE = "tool_code"


@dataclass(frozen=True)
class ToolCall:
    """A function that the model wants to be called, with its arguments by name."""

    name: str
    arguments: dict[str, Any]

    def message(self) -> dict[str, Any]:
        """The call as OpenAI's API writes it in `tool_calls`, under a new id."""
        function = {"name": self.name, "arguments": json.dumps(self.arguments, ensure_ascii=False)}
        return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}


def instructions(tools: Sequence[Mapping[str, Any]]) -> str:
    """The text that tells the model its functions. PromptError unless they have OpenAI's shape."""
    if isinstance(tools, (str, Mapping)) or not isinstance(tools, Sequence):
        raise PromptError("tools must be a list of functions")
    return ASK + "\n".join(_json(_function(tool)) for tool in tools)


def call_names(messages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Names of the called functions by the id of the call."""
    calls = (call for message in messages for call in _calls(message))
    return {call["id"]: _called(call).name for call in calls if isinstance(call.get("id"), str)}


def heading(message: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """What stands above the result of a tool: whose it is. "" for messages that are none."""
    if message["role"] != "tool":
        return ""
    name = message.get("name") or names.get(str(message.get("tool_call_id")))
    return f"Result of {name}:\n" if isinstance(name, str) else "Result:\n"


def written_calls(message: Mapping[str, Any]) -> str:
    """The calls in a message of the model as text; "" without any."""
    calls = [_json({"name": c.name, "parameters": c.arguments}) for c in map(_called, _calls(message))]
    return calls[0] if len(calls) == 1 else f"[{', '.join(calls)}]" if calls else ""


def parse_tool_calls(text: str) -> list[ToolCall]:
    """The calls in an answer of the model; [] when it is an answer to be read by people.

    A call is {"name": ..., "parameters": {...}} or {"name": ..., "arguments": {...}}; several stand in a list
    or behind one another. In Python's style calls are f(a=1, b="x"), in a list or line by line. In a fence of
    three backticks calls may have text around them; lines of Python count only if the fence is named
    tool_code, for other fences hold code to read. Arguments are literals; nothing is ever run.
    """
    if len(text) > MAX_CALLS_TEXT:
        return []
    for language, body in (*FENCE.findall(text), (PYTHON_FENCE, text)):
        style = PYTHON_CALL if language == PYTHON_FENCE else PYTHON_LIST
        body = body.strip()
        calls = _json_calls(body)
        if not calls and (style.match(body) or PYTHON_LIST.match(body)):
            calls = _python_calls(body)
        if calls:
            return calls
    return []


def _json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise PromptError("tools and the arguments of their calls must be plain JSON") from None


def _function(tool: object) -> Mapping[str, Any]:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name, str) or not name:
        raise PromptError(
            'a tool must look like {"type": "function", "function": {"name": ..., "description": ..., '
            '"parameters": {...}}}'
        )
    return {key: function[key] for key in ("name", "description", "parameters") if key in function}


def _calls(message: Mapping[str, Any]) -> list[Any]:
    calls = message.get("tool_calls") or []
    if not isinstance(calls, (list, tuple)) or not all(isinstance(call, Mapping) for call in calls):
        raise PromptError("tool_calls must be a list of calls")
    return list(calls)


def _called(call: Mapping[str, Any]) -> ToolCall:
    """A call as OpenAI's API writes it: its arguments are JSON in a string, or an object."""
    function = call.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    arguments = function.get("arguments", {}) if isinstance(function, Mapping) else None
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            arguments = None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise PromptError(
            'a tool call must look like {"function": {"name": ..., "arguments": "{...}"}}, the arguments '
            "a JSON object"
        )
    return ToolCall(name, arguments)


def _json_calls(text: str) -> list[ToolCall]:
    """Calls when `text` is JSON objects or lists of them and nothing else."""
    decoder, position, values = json.JSONDecoder(), 0, []
    while position < len(text):
        if text[position] not in "{[":
            return []
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            return []
        values += value if isinstance(value, list) else [value]
        position = SEPARATORS.match(text, position).end()  # type: ignore[union-attr]  # "" matches
    calls = [_json_call(value) for value in values]
    return [call for call in calls if call] if all(calls) else []


def _json_call(value: object) -> ToolCall | None:
    if not isinstance(value, dict):
        return None
    name, arguments = value.get("name"), value.get("parameters", value.get("arguments"))
    return ToolCall(name, arguments) if isinstance(name, str) and isinstance(arguments, dict) else None


def _python_calls(text: str) -> list[ToolCall]:
    """Calls when `text` is f(a=1), a list of such, or several lines of them."""
    try:
        return [call for statement in ast.parse(text).body for call in _statement_calls(statement)]
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return []


def _statement_calls(statement: ast.stmt) -> list[ToolCall]:
    """ValueError when `statement` is anything but calls with literal arguments."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "print":
        value = value.args[0] if len(value.args) == 1 else None  # print(f(a=1)), as tool_code often has it
    return [_python_call(node) for node in (value.elts if isinstance(value, ast.List) else [value])]


def _python_call(node: ast.AST | None) -> ToolCall:
    if not isinstance(node, ast.Call) or node.args or not isinstance(node.func, (ast.Name, ast.Attribute)):
        raise ValueError
    arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
    if None in arguments or len(arguments) != len(node.keywords):  # f(**x), f(a=1, a=2)
        raise ValueError
    return ToolCall(ast.unparse(node.func), json.loads(json.dumps(arguments, allow_nan=False)))
