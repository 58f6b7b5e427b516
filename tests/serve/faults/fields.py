"""Every field that the API takes, from /openapi.json, and values at its borders and beyond."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]
Around = Callable[[Any], Any]
Place = tuple[tuple[Any, ...], Schema, Around]

OVER = (1 << 31, -(1 << 31) - 1, (1 << 53) + 1, 1 << 63, -(1 << 63) - 1, 1 << 200)
NUMBERS: tuple[Any, ...] = (
    *OVER,
    0,
    -1,
    1,
    1.0,
    -0.0,
    0.5,
    1e308,
    -1e308,
    5e-324,
    float("nan"),
    float("inf"),
)
STRANGE: tuple[Any, ...] = (
    None,
    True,
    False,
    "",
    "1",
    "x" * 1_000_000,
    "\x00",
    "\ud800",
    [],
    [[]],
    {},
    {"a": 1},
)
DEEP = json.loads("[" * 400 + "]" * 400)
MANY = [1] * 100_000


@dataclass(frozen=True)
class Case:
    """A body for an operation, right but perhaps for one field. fits: what its schema says; None: unsaid."""

    path: str
    field: str
    value: Any
    body: Any
    fits: bool | None

    def __str__(self) -> str:
        return f"{self.path} {self.field} = {repr(self.value)[:60]}"


def cases(document: dict[str, Any], base: dict[str, dict[str, Any]]) -> Iterator[Case]:
    """All cases of the operations in `base`, path -> a body that is answered at once."""
    for path, body in base.items():
        content = document["paths"][path]["post"]["requestBody"]["content"]
        schema = content["application/json"]["schema"]
        places = list(_places(schema, document, body))
        several = Counter(
            keys for keys, _, _ in places
        )  # lists of ids, or of texts: what one refuses fits the other
        for keys, inner, around in places:
            for value in (*_borders(inner, document), *NUMBERS, *STRANGE, DEEP, MANY):
                name, fit = ".".join(map(str, keys)), fits(value, inner, document)
                yield Case(
                    path, name, value, around(value), None if fit is False and several[keys] > 1 else fit
                )


def fits(value: Any, schema: Schema, document: Schema) -> bool | None:
    """Whether a number, None or a boolean fits; None where that is not said here: strings, lists, objects."""
    schema = _resolved(schema, document)
    if branches := _branches(schema):
        found = [fits(value, branch, document) for branch in branches]
        return True if True in found else None if None in found else False
    kind = schema.get("type")
    if value is None or isinstance(value, bool):
        return (value is None and kind == "null") or (isinstance(value, bool) and kind == "boolean")
    if isinstance(value, int | float):
        if kind not in ("integer", "number") or (kind == "integer" and isinstance(value, float)):
            return kind is None and "enum" not in schema and "const" not in schema
        near = float(value)  # the borders of a document are rounded so
        return schema.get("minimum", near) <= near <= schema.get("maximum", near)
    return None if kind in ("string", "array", "object", None) else False


def _places(schema: Schema, document: Schema, base: dict[str, Any]) -> Iterator[Place]:
    """The fields in a schema: keys, what fits there, and what makes a body around a value."""
    schema = _resolved(schema, document)
    for branch in _branches(schema):
        yield from _places(branch, document, base)
    inside: list[tuple[Any, Schema, Around]] = []
    if schema.get("type") == "array":
        inside.append((0, schema.get("items", {}), lambda value: [value]))
    if schema.get("properties"):
        whole = {**example(schema, document), **base}
        for name, inner in schema["properties"].items():
            inside.append((name, inner, lambda value, name=name: {**whole, name: value}))
    for key, inner, around in inside:
        yield (key,), inner, around
        for keys, deeper, within in _places(inner, document, {}):
            yield (key, *keys), deeper, lambda value, a=around, w=within: a(w(value))


def _borders(schema: Schema, document: Schema) -> Iterator[Any]:
    schema = _resolved(schema, document)
    for branch in _branches(schema):
        yield from _borders(branch, document)
    step = 1 if schema.get("type") == "integer" else 0.01
    for name, sign in (("minimum", -1), ("maximum", 1)):
        if name in schema:
            yield from (schema[name], schema[name] + sign * step)
    if "maxLength" in schema:
        yield from ("a" * schema["maxLength"], "a" * (schema["maxLength"] + 1))
    if "maxItems" in schema and schema["maxItems"] < 5000:
        yield [1] * (schema["maxItems"] + 1)


def example(schema: Schema, document: Schema) -> Any:
    """A small value that fits."""
    schema = _resolved(schema, document)
    if branches := _branches(schema):
        return example(branches[0], document)
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    kind = schema.get("type")
    if kind == "object":
        names = schema.get("required", ())
        return {name: example(schema["properties"][name], document) for name in names}
    if kind == "array":
        return [example(schema["items"], document)] * max(1, schema.get("minItems", 0))
    if kind == "string":
        return "image/png" if "image" in schema.get("pattern", "") else "1"
    return {"integer": max(1, schema.get("minimum", 1)), "number": 1.0, "boolean": False}.get(kind or "")


def _branches(schema: Schema) -> list[Schema]:
    return schema.get("anyOf") or schema.get("oneOf") or []


def _resolved(schema: Schema, document: Schema) -> Schema:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
    return schema
