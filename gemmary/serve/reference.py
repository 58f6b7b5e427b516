"""GET /docs: what the server understands, as one plain page written from /openapi.json; no scripts."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter()
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1b1b1f; background: #fff }
code { font: 0.9em ui-monospace, monospace } table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0;
         border-bottom: 1px solid #8884 }
h2 { margin-top: 2.5rem } a { color: #0b57d0 } .wide { overflow-x: auto }
@media (prefers-color-scheme: dark) { body { color: #e3e3e8; background: #131316 } a { color: #a8c7fa } }
"""


@router.get("/docs", include_in_schema=False)
async def reference(request: Request) -> HTMLResponse:
    """The page."""
    return HTMLResponse(page(request.app.openapi()))


def page(document: Mapping[str, Any]) -> str:
    """The page of an OpenAPI document."""
    parts = [
        _operation(path, method, operation, document)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    title = f"{document['info']['title']} {document['info']['version']}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f'<h1>{escape(title)}</h1><p>The same for programs: <a href="/openapi.json">/openapi.json</a>.</p>'
        f"{''.join(parts)}</body></html>"
    )


def _operation(path: str, method: str, operation: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    meaning = escape(operation.get("description", ""))
    text = f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{meaning}</p>"
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return text
    schema = _resolved(content["schema"], document)
    needed = schema.get("required", [])
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code>{' *' if name in needed else ''}</td>"
        f"<td>{escape(kind(field, document))}</td><td>{escape(field.get('description', ''))}</td></tr>"
        for name, field in schema.get("properties", {}).items()
    )
    head = "<tr><th>field (* needed)</th><th>type</th><th>meaning</th></tr>"
    return f'{text}<div class="wide"><table>{head}{rows}</table></div>'


def kind(field: Mapping[str, Any], document: Mapping[str, Any], level: int = 0) -> str:
    """The type of a field in words, with its bounds."""
    branches = field.get("anyOf") or field.get("oneOf")
    if branches:
        return " | ".join(dict.fromkeys(kind(b, document, level) for b in branches if b != {"type": "null"}))
    if "$ref" in field:
        return str(field["$ref"].rsplit("/", 1)[-1])
    if "enum" in field or "const" in field:
        return " | ".join(map(repr, field.get("enum", [field.get("const")])))
    name = str(field.get("type", "any"))
    if name == "array":
        return f"list of {kind(field.get('items', {}), document, level + 1)}"
    low, high = field.get("minimum"), field.get("maximum")
    return name if low is None or high is None else f"{name} {low:g} to {high:g}"


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in schema:
        return schema
    found: Mapping[str, Any] = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
    return found
