"""`gemmary ps`: the models of a running server."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from typing import Annotated, Any

import typer

from ..errors import GemmaryError
from .terminal import printable

SECONDS = 10
Url = Annotated[
    str | None, typer.Option(metavar="URL", help="The server, http://127.0.0.1:8000 if not said.")
]
ApiKey = Annotated[str | None, typer.Option(metavar="KEY", help="Its key; GEMMARY_API_KEY if not said.")]
AsJson = Annotated[bool, typer.Option("--json", help="As the server tells it, in JSON.")]
HEADS = ("MODEL", "STATE", "SINCE", "CONTEXT", "STREAMS", "WAITING", "WEIGHTS", "PAGES")


class ServerError(GemmaryError):
    """There is no server, or it does not say what we ask."""


def ps(url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """The models of a running server: which are loaded, since when, their memory and streams.

    \b
    gemmary ps                                  of the server on this machine
    gemmary ps --url http://192.168.1.5:8000    of another one
    """
    base = url or f"http://{_host()}:{os.environ.get('GEMMARY_PORT', '8000')}"
    key = api_key or os.environ.get("GEMMARY_API_KEY", "").split(",")[0]
    states = fetch(base.rstrip("/"), key)
    if as_json:
        print(json.dumps(states))
        return
    for line in table([HEADS, *map(row, states)]):
        print(printable(line))


def fetch(base: str, key: str) -> list[dict[str, Any]]:
    """What a server says of its models. ServerError says what to do."""
    if not base.startswith(("http://", "https://")):
        raise ServerError(f"{base} is no address of a server: it begins with http:// or https://")
    request = urllib.request.Request(
        f"{base}/models", headers={"Authorization": f"Bearer {key}"} if key else {}
    )
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            return list(json.load(response)["data"])
    except urllib.error.HTTPError as fault:
        wanted = "give its key with --api-key" if fault.code == 401 else "look into its log"
        raise ServerError(f"the server at {base} refuses with {fault.code}: {wanted}") from None
    except (OSError, HTTPException):
        raise ServerError(f"no server answers at {base}: start one with gemmary serve") from None
    except (ValueError, KeyError, TypeError):
        raise ServerError(
            f"what answers at {base} is not gemmary serve: give its address with --url"
        ) from None


def row(state: Mapping[str, Any]) -> Sequence[str]:
    """A line of the table."""
    name = f"{state['id']}{' *' if state.get('default') else ''}"
    status = str(state["status"]["value"])
    if "since" not in state:
        return (name, status, *[""] * 6)
    memory = state["memory"]
    weights = "?" if memory["weights"] is None else _size(memory["weights"])
    return (
        name, status, _ago(time.time() - state["since"]), f"{state['context']:,}",
        f"{state['running']} of {state['streams']}", str(state["waiting"]), weights,
        f"{_size(memory['pages_used'])} of {_size(memory['pages_total'])}",
    )  # fmt: skip


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as they have to be."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "   ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _host() -> str:
    host = os.environ.get("GEMMARY_HOST", "127.0.0.1")
    return "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _ago(seconds: float) -> str:
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{max(0, int(seconds))} seconds"
