"""Two engines behind Ray Serve on this machine: `pip install ray[serve]`, then `pytest -m long` here."""

from __future__ import annotations

import concurrent.futures
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ray = pytest.importorskip("ray", reason="ray is not installed")
pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
PORT = 18_000 + os.getpid() % 2000
URL = f"http://127.0.0.1:{PORT}"
CHAT = f"{URL}/v1/chat/completions"
ENDLESS = {"1": -100, "106": -100}  # no token may end the answer
KEY = "sk-canary-key-0001"
BEARER = {"authorization": f"Bearer {KEY}"}
TEXT = "A list of the commands that this conversation is about, one after the other: " * 8


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray import serve

    from gemmary.serve.replicas import Cluster, app

    environment = {"PYTHONPATH": str(ROOT), "GEMMARY_API_KEY": KEY}
    os.environ["GEMMARY_API_KEY"] = KEY  # where it is started, as where it runs
    ray.init(
        address="local", num_cpus=4, include_dashboard=False, object_store_memory=100 << 20,
        runtime_env={"env_vars": environment}, log_to_driver=False,
    )  # fmt: skip
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(app(Cluster(replicas=2, cpus=1, streams=4, queue=16)), name="gemmary")
    yield serve
    serve.shutdown()
    ray.shutdown()
    del os.environ["GEMMARY_API_KEY"]


def ask(text: str, later: tuple[str, ...] = (), **fields: Any) -> httpx.Response:
    roles = ("assistant", "user")
    messages = [{"role": "user", "content": text}]
    messages += [{"role": roles[i % 2], "content": said} for i, said in enumerate(later)]
    body = {"messages": messages, "max_tokens": 4, **fields}
    answer = httpx.post(CHAT, json=body, headers=BEARER, timeout=300)
    assert answer.status_code == 200, answer.text
    return answer


def engine(answer: httpx.Response) -> str:
    return answer.headers["x-engine"]


def remembered(answer: httpx.Response) -> int:
    return int(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"])


def actor_of(name: str) -> Any:
    """Ray's handle of an engine."""
    return ray.get_actor(f"SERVE_REPLICA::gemmary#Engine#{name}", namespace="serve")


def test_a_conversation_finds_the_engine_that_has_read_it(cluster: Any) -> None:
    """By what the engines say, and by their caches: the second turn finds the first one remembered."""
    first = [ask(f"{i} {TEXT}") for i in range(8)]
    second = [ask(f"{i} {TEXT}", ("Yes.", "And then?")) for i in reversed(range(8))][::-1]
    assert [engine(answer) for answer in second] == [engine(answer) for answer in first]
    assert len({engine(answer) for answer in first}) == 2
    assert min(remembered(answer) for answer in second) > 100


def test_answers_are_streamed_and_equal_those_of_one_engine(cluster: Any) -> None:
    import gemmary

    messages = [{"role": "user", "content": "How do I list files?"}]
    with gemmary.load(threads=1) as model:
        expected = model.chat(messages, seed=7, max_tokens=24).text
    text, pieces = "", 0
    body = {"messages": messages, "seed": 7, "max_tokens": 24, "stream": True}
    with httpx.stream("POST", CHAT, json=body, headers=BEARER, timeout=300) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                text += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
                pieces += 1
    assert text == expected
    assert pieces > 5


def test_load_is_spread_though_all_begin_alike(cluster: Any) -> None:
    def long(i: int) -> httpx.Response:
        return ask(TEXT, ("Yes.", f"Number {i}?"), max_tokens=200, logit_bias=ENDLESS)

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(long, range(12)))
    assert [answer.json()["usage"]["completion_tokens"] for answer in answers] == [200] * 12
    assert min(Counter(engine(answer) for answer in answers).values()) >= 3


def test_errors_and_lists_pass_through(cluster: Any) -> None:
    assert httpx.get(f"{URL}/health").json() == {"status": "ok"}
    assert httpx.get(f"{URL}/v1/models", headers=BEARER).json()["data"][0]["id"] == "gemmary"
    said = {"content-type": "application/json"}
    assert httpx.post(CHAT, content=b"{", headers={**BEARER, **said}).status_code == 400


def test_who_has_no_key_is_not_let_in(cluster: Any) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}, {"host": "localhost"}):
        assert httpx.post(CHAT, json={}, headers=headers).status_code == 401
        assert httpx.get(f"{URL}/v1/models", headers=headers).status_code == 401
    called = {**BEARER, "host": "10.1.2.3:8000"}  # as clients of other machines call it
    assert httpx.get(f"{URL}/v1/models", headers=called).status_code == 200
    assert httpx.get(f"{URL}/v1/models", headers={**BEARER, "host": "a.example"}).status_code == 403


def test_who_goes_is_not_answered_further(cluster: Any) -> None:
    """Endless streams would fill both engines; they are left, and others are answered soon."""
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": True, "logit_bias": ENDLESS}
    for _ in range(24):
        with httpx.stream("POST", CHAT, json=body, headers=BEARER, timeout=300) as answer:
            next(answer.iter_lines())
    began = time.monotonic()
    ask("And now?", max_tokens=2)
    assert time.monotonic() - began < 60


def test_an_engine_is_killed_and_requests_go_on(cluster: Any) -> None:
    first = ask(f"killed {TEXT}")
    ray.kill(actor_of(engine(first)), no_restart=True)
    for _ in range(4):
        second = ask(f"killed {TEXT}", ("Yes.", "And then?"))
        assert engine(second) != engine(first)
    deadline = time.monotonic() + 300
    while len({engine(ask(f"{i} {time.monotonic()}")) for i in range(4)}) < 2:
        assert time.monotonic() < deadline, "no engine came in its place"
        time.sleep(2)
