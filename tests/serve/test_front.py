"""Who a cluster lets in: without Ray, which test_replicas.py has."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from fastapi import Request

import gemmary
from gemmary.serve.app import create_app
from gemmary.serve.headers import SECURITY
from gemmary.serve.models import Models
from gemmary.serve.relay import Asked, Head
from gemmary.serve.replicas import Cluster, Front, app, cluster_settings
from gemmary.serve.settings import SettingsError
from tests.serve.asked import BEARER, JSON, KEY, client

CHAT = "/v1/chat/completions"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said; Ray's errors have names, though Ray may not be here."""
    for name in [name for name in os.environ if name.startswith("GEMMARY_")]:
        monkeypatch.delenv(name)
    for module, error in (("ray.exceptions", "RayActorError"), ("ray.serve.exceptions", "BackPressureError")):
        made = ModuleType(module)
        setattr(made, error, type(error, (Exception,), {}))
        monkeypatch.setitem(sys.modules, module, made)


class Engines:
    """Ray's handle of engines that say "well"; keeps what they are asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answer = self

    def options(self, **_: Any) -> Engines:
        return self

    def remote(self, asked: Asked, chain: Any) -> Pieces:
        self.asked.append(asked)
        return Pieces([Head(200, []), b"well"])


class Pieces:
    """What an engine says, piece by piece."""

    def __init__(self, said: list[Any]) -> None:
        self._said = said

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> Any:
        if not self._said:
            raise StopAsyncIteration
        return self._said.pop(0)

    def cancel(self) -> None: ...


def sent(front: Front) -> Any:
    """The front as Ray runs it: an application."""

    async def run(scope: Any, receive: Any, send: Any) -> None:
        response = await front(Request(scope, receive))
        await response(scope, receive, send)

    return run


def asking(front: Front, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
    async def ask() -> list[httpx.Response]:
        async with client(sent(front)) as http:
            return [await http.request(method, path, **more) for method, path, more in requests]

    return asyncio.run(ask())


def test_a_cluster_does_not_start_before_it_is_said_who_may_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for start in (cluster_settings, lambda: app(Cluster()), lambda: Front(Engines())):
        with pytest.raises(SettingsError, match="GEMMARY_API_KEY_FILE=FILE in the environment"):
            start()
    monkeypatch.setenv("GEMMARY_API_KEYS", KEY)
    with pytest.raises(SettingsError, match="is api_key meant"):
        app(Cluster())
    monkeypatch.delenv("GEMMARY_API_KEYS")
    (tmp_path / "keys").write_text(KEY)
    for name, value in (("NO_KEY", "true"), ("API_KEY", KEY), ("API_KEY_FILE", str(tmp_path / "keys"))):
        with monkeypatch.context() as said:
            said.setenv(f"GEMMARY_{name}", value)
            assert cluster_settings().keys == (() if name == "NO_KEY" else (KEY,))


def test_nothing_is_read_of_a_body_without_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMMARY_API_KEY", KEY)
    engines, events = Engines(), list[str]()
    scope = {"type": "http", "method": "POST", "path": CHAT, "query_string": b"", "server": ("a", 1),
             "headers": [(b"content-length", b"9"), (b"host", b"localhost")]}  # fmt: skip

    async def receive() -> dict[str, Any]:
        events.append("read")
        return {"type": "http.request", "body": b"{}       ", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        events.append(str(message.get("status", "body")))

    asyncio.run(sent(Front(engines))(scope, receive, send))
    assert events[:2] == ["401", "body"], "what is thrown away afterwards was not waited for"
    assert engines.asked == []


def test_who_has_the_key_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMMARY_API_KEY", KEY)
    monkeypatch.setenv("GEMMARY_MAX_BODY", "1024")
    engines = Engines()
    right, wrong = {**JSON, **BEARER}, {**JSON, "authorization": f"Bearer {KEY}x"}
    answers = asking(
        Front(engines),
        ("POST", CHAT, {"content": b"{}", "headers": right}),
        ("POST", CHAT, {"content": b"{}", "headers": wrong}),
        ("POST", CHAT, {"content": b" " * 1025, "headers": right}),
        ("GET", "/health", {"content": b"{}"}),
    )
    assert [answer.status_code for answer in answers] == [200, 401, 413, 200]
    assert answers[0].content == b"well"
    assert [asked.body for asked in engines.asked] == [b"{}", b""], "what is open needs no body"
    for answer in answers:
        assert {name.decode() for name in SECURITY} <= set(answer.headers)


def test_a_cluster_is_called_by_addresses_and_not_let_in_for_its_name(
    bundled: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As engines have it: calling it localhost is no key, and honest clients of other machines get in."""
    monkeypatch.setenv("GEMMARY_API_KEY", KEY)
    application = create_app(Models({"test": bundled}), cluster_settings())

    async def ask(host: str, headers: dict[str, str]) -> int:
        async with client(application, host) as http:
            return (await http.get("/v1/models", headers=headers)).status_code

    hosts = ("10.1.2.3:8000", "localhost:8000", "a.example")
    assert [asyncio.run(ask(host, BEARER)) for host in hosts] == [200, 200, 403]
    assert [asyncio.run(ask(host, {})) for host in hosts] == [401, 401, 403]
