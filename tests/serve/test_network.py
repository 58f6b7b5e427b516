"""A server needs no network, asks nobody, and is found where it was told to be and nowhere else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import gemmary
from tests.serve.whole import HTTP, ROOT, RUN, served

CHAT = "/v1/chat/completions"
ASK = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
WATCHED: list[list[str]] = []  # the innermost list is written to


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if WATCHED and event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen"):
        WATCHED[-1].append(f"{event} {arguments[-1] if event == 'socket.connect' else arguments[:2]}")


@contextmanager
def watched() -> Iterator[list[str]]:
    """What this process asks of the network, and what it starts."""
    if not getattr(sys, "_gemmary_hook", False):
        sys.addaudithook(_hook)  # stays for good, and does nothing unless a test watches
        sys._gemmary_hook = True  # type: ignore[attr-defined]
    WATCHED.append([])
    try:
        yield WATCHED[-1]
    finally:
        WATCHED.pop()


def test_nobody_is_asked(bundled: gemmary.Model) -> None:
    with watched() as asked, served(bundled) as (url, _):
        port = int(url.rsplit(":", 1)[1])
        for path in ("/", "/docs", "/metrics", "/v1/models"):
            assert HTTP.get(f"{url}{path}").status_code == 200
        assert HTTP.post(f"{url}{CHAT}", json=ASK).status_code == 200
        link = {"type": "image_url", "image_url": {"url": "http://example.com/a.png"}}
        shown = {"messages": [{"role": "user", "content": [link]}]}
        assert HTTP.post(f"{url}{CHAT}", json=shown).status_code == 400
    assert any(str(("127.0.0.1", port)) in one for one in asked), "the watch sees nothing"
    ours = ("127.0.0.1", "localhost", "None")  # the tests' own clients, and where the server listens
    assert [one for one in asked if not any(name in one for name in ours)] == []


# Runs where there is no network but a loopback: a server, and a client that asks it.
ALONE = f"""
import fcntl, re, socket, struct, subprocess, sys, urllib.request
plain = socket.socket()
fcntl.ioctl(plain, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS, up
try:
    socket.create_connection(("1.1.1.1", 53), 1)
    sys.exit("there is a network")
except OSError:
    pass
command = [sys.executable, "-c", {RUN!r}, "serve", "--threads", "1", "--no-history", "--port", "0"]
server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
for line in server.stderr:
    if found := re.search(r"ready on (http://\\S+?);", line):
        break
ask = urllib.request.Request(
    found[1] + "{CHAT}", b'{{"messages": [{{"role": "user", "content": "Hi"}}], "max_tokens": 3}}',
    {{"content-type": "application/json"}},
)
assert urllib.request.urlopen(ask, timeout=60).status == 200
server.terminate()
server.stderr.read()
assert server.wait(60) == 0
"""


@pytest.mark.long
def test_it_answers_without_a_network() -> None:
    apart = ["unshare", "--user", "--map-root-user", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to make a network of its own")
    done = subprocess.run([*apart, sys.executable, "-c", ALONE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
