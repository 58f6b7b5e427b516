"""On the wire: half requests, idle connections, too many of them, and what is no HTTP."""

from __future__ import annotations

import contextlib
import json
import random
import re
import select
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import gemmary
from gemmary.serve.headers import SECURITY
from gemmary.serve.server import Server
from tests.serve.asked import KEY
from tests.serve.whole import Process, served

QUICK = {"header_time": 0.5, "body_time": 0.5, "idle": 1.5, "connections": 64, "stall": 1.0}
HEAD = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
TCP_REPAIR = 19  # Linux: a socket in this mode sends nothing when it is closed
BODY = b'{"prompt": "a"}'
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.fixture(scope="module")
def address(bundled: gemmary.Model) -> Iterator[tuple[str, int]]:
    with served(bundled, **QUICK) as (url, _):
        yield "127.0.0.1", int(url.rsplit(":", 1)[1])


def said(address: tuple[str, int], data: bytes, wait: float = 20.0) -> bytes:
    """All that the server answers until it closes."""
    with socket.create_connection(address, timeout=wait) as connection:
        connection.sendall(data)
        return rest(connection)


def until(connection: socket.socket, end: bytes) -> bytes:
    found = b""
    while not found.endswith(end):
        found += connection.recv(65536)
    return found


def rest(connection: socket.socket) -> bytes:
    found = b""
    while True:
        try:
            data = connection.recv(65536)
        except ConnectionResetError:
            return found
        if not data:
            return found
        found += data


HALVES: list[tuple[bytes, int | None]] = [
    (b"", None),  # nothing at all: idle
    (b"P", None),
    (HEAD, None),
    (HEAD + b"X-A: " + b"a" * 100, None),
    (HEAD + b"Content-Length: 100\r\n\r\n", 408),
    (HEAD + b"Content-Length: 100\r\n\r\n{", 408),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc", 408),
    (b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea", 200),  # the next one is half
]


def test_half_a_request_is_not_waited_for(address: tuple[str, int]) -> None:
    held = [socket.create_connection(address, timeout=30) for _ in HALVES]
    for connection, (data, _) in zip(held, HALVES, strict=True):
        connection.sendall(data)
    assert httpx.get(f"http://127.0.0.1:{address[1]}/health").status_code == 200
    for connection, (data, status) in zip(held, HALVES, strict=True):
        assert rest(connection)[9:12] == (b"" if status is None else b"%d" % status), data
        connection.close()


def test_a_byte_now_and_then_does_not_help(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=20) as connection:
        started, closed = time.monotonic(), False
        while not closed and time.monotonic() - started < 15:
            try:
                connection.sendall(b"G")
                closed = bool(select.select([connection], [], [], 0.1)[0]) and not connection.recv(100)
            except OSError:
                closed = True
        assert closed


def test_after_an_answer_a_connection_serves_again(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=20) as connection:
        for _ in range(3):
            connection.sendall(WHOLE)
            assert b'"count"' in until(connection, b"}")
        connection.sendall(WHOLE * 3)  # pipelined
        assert rest(connection).count(b"HTTP/1.1 200") == 3


def test_too_many_connections(bundled: gemmary.Model) -> None:
    with served(bundled, **{**QUICK, "connections": 3, "idle": 30.0}) as (url, server):
        address = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
        drained(server)
        held = [socket.create_connection(address, timeout=20) for _ in range(3)]
        held[0].sendall(WHOLE)
        assert held[0].recv(65536).startswith(b"HTTP/1.1 200")
        full = said(address, b"")
        assert full.startswith(b"HTTP/1.1 503") and b"retry-after: 1" in full
        assert all(name + b": " in full for name in SECURITY)
        for connection in held:
            connection.close()
        drained(server)
        assert httpx.get(f"{url}/health").status_code == 200


def test_what_a_client_still_sends_does_not_hide_the_refusal(address: tuple[str, int]) -> None:
    """1 GB is announced and some of it sent: the answer comes, and no reset before it."""
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(HEAD + b"Content-Length: 1073741824\r\n\r\n" + b"x" * 500_000)
        assert rest(connection).startswith(b"HTTP/1.1 413")


def test_no_http_is_refused_with_all_headers(address: tuple[str, int]) -> None:
    answer = said(address, b"HELO localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert all(name + b": " in answer for name in SECURITY)
    assert int(re.search(rb"content-length: (\d+)", answer)[1]) == len(answer.partition(b"\r\n\r\n")[2])  # type: ignore[index]


@pytest.mark.long
def test_a_client_that_takes_nothing_is_left(bundled: gemmary.Model) -> None:
    with served(bundled, **{**QUICK, "idle": 30.0}) as (url, server):
        port = int(url.rsplit(":", 1)[1])
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", port))
            ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
            for _ in range(300):  # megabytes of answers, none of them read
                try:
                    connection.settimeout(0.2)
                    connection.sendall(ask)
                except TimeoutError:
                    break
            assert httpx.get(f"{url}/health").status_code == 200
            drained(server)


@pytest.mark.skipif(sys.platform != "linux", reason="the options are Linux's")
@pytest.mark.parametrize(
    ("stall", "probe", "silence"),
    [(60.0, 15, 60_000), (20.0, 5, 20_000), (0.5, 1, 500), (1e9, 32767, 2**31 - 1)],
)
def test_the_kernel_is_told_to_look_for_clients_that_vanished(
    bundled: gemmary.Model, stall: float, probe: int, silence: int
) -> None:
    """It would ask after two hours; and how long data may be under way says nothing while there is none."""
    tcp = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
    with served(bundled, stall=stall) as (url, server), socket.socket() as connection:
        connection.connect(("127.0.0.1", int(url.rsplit(":", 1)[1])))
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 " in connection.recv(100)
        accepted = [each.transport.get_extra_info("socket") for each in server.server_state.connections]
        (found,) = [each for each in accepted if each.getpeername() == connection.getsockname()]
        assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        told = [found.getsockopt(socket.IPPROTO_TCP, option) for option in tcp]
        assert told == [probe, probe, 3, silence]


def test_a_client_that_vanished_without_a_word_is_left(
    bundled: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wants its answer whole, so nothing is under way that could fail: only the kernel's probes tell."""
    scheduler = bundled.scheduler
    assert scheduler is not None
    together = scheduler._runner.together
    monkeypatch.setattr(scheduler._runner, "together", lambda *given: (time.sleep(0.1), together(*given))[1])
    body = {"prompt": "a", "max_tokens": 900, "logit_bias": {"1": -100, "106": -100}}  # a minute and a half
    data = json.dumps(body).encode()
    head = HEAD.replace(b"/tokenize", b"/v1/completions") + b"Content-Length: %d\r\n\r\n" % len(data)
    with served(bundled, stall=1.0) as (url, server):
        connection = socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])))
        connection.sendall(head + data)
        while not scheduler.running:
            time.sleep(0.02)
        began = time.monotonic()
        vanish(connection)
        drained(server)
        while scheduler.running:
            time.sleep(0.02)
        assert time.monotonic() - began < 30


def vanish(connection: socket.socket) -> None:
    """Forget a connection as a machine does whose plug is pulled: the other side hears nothing."""
    try:
        connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    except OSError:
        pytest.skip("this needs Linux, and the rights of CAP_NET_ADMIN")
    connection.close()


def drained(server: Server) -> None:
    """Return when no connection is left."""
    end = time.monotonic() + 60
    while server.server_state.connections and time.monotonic() < end:
        time.sleep(0.02)
    assert not server.server_state.connections


START = (
    b"POST %b HTTP/1.1\r\nHost: %b\r\nX-Api-Key: wrong-key-00\r\nContent-Type: application/json\r\n%b\r\n%b"
)
PATHS = [b"/v1/models", b"/tokenize", b"//health", b"http://x/health", b"/health/..%2fmetrics", b"*", b"/%00",
         b"/" + b"a" * 9000, b"/\xff"]  # fmt: skip
HOSTS = [
    b"localhost",
    b"localhost/health",
    b"x/health?",
    b"",
    b"evil",
    b"localhost\r\nHost: evil",
    b"127.0.0.1:80:80",
]
LENGTHS = [
    b"Content-Length: 15\r\n",
    b"Content-Length: 15\r\nContent-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length : 15\r\n",
    b"X: " + b"y" * 100_000 + b"\r\n",
    b"".join(b"X-%d: 1\r\n" % i for i in range(3000)),
    b" folded: 1\r\n",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
    b"Expect: 100-continue\r\nContent-Length: 15\r\n",
]
HIDDEN = b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODIES = [BODY, b"5\r\nhello\r\n0\r\n\r\n", b"fffffffffffffffff\r\nx", b"-1\r\n", b"", HIDDEN]


def mutated(seed: int) -> bytes:
    """A request with some things wrong with it."""
    chance = random.Random(seed)
    data = bytearray(START % tuple(chance.choice(parts) for parts in (PATHS, HOSTS, LENGTHS, BODIES)))
    for _ in range(chance.choice([0, 0, 1, 3])):
        place, gone = chance.randrange(min(len(data), 400)), chance.randrange(3)
        data[place : place + gone] = chance.randbytes(chance.randrange(3))
    return bytes(data)


def sweep(bundled: gemmary.Model, seeds: range) -> None:
    """Nothing gets in, nothing falls over."""
    answers = 0
    quick = QUICK | {"connections": 4096, "header_time": 0.3, "body_time": 0.3}
    with served(bundled, **quick, api_key=(KEY,)) as (url, _):
        address = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
        for first in range(seeds.start, seeds.stop, 50):
            numbers = range(first, min(first + 50, seeds.stop))
            batch = [socket.create_connection(address, timeout=60) for _ in numbers]
            for number, connection in zip(numbers, batch, strict=True):
                with contextlib.suppress(OSError):  # refused before all was sent
                    connection.sendall(mutated(number))
                    connection.shutdown(socket.SHUT_WR)
            for number, connection in zip(numbers, batch, strict=True):
                answer = rest(connection)
                statuses = re.findall(rb"^HTTP/1\.1 (\d+)", answer, re.MULTILINE)
                refused = [400 <= int(status) < 500 or status == b"100" for status in statuses]
                assert all(refused), (number, answer[:300])
                answers += len(statuses)
                connection.close()
        assert httpx.get(f"{url}/health").json() == {"status": "ok"}
    assert answers > len(seeds) / 3, "the sweep asks nothing that is answered"


def test_mutations(bundled: gemmary.Model) -> None:
    sweep(bundled, range(200))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_many_mutations(bundled: gemmary.Model) -> None:
    sweep(bundled, range(1000, 11_000))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_slow_loris(bundled: gemmary.Model) -> None:
    """500 half requests at the limits that users have: closed in 30 seconds, and others are served."""
    with served(bundled, stall=20.0) as (url, _):
        address = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
        starts = [HEAD, HEAD + b"Content-Length: 100\r\n\r\n{", b"GET / HT", HEAD + b"X-Slow: "]
        held = []
        for number in range(500):
            held.append(socket.create_connection(address, timeout=60))
            held[-1].sendall(starts[number % len(starts)])
        begun = time.monotonic()
        assert httpx.get(f"{url}/health", timeout=30).status_code == 200
        for connection in held:
            rest(connection)
        assert time.monotonic() - begun < 40


@pytest.mark.long
@pytest.mark.timeout(600)
def test_idle_connections_are_cheap() -> None:
    """2,000 of them, each used once, in less than 100 MB."""
    with Process("--port", "0", "--idle", "300") as process:
        url = process.url()
        address = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
        httpx.post(f"{url}/tokenize", json={"prompt": "a"})
        before = resident(process.pid)
        held = []
        for _ in range(2000):
            held.append(socket.create_connection(address, timeout=60))
            held[-1].sendall(WHOLE)
            assert held[-1].recv(65536)
        taken = resident(process.pid) - before
        assert httpx.get(f"{url}/health").status_code == 200
        print(f"2,000 idle connections take {taken / 1e6:.1f} MB")
        assert taken < 100e6
        for connection in held:
            connection.close()


def resident(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024
