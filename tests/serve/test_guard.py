"""Default deny: keys, names, origins, types, states; and the headers of every answer."""

from __future__ import annotations

import asyncio
import hmac
import time
from typing import Any

import numpy as np
import pytest

import gemmary
from gemmary.serve import guard
from gemmary.serve.guard import Hosts, Keys, owner_of
from gemmary.serve.headers import SECURITY
from tests.serve.asked import BEARER, JSON, KEY, OTHER, application, client, routes

CHAT = "/v1/chat/completions"
ASK = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
OPEN = {("GET", "/health"), ("GET", "/")}  # and each file of the page


def ask(app: Any, method: str, path: str, host: str = "localhost:8000", **request: Any) -> Any:
    async def asking() -> Any:
        async with client(app, host) as http:
            return await http.request(method, path, **request)

    return asyncio.run(asking())


WRONG: list[dict[str, str]] = [
    {},
    {"authorization": f"Bearer {OTHER}"},
    {"authorization": f"Bearer {KEY[:-1]}"},
    {"authorization": f"Bearer {KEY}x"},
    {"authorization": "Bearer "},
    {"authorization": f"Basic {KEY}"},
    {"authorization": KEY},
    {"x-api-key": OTHER},
    {"authorization": f"Bearer {KEY}", "x-api-key": OTHER},
    {"cookie": f"key={KEY}"},
]


def test_every_route_asks_for_the_key(bundled: gemmary.Model) -> None:
    app = application(bundled, api_key=(KEY,))
    asked = [*routes(app), ("GET", "/nothing"), ("POST", "/nothing"), ("OPTIONS", CHAT),
             ("GET", "/%2Fhealth"), ("GET", "/health/"), ("GET", "/health/../metrics"), ("GET", "/HEALTH"),
             ("GET", "/static/../metrics"), ("TRACE", "/metrics"), ("POST", "/health")]  # fmt: skip
    assert {("POST", CHAT), ("GET", "/metrics"), ("GET", "/docs"), ("POST", "/models/unload")} <= set(asked)

    async def sweep() -> None:
        async with client(app) as http:
            for method, path in asked:
                for wrong in WRONG:
                    answer = await http.request(method, path, headers={**JSON, **wrong})
                    expected = 200 if (method, path) in OPEN else 401
                    assert answer.status_code == expected, (method, path, wrong)
                    assert (method, path) != ("GET", "/") or answer.headers["content-type"].startswith(
                        "text/html"
                    )

    asyncio.run(sweep())


@pytest.mark.parametrize("headers", [BEARER, {"x-api-key": KEY}, {"authorization": f"bearer  {KEY}"}])
def test_the_key_lets_in(bundled: gemmary.Model, headers: dict[str, str]) -> None:
    app = application(bundled, api_key=(OTHER, KEY))
    assert ask(app, "GET", "/v1/models", headers=headers).status_code == 200
    assert ask(app, "GET", "/nothing", headers=headers).status_code == 404


def test_a_path_is_decided_on_whatever_the_host_says(bundled: gemmary.Model) -> None:
    app = application(bundled, api_key=(KEY,), hosts=("a.example",))
    for host in ("a.example/health?", "localhost/health", "localhost:8000/health#", "a.example?x=/health"):
        answer = ask(app, "GET", "/metrics", headers={"host": host})
        assert answer.status_code in (401, 403), host


GOOD = ["localhost", "LOCALHOST:1", "127.0.0.1:9000", "127.1.2.3", "[::1]:8000", "a.example", "A.Example:443"]
BAD = """evil.example localhost.evil.example 127.0.0.1.evil.example localhost. a.example. 127.1 2130706433
    0x7f.0.0.1 127.0.0.01 user@localhost localhost: localhost:x localhost:123456 [::1 [::ffff:8.8.8.8] 8.8.8.8
    192.168.1.5 localhost,evil.example localhost/health? [localhost]"""


@pytest.mark.parametrize("host", GOOD)
def test_own_names(bundled: gemmary.Model, host: str) -> None:
    app = application(bundled, hosts=("a.example",))
    assert ask(app, "GET", "/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["", "localhost evil", *BAD.split()])
def test_names_of_others(bundled: gemmary.Model, host: str) -> None:
    app = application(bundled, hosts=("a.example",))
    answer = ask(app, "POST", CHAT, json=ASK, headers={"host": host})
    assert answer.status_code == 403, host
    assert answer.json()["error"]["code"] == "host"


def test_a_server_for_others_is_found_by_any_address_and_no_foreign_name() -> None:
    hosts = Hosts("0.0.0.0", loopback=False, names=("chat.example",))
    assert all(hosts.allows(host) for host in ("192.168.1.5:8000", "[fe80::1]", "8.8.8.8", "chat.example"))
    assert not any(hosts.allows(host) for host in ("evil.example", "0x08.8.8.8", "192.168.1.5.evil.example"))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://localhost:8000"}, 200),
        ({"origin": "https://localhost:8000"}, 200),  # behind a proxy that speaks TLS
        ({"origin": "http://localhost:3000"}, 403),
        ({"origin": "http://localhost"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "http://localhost:8000.evil.example"}, 403),
        ({"origin": "http://app.example"}, 200),
        ({"origin": "http://app.example", "sec-fetch-site": "cross-site"}, 200),
        ({"origin": "http://app.example:81"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": "http://localhost:8000"}, 403),
    ],
)
def test_pages_of_others(bundled: gemmary.Model, headers: dict[str, str], status: int) -> None:
    app = application(bundled, origins=("http://app.example",))
    for method, path in (("GET", "/v1/models"), ("POST", "/tokenize")):
        answer = ask(app, method, path, headers={**JSON, **headers}, content=b'{"prompt": "a"}')
        assert answer.status_code == status, (method, answer.text)
        readable = answer.headers.get("access-control-allow-origin")
        assert readable == ("http://app.example" if headers.get("origin") == "http://app.example" else None)


def test_preflight(bundled: gemmary.Model) -> None:
    app = application(bundled, origins=("http://app.example",), api_key=(KEY,))
    wanted = {"access-control-request-method": "POST"}
    assert ask(app, "OPTIONS", CHAT, headers={"origin": "http://app.example", **wanted}).status_code == 204
    assert ask(app, "OPTIONS", CHAT, headers={"origin": "http://evil.example", **wanted}).status_code == 403


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        ("image/png", 400),  # let in, and no JSON
        ("text/plain", 415),
        ("text/plain; application/json", 415),
        ("application/jsonx", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("", 415),
        (None, 415),
    ],
)
def test_only_json(bundled: gemmary.Model, kind: str | None, status: int) -> None:
    headers = {} if kind is None else {"content-type": kind}
    app = application(bundled)
    assert ask(app, "POST", "/tokenize", content=b'{"prompt": "a"}', headers=headers).status_code == status


def test_every_answer_has_the_headers(bundled: gemmary.Model) -> None:
    app = application(bundled, api_key=(KEY,), port=1)  # its own

    async def fail() -> None:
        raise RuntimeError("canary of an error")

    app.add_api_route("/fail", fail)
    asked = [("GET", "/health", {}), ("GET", "/v1/models", {}), ("GET", "/v1/models", BEARER),
             ("GET", "/nothing", BEARER), ("POST", CHAT, {**BEARER, **JSON}), ("GET", "/docs", BEARER),
             ("GET", "/metrics", {**BEARER, "host": "evil"}), ("PUT", CHAT, BEARER), ("GET", "/fail", BEARER),
             ("POST", "/v1/messages", {**BEARER, **JSON})]  # fmt: skip
    statuses = set()
    for method, path, headers in asked:
        answer = ask(app, method, path, headers=headers)
        statuses.add(answer.status_code)
        for name in SECURITY:
            assert answer.headers.get_list(name.decode()), (path, name)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert len(answer.headers["x-request-id"]) == 16
        assert "server" not in answer.headers
        assert "canary" not in answer.text
    assert {200, 401, 403, 404, 415, 500} <= statuses


def test_every_route_has_exactly_these_headers(bundled: gemmary.Model) -> None:
    """With the key and without, whatever the answer is; each header once."""
    app = application(bundled, api_key=(KEY,), port=4)  # its own

    async def sweep() -> None:
        async with client(app) as http:
            for method, path in [*routes(app), ("GET", "/nothing")]:
                for key in (BEARER, {}):
                    answer = await http.request(method, path, headers={**JSON, **key}, content=b"{}")
                    for name, value in SECURITY.items():
                        assert answer.headers.get_list(name.decode()) == [value.decode()], (method, path)
                    assert "access-control-allow-origin" not in answer.headers

    asyncio.run(sweep())


@pytest.mark.parametrize(("path", "kind"), [(CHAT, "rate_limit_error"), ("/v1/messages", "rate_limit_error")])
def test_share_of_a_key(bundled: gemmary.Model, path: str, kind: str) -> None:
    app = application(bundled, api_key=(KEY, OTHER), requests_per_key=1)
    body = {**ASK, "max_tokens": 60, "temperature": 0}

    async def asking() -> tuple[list[Any], Any]:
        async with client(app) as http:
            same = [http.post(path, json=body, headers=BEARER) for _ in range(3)]
            other = http.post(path, json=body, headers={"x-api-key": OTHER})
            *mine, others = await asyncio.gather(*same, other)
            return mine, others

    mine, others = asyncio.run(asking())
    assert sorted(answer.status_code for answer in mine) == [200, 429, 429]
    assert others.status_code == 200
    refused = next(answer for answer in mine if answer.status_code == 429)
    assert refused.headers["retry-after"] == "1" and refused.json()["error"]["type"] == kind
    assert ask(app, "POST", path, json={**ASK}, headers=BEARER).status_code == 200


@pytest.mark.parametrize("state", ["loading", "stopping"])
def test_states(bundled: gemmary.Model, state: str) -> None:
    app = application(bundled, port=2 if state == "loading" else 3)  # its own
    setattr(app.state.health, {"loading": "starting"}.get(state, state), True)
    health = ask(app, "GET", "/health")
    assert (health.status_code, health.json()) == (503, {"status": state})
    refused = ask(app, "POST", CHAT, json=ASK)
    assert refused.status_code == 503 and int(refused.headers["retry-after"]) > 0
    assert ask(app, "GET", "/metrics").status_code == 200


def test_too_many_headers(bundled: gemmary.Model) -> None:
    answer = ask(application(bundled), "GET", "/health", headers={f"x-{i}": "1" for i in range(200)})
    assert answer.status_code == 431


def test_owners_are_apart_and_stay() -> None:
    assert owner_of(KEY) != owner_of(OTHER) and owner_of(KEY) == owner_of(KEY)
    assert KEY not in owner_of(KEY)


@pytest.mark.parametrize("given", [KEY, OTHER, KEY[:-1], "x", ""])
def test_a_key_is_compared_with_every_key_by_its_digest(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """No early exit, nothing but digests of one length, and only by a comparison in constant time."""
    compared: list[tuple[int, int]] = []
    honest = hmac.compare_digest

    def counted(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return honest(a, b)

    monkeypatch.setattr(guard.hmac, "compare_digest", counted)
    owner = Keys([KEY, OTHER, "third"]).owner({"headers": [(b"x-api-key", given.encode())]})
    assert owner == {KEY: owner_of(KEY), OTHER: owner_of(OTHER)}.get(given)
    assert compared == [(32, 32)] * 3


@pytest.mark.long
def test_a_wrong_key_takes_the_same_time_however_much_of_it_is_right() -> None:
    keys = Keys([KEY, OTHER])
    near, far = f"{KEY[:-1]}x", "x" * len(KEY)
    scopes = [{"headers": [(b"x-api-key", key.encode())]} for key in (near, far)]
    times: tuple[list[int], list[int]] = ([], [])
    for number in range(20_000):
        which = number % 2
        start = time.perf_counter_ns()
        keys.owner(scopes[which])
        times[which].append(time.perf_counter_ns() - start)
    cut = sorted(times[0] + times[1])[int(1.6 * len(times[0]))]  # what the machine did meanwhile
    a, b = (np.array([t for t in side if t < cut], np.float64) for side in times)
    welch = (a.mean() - b.mean()) / np.sqrt(a.var() / len(a) + b.var() / len(b))
    assert abs(welch) < 4.5
