"""Several models: loaded when asked, unloaded when memory is needed or somebody says so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import gemmary
from gemmary.config import NANO
from gemmary.engine.memory import Estimate
from gemmary.errors import ModelFileError
from gemmary.serve import models as models_module
from gemmary.serve.app import create_app
from gemmary.serve.models import Models, Source, named
from gemmary.serve.settings import Settings
from tests.serve.asked import client

CHAT = "/v1/chat/completions"
ROOM = 64 << 20  # bytes that each model of these tests may take; it takes most of them
SIZE = Estimate(100, ROOM - 101, 1)


class Library:
    """Sources of the bundled model; counts what is loaded."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.models: list[gemmary.Model] = []

    def source(self, name: str) -> Source:
        def load(memory: int) -> gemmary.Model:
            self.loads.append(name)
            self.models.append(gemmary.load(threads=1, streams=2, queue=4, memory=ROOM))
            return self.models[-1]

        return Source(load, lambda: SIZE)


@pytest.fixture
def library() -> Iterator[Library]:
    made = Library()
    yield made
    for model in made.models:
        model.close()


def sources(library: Library, *names: str) -> dict[str, Source]:
    return {name: library.source(name) for name in names}


def body(model: str | None, tokens: int = 1) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": tokens, "temperature": 0,
            **({"model": model} if model else {})}  # fmt: skip


def run(models: Models, ask: Callable[[Any], Any]) -> Any:
    async def asking() -> Any:
        async with client(create_app(models, Settings())) as http:
            return await ask(http)

    return asyncio.run(asking())


def loaded(states: Any) -> set[str]:
    return {entry["id"] for entry in states.json()["data"] if entry["status"]["value"] == "loaded"}


def test_loaded_when_asked_and_the_idle_one_goes(library: Library) -> None:
    models = Models(sources=sources(library, "a", "b", "c"), default="b", memory=2 * SIZE.total + 1)

    async def ask(http: Any) -> None:
        assert loaded(await http.get("/models")) == set()
        assert (await http.post(CHAT, json=body(None))).json()["model"] == "b"
        two = await asyncio.gather(*(http.post(CHAT, json=body("a")) for _ in range(2)))
        assert [answer.status_code for answer in two] == [200, 200]
        assert library.loads == ["b", "a"], "one load for two who ask"
        assert (await http.post(CHAT, json=body("b"))).status_code == 200
        assert (await http.post(CHAT, json=body("c"))).status_code == 200
        assert loaded(await http.get("/models")) == {"b", "c"}  # a was idle longest
        listed = (await http.get("/v1/models")).json()["data"]
        assert [entry["id"] for entry in listed] == ["b", "a", "c"]
        assert [entry["context_length"] for entry in listed] == [NANO.context, None, NANO.context]
        assert (await http.post(CHAT, json=body("nobody"))).status_code == 404

    run(models, ask)


def test_who_answers_stays(library: Library) -> None:
    models = Models(sources=sources(library, "a", "b"), memory=SIZE.total + 1)

    async def ask(http: Any) -> None:
        endless = {**body("a", 900), "logit_bias": {"1": -100, "106": -100}}
        answering = asyncio.ensure_future(http.post(CHAT, json=endless))
        while not (models.loaded and models.states()[0]["running"]):
            await asyncio.sleep(0.01)
        refused = await http.post(CHAT, json=body("b"))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        unloading = await http.post("/models/unload", json={"model": "a"})
        assert (unloading.status_code, unloading.json()["error"]["code"]) == (409, "busy")
        assert (await answering).status_code == 200
        assert (await http.post(CHAT, json=body("b"))).status_code == 200
        assert loaded(await http.get("/models")) == {"b"}

    run(models, ask)


def test_clients_that_leave_do_not_take_the_loading_along(library: Library) -> None:
    """Patience of 50 ms, a load that takes longer: it is one load, and who comes later finds the model."""
    go_on, source = threading.Event(), library.source("a")

    def slow(memory: int) -> gemmary.Model:
        library.loads.append("begun")
        go_on.wait(60)
        return source.load(memory)

    models = Models(sources={"a": Source(slow, source.estimate), "b": library.source("b")}, default="a")

    async def ask(http: Any) -> None:
        for _ in range(5):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(http.post(CHAT, json=body("a")), 0.05)
        assert models.loading, "an engine that waits meanwhile does not hang"
        assert (await http.get("/models")).json()["data"][0]["status"] == {"value": "loading"}
        other = asyncio.ensure_future(http.post(CHAT, json=body("b")))
        await asyncio.sleep(0.05)
        assert library.loads == ["begun"], "one at a time"
        go_on.set()
        assert (await http.post(CHAT, json=body("a"))).status_code == 200
        assert (await other).status_code == 200
        assert library.loads == ["begun", "a", "b"] and not models.loading
        assert (await http.post("/models/unload", json={"model": "a"})).status_code == 200, "nobody holds it"

    try:
        run(models, ask)
    finally:
        go_on.set()


def test_who_waits_for_a_model_gets_it_before_it_is_unloaded(library: Library) -> None:
    """Room for one: each waits for its turn, and none is answered by a model that is closed."""
    models = Models(sources=sources(library, "a", "b"), memory=SIZE.total + 1)

    async def ask(http: Any) -> None:
        answers = await asyncio.gather(*(http.post(CHAT, json=body(name)) for name in ("a", "b", "a")))
        assert [answer.status_code for answer in answers] == [200, 503, 200]
        assert library.loads == ["a"]

    run(models, ask)


def test_load_and_unload(library: Library) -> None:
    async def ask(http: Any) -> None:
        assert (await http.post("/models/load", json={"model": "a"})).json() == {"success": True}
        state = (await http.get("/models")).json()["data"][0]
        assert state["memory"]["weights"] == SIZE.weights and state["streams"] == 2 and state["default"]
        assert (await http.post("/models/unload", json={"model": "a"})).json() == {"success": True}
        assert loaded(await http.get("/models")) == set()
        with pytest.raises(gemmary.errors.PromptError, match="closed"):
            library.models[0].chat([{"role": "user", "content": "Hi"}])
        assert (await http.post("/models/load", json={"model": "x"})).status_code == 404
        assert (await http.post("/models/load", json={"model": 1})).status_code == 400

    run(Models(sources=sources(library, "a")), ask)


def test_a_model_that_does_not_load_tells_clients_nothing_of_its_file() -> None:
    def fail(memory: int) -> gemmary.Model:
        raise ModelFileError("/canary/path.gguf", "is damaged")

    async def ask(http: Any) -> None:
        answer = await http.post(CHAT, json=body("a"))
        assert answer.status_code == 503 and "canary" not in answer.text
        assert (await http.get("/models")).json()["data"][0]["status"] == {"value": "unloaded"}

    run(Models(sources={"a": Source(fail, lambda: SIZE)}), ask)


class Pretender:
    """Looks like a loaded model whose pages take so many bytes."""

    def __init__(self, pages: int) -> None:
        self.scheduler = SimpleNamespace(
            running=0, waiting=0, forget=lambda: None, pages=SimpleNamespace(bytes_total=pages)
        )

    def close(self) -> None: ...


def pretended(given: dict[str, int], name: str, pages: int) -> Source:
    """A model that needs 40 bytes, and takes `pages` and 20; notes how many it was given."""

    def load(memory: int) -> Any:
        given[name] = memory
        return Pretender(pages)

    return Source(load, lambda: Estimate(10, 20, 10))


def asked_in_turn(models: Models) -> list[set[str]]:
    """Which are loaded after each was asked for."""

    async def asking() -> list[set[str]]:
        found = []
        for name in models.names:
            await models.ready(name)
            found.append(set(models.loaded))
        return found

    return asyncio.run(asking())


def test_the_machine_is_the_limit_where_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_module, "machine_memory", lambda: 100)
    given: dict[str, int] = {}
    models = Models(sources={name: pretended(given, name, 20) for name in ("a", "b", "c")})
    assert asked_in_turn(models) == [{"a"}, {"a", "b"}, {"b", "c"}]
    assert given == {"a": 100, "b": 60, "c": 60}, "each may take what the others leave"


def test_what_a_loaded_model_really_takes_is_counted() -> None:
    """Its pages are more than was estimated: the largest context that fitted, and room for other streams."""
    given: dict[str, int] = {}
    models = Models(sources={name: pretended(given, name, 41) for name in ("a", "b")}, memory=100)
    assert asked_in_turn(models) == [{"a"}, {"b"}]
    assert given == {"a": 100, "b": 100}


def test_names_of_sources(tmp_path: Path) -> None:
    found = named(["/models/x.gguf", "./y/x.gguf", "google/gemma-3-1b-it", "folder/z.gguf"])
    assert list(found) == ["x", "x-2", "google/gemma-3-1b-it", "z"]


def test_the_default_must_be_here(library: Library) -> None:
    with pytest.raises(gemmary.errors.GemmaryError, match="no model of this name"):
        Models(sources=sources(library, "a"), default="b")
