"""JSON schemas that clients send: bounded, and put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..engine.schema import SchemaError

MOST_LEVELS = 32
MOST_NODES = 2000  # objects and lists
MOST_CALLS = 16  # in one answer
LITERAL = ("const", "enum", "default", "examples")  # their values are data, not schemas
# Below these, keys are names.
NAMES = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


def checked(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema itself. SchemaError where it is too deep or too large."""
    nodes = 0
    left: list[tuple[dict[str, Any] | list[Any], int]] = [(schema, 1)]
    while left:
        value, level = left.pop()
        nodes += 1
        if level > MOST_LEVELS or nodes > MOST_NODES:
            raise SchemaError(
                f"a schema may have {MOST_LEVELS} levels, and {MOST_NODES:,} objects and lists: shorten it"
            )
        inner: Any = value.values() if isinstance(value, dict) else value
        left += [(below, level + 1) for below in inner if isinstance(below, dict | list)]
    return schema


def calls_schema(functions: Sequence[Mapping[str, Any]], several: bool) -> dict[str, Any]:
    """Calls of these functions ({"name", "parameters"}): an object or, with `several`, also a list of them.

    Gemma is asked for this shape (inputs/tools.py). SchemaError where parameters are no schema of an object.
    """
    defs = {f"f{i}": _parameters(function, f"f{i}") for i, function in enumerate(functions)}
    calls = [_call(function["name"], key) for key, function in zip(defs, functions, strict=True)]
    call = calls[0] if len(calls) == 1 else {"anyOf": calls}
    listed = {"type": "array", "items": call, "minItems": 1, "maxItems": MOST_CALLS}
    return {"$defs": defs, "anyOf": [call, listed] if several else [call]}


def _call(name: str, key: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "parameters": {"$ref": f"#/$defs/{key}"}},
        "required": ["name", "parameters"],
        "additionalProperties": False,
    }


def _parameters(function: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The schema of a function's parameters, at its place: what it does not name it does not have."""
    schema = checked(function.get("parameters") or {})
    if schema.get("type", "object") != "object":
        raise SchemaError("the parameters of a function must be a schema of type object")
    moved: dict[str, Any] = _moved(schema, f"#/$defs/{key}")
    return {"additionalProperties": False, "properties": {}, **moved, "type": "object"}


def _moved(schema: Any, place: str) -> Any:
    """The schema with its references to itself rewritten for another place."""
    if isinstance(schema, list):
        return [_moved(item, place) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _moved_below(key, value, place) for key, value in schema.items()}


def _moved_below(key: str, value: Any, place: str) -> Any:
    """What stands at a keyword of a schema."""
    if key == "$ref" and isinstance(value, str) and value.startswith("#"):
        return place + value[1:]
    if key in NAMES and isinstance(value, dict):  # a parameter may have the name of a keyword
        return {name: _moved(below, place) for name, below in value.items()}
    return value if key in LITERAL else _moved(value, place)
