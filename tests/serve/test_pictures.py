"""Pictures over HTTP: data URLs; others only where the server was told to, and never from inside."""

from __future__ import annotations

import asyncio
import base64
import http.server
import io
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import anthropic
import httpx
import openai
import pytest
from PIL import Image

import gemmary
from gemmary.serve import asking
from gemmary.serve.pictures import OFF, Pictures, RemoteError, public
from tests.engine import seeing
from tests.serve.faults.wire import CHAT, connected, request
from tests.serve.server import running


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(seeing.picture(seed)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def seer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[gemmary.Model]:
    folder = tmp_path_factory.mktemp("seer")
    seeing.build(folder)
    with seeing.load(folder, streams=4) as model:
        yield model


@pytest.fixture(scope="module")
def seen(seer: gemmary.Model) -> Iterator[str]:
    with running(seer) as url:
        yield url


def asked(url: str, **more: Any) -> list[Any]:
    parts = [{"type": "image_url", "image_url": {"url": url}, **more}, {"type": "text", "text": "what is it"}]
    return [{"role": "user", "content": parts}]


def test_data_urls_show_what_files_show(seer: gemmary.Model, seen: str) -> None:
    code = base64.b64encode(png(1)).decode()
    part = {"type": "image", "image": png(1)}
    text = {"type": "text", "text": "what is it"}
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 8}
    expected = seer.chat([{"role": "user", "content": [part, text]}], **options)
    client = openai.OpenAI(base_url=f"{seen}/v1", api_key="none", max_retries=0)
    said = client.chat.completions.create(
        model="test", messages=asked(f"data:image/png;base64,{code}"), **options
    )
    assert said.choices[0].message.content == expected.text
    assert said.usage.prompt_tokens == expected.usage.prompt_tokens  # type: ignore[union-attr]
    cut = client.chat.completions.create(
        model="test", messages=asked(f"data:image/png;base64,{code}"), max_tokens=1, extra_body={"tiles": 2}
    )
    tiled = seer.prompt([{"role": "user", "content": [{**part, "tiles": 2}, text]}])
    assert cut.usage.prompt_tokens == len(tiled.ids)  # type: ignore[union-attr]
    source = {"type": "base64", "media_type": "image/png", "data": code}
    parts: Any = [{"type": "image", "source": source}, {"type": "text", "text": "what is it"}]
    other = anthropic.Anthropic(base_url=seen, api_key="none", max_retries=0).messages.create(
        model="test",
        max_tokens=8,
        messages=[{"role": "user", "content": parts}],
        extra_body={"temperature": 0},
    )
    assert other.content[0].text == expected.text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("url", "status", "message"),
    [
        ("https://example.com/a.png", 400, OFF),
        ("file:///etc/passwd", 400, OFF),
        ("/etc/passwd", 400, OFF),
        ("data:image/png;base64,AAAA", 422, "picture"),
        ("data:image/png,plain", 422, "base64"),
    ],
)
def test_what_is_no_picture_is_refused(seen: str, url: str, status: int, message: str) -> None:
    client = openai.OpenAI(base_url=f"{seen}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.APIStatusError) as fault:
        client.chat.completions.create(model="test", messages=asked(url))
    assert fault.value.status_code == status
    assert message in fault.value.message


@pytest.mark.parametrize("kind", ["image", "path", "url", "input_audio", "file"])
def test_no_other_part_reads_a_file(seen: str, kind: str) -> None:
    client = openai.OpenAI(base_url=f"{seen}/v1", api_key="none", max_retries=0)
    part: Any = {"type": kind, "path": "/etc/passwd", "image": "/etc/passwd", "url": "/etc/passwd"}
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="test", messages=[{"role": "user", "content": [part]}])


class Canary:
    """Listens on this machine; `bitten` tells who came. `reply` is what it says."""

    def __init__(self, reply: bytes) -> None:
        self.bitten = 0
        canary = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def handle(self) -> None:
                canary.bitten += 1
                self.request.settimeout(5)
                self.request.recv(4096)
                self.request.sendall(canary.reply)

        self.reply = reply
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]


@contextmanager
def canary(reply: bytes = b"") -> Iterator[Canary]:
    one = Canary(reply)
    thread = threading.Thread(target=one.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield one
    finally:
        one.server.shutdown()
        one.server.server_close()


# Each leads, or would lead some reader of URLs, to this machine or to one that only it can reach. P: a port.
INSIDE = """
http://127.0.0.1:P/ http://localhost:P/ http://LOCALHOST:P/ http://localhost.:P/ http://127.1:P/
http://127.0.1:P/ http://2130706433:P/ http://0x7f000001:P/ http://0x7f.0.0.1:P/ http://0177.0.0.1:P/
http://017700000001:P/ http://127.0.0.1.:P/ http://127.000.000.001:P/ http://0:P/ http://0.0.0.0:P/ http://[::]:P/
http://[::1]:P/ http://[0:0:0:0:0:0:0:1]:P/ http://[::ffff:127.0.0.1]:P/ http://[::ffff:7f00:1]:P/
http://[::127.0.0.1]:P/ http://[64:ff9b::7f00:1]:P/ http://[2002:7f00:1::]:P/ http://[::1%25lo]:P/ http://[::1%lo]:P/
http://[fe80::1]:P/ http://[fc00::1]:P/ http://[fec0::1]:P/ http://[ff02::1]:P/ http://169.254.169.254:P/
http://[::ffff:169.254.169.254]:P/ http://2852039166:P/ http://10.0.0.1:P/ http://172.16.0.1:P/
http://192.168.0.1:P/ http://100.64.0.1:P/ http://198.18.0.1:P/ http://224.0.0.1:P/ http://255.255.255.255:P/
http://user@127.0.0.1:P/ http://user:pass@127.0.0.1:P/ http://example.com@127.0.0.1:P/
http://127.0.0.1:P#@example.com/ http://127.0.0.1:P\\@example.com/ http://example.com\\@127.0.0.1:P/
http://example.com#@127.0.0.1:P/ http://127.0.0.1:P?@example.com/ http:\\\\127.0.0.1:P/ http:/127.0.0.1:P/
http:127.0.0.1:P //127.0.0.1:P/ http:///127.0.0.1:P/ http://127。0。0。1:P/ http://①②⑦.0.0.1:P/
http://loc\u00adalhost:P/ http://127.0.0.1%00.example.com:P/ http://127.0.0.1\t:P/ http://127.0.0.1:P/\r\nHost:x
ftp://127.0.0.1:P/ gopher://127.0.0.1:P/ file:///etc/passwd file://127.0.0.1/etc/passwd dict://127.0.0.1:P/
unix:///run/x http+unix://x data:text/plain,x http://rebind.test:P/ http://mixed.test:P/ http://mapped.test:P/
http://nat.test:P/ http://ip6-localhost:P/ http://[127.0.0.1]:P/ http://127.0.0.1:P:80/ http://127.0.0.1:0P/
"""
NAMES = {
    "rebind.test": ["127.0.0.1"],
    "mixed.test": ["93.184.216.34", "127.0.0.1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "nat.test": ["64:ff9b::7f00:1"],
}


async def stub(host: str, port: int) -> Sequence[str]:
    """Names of ours, and what the system makes of the rest without asking anybody."""
    if host in NAMES:
        return NAMES[host]
    if host == "example.com":
        return ["127.0.0.1"]
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=1, flags=socket.AI_NUMERICHOST)]


def table(port: int) -> list[str]:
    lines = INSIDE.replace("\n", " ").split(" ")
    return [url.replace("P", str(port)) for url in lines if url]


def fetch(pictures: Pictures, url: str) -> bytes:
    return asyncio.run(pictures.fetch(url))


def test_nothing_inside_is_reached() -> None:
    with canary(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") as one:
        pictures = Pictures(True, resolve=stub, ports=(80, 443, one.port))
        urls = table(one.port)
        assert len(urls) > 70
        for url in urls:
            with pytest.raises(RemoteError):
                fetch(pictures, url)
        assert one.bitten == 0
        open_gate = Pictures(True, resolve=stub, ports=(one.port,), reachable=lambda address: True)
        assert fetch(open_gate, f"http://rebind.test:{one.port}/") == b"hi"  # the canary can be reached
        assert one.bitten == 1
        with pytest.raises(RemoteError):  # another port than those of http and https
            fetch(Pictures(True, resolve=stub, reachable=lambda a: True), f"http://rebind.test:{one.port}/")
        assert one.bitten == 1


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:800::200e"]
)
def test_the_outside_is_public(address: str) -> None:
    assert public(address)


REPLIES = {
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n",
    "missing": b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "cut off": b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nhi",
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000,
    "nothing": b"",
}


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_bad_answers_are_one_error(reply: bytes) -> None:
    with canary(reply) as one:
        pictures = Pictures(True, resolve=stub, ports=(one.port,), reachable=lambda address: True)
        with pytest.raises(RemoteError, match="could not be fetched"):
            fetch(pictures, f"http://rebind.test:{one.port}/")
        assert one.bitten == 1


def test_limits_of_size_time_and_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gemmary.serve.pictures.MAX_BYTES", 1000)
    monkeypatch.setattr("gemmary.serve.pictures.SECONDS", 0.2)
    with canary(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000) as one:
        pictures = Pictures(True, resolve=stub, ports=(one.port,), reachable=lambda address: True)
        with pytest.raises(RemoteError, match="could not be fetched"):
            fetch(pictures, f"http://rebind.test:{one.port}/")
        few = Pictures(True, ["example.com"], stub, (one.port,), lambda address: True)
        with pytest.raises(RemoteError, match="refused"):
            fetch(few, f"http://rebind.test:{one.port}/")
        assert one.bitten == 1

    async def never(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        return []

    with pytest.raises(RemoteError, match="could not be fetched"):
        fetch(Pictures(True, resolve=never), "http://rebind.test/")


def test_texts_do_not_wait_for_pictures(
    url: str, bundled: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More requests with pictures than there are threads, and each takes for ever."""
    begun, on, made = threading.Event(), threading.Event(), bundled.prompt

    def slow(messages: Any, **options: Any) -> Any:
        if isinstance(messages[0]["content"], list):
            begun.set()
            on.wait(60)
        return made(messages, **options)

    monkeypatch.setattr(bundled, "prompt", slow)
    shown = request({"messages": asked("data:image/png;base64,eA==")})
    text = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    with ExitStack() as stack:
        stack.callback(on.set)
        for _ in range(40):
            stack.enter_context(connected(url)).sendall(shown)
        assert begun.wait(30)
        assert httpx.post(f"{url}{CHAT}", json=text, timeout=30).status_code == 200


def test_who_goes_keeps_no_thread_with_further_pictures(
    seer: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, begun, on, over = [], threading.Event(), threading.Event(), threading.Event()
    made = seer.prompt

    def slow(data: bytes) -> Any:
        decoded.append(data)
        begun.set()
        on.wait(20)
        return seeing.picture(1)

    def told(*args: Any, **options: Any) -> Any:
        try:
            return made(*args, **options)
        finally:
            over.set()

    async def leave() -> None:
        link = "data:image/png;base64," + base64.b64encode(png(1)).decode()
        working = asyncio.ensure_future(asking.prompt(seer, asked(link) * 3, Pictures()))
        assert await asyncio.to_thread(begun.wait, 20)
        working.cancel()
        await asyncio.wait({working})
        on.set()
        assert await asyncio.to_thread(over.wait, 20)

    monkeypatch.setattr("gemmary.inputs.picture.decode", slow)
    monkeypatch.setattr(seer, "prompt", told)
    asyncio.run(leave())
    assert len(decoded) == 1


def test_nobody_waits_for_names_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that does not answer holds its own threads, longer than a fetch may take."""
    on = threading.Event()
    monkeypatch.setattr("gemmary.serve.pictures.SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: on.wait(60) and [])

    async def many() -> int:
        fetches = [Pictures(True).fetch("http://rebind.test/") for _ in range(40)]
        faults = await asyncio.gather(*fetches, return_exceptions=True)
        assert all(isinstance(fault, RemoteError) for fault in faults)
        try:
            return await asyncio.wait_for(asyncio.to_thread(int, "5"), 10)
        finally:
            on.set()

    assert asyncio.run(many()) == 5
