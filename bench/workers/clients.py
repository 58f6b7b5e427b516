"""Clients of a server: streams that are read by plain sockets, so that they cost its processors little."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

ROUTE = "/v1/completions"


@dataclass
class Heard:
    """A streamed answer. times: when each event with text came, in seconds since the request."""

    times: list[float] = field(default_factory=list)
    text: str = ""
    tokens: int = 0
    prompt_tokens: int = 0

    @property
    def first(self) -> float:
        """Seconds to the first token."""
        return self.times[0]

    @property
    def gaps(self) -> list[float]:
        """Seconds between tokens."""
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]


def body(prompt: Sequence[int], tokens: int, seed: int) -> dict[str, Any]:
    """A request for exactly `tokens` tokens behind ids, with Gemma 3's sampling."""
    return {
        "prompt": list(prompt), "max_tokens": tokens, "seed": seed, "stream": True, "temperature": 1.0,
        "top_k": 64, "top_p": 0.95, "min_p": 0.0, "stream_options": {"include_usage": True},
        "ignore_eos": True,
    }  # fmt: skip


def together(port: int, bodies: Sequence[dict[str, Any]]) -> tuple[list[Heard], float]:
    """All requests at once; what each heard, and the seconds until the last one ended."""

    async def all_of_them() -> list[Heard]:
        return await asyncio.gather(*(stream(port, asked) for asked in bodies))

    began = time.perf_counter()
    heard = asyncio.run(all_of_them())
    return heard, time.perf_counter() - began


async def stream(port: int, asked: dict[str, Any]) -> Heard:
    """Ask, and listen until the end."""
    heard, began = Heard(), time.perf_counter()
    async for event in _events(port, asked):
        choices = event.get("choices") or []
        if choices and (choices[0]["text"] or not choices[0].get("finish_reason")):
            heard.times.append(time.perf_counter() - began)
            heard.text += choices[0]["text"]
        if usage := event.get("usage"):
            heard.tokens, heard.prompt_tokens = usage["completion_tokens"], usage["prompt_tokens"]
        if "error" in event:
            raise SystemExit(f"the server says: {event['error']}")
    return heard


async def _events(port: int, asked: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        data = json.dumps(asked).encode()
        head = f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data)
        headers = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in headers.split(b"\r\n", 1)[0]:
            raise SystemExit(f"the server says: {(headers + await reader.read(2000)).decode()}")
        async for line in _lines(reader, b"chunked" in headers.lower()):
            if line.startswith(b"data: {"):
                yield json.loads(line[6:])
    finally:
        writer.close()


async def _lines(reader: asyncio.StreamReader, chunked: bool) -> AsyncIterator[bytes]:
    rest = b""
    while True:
        data = await _chunk(reader) if chunked else await reader.read(1 << 16)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.rstrip(b"\r")


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    size = int(await reader.readline(), 16)
    data = await reader.readexactly(size)
    await reader.readline()
    return data


async def idle(port: int, count: int) -> list[asyncio.StreamWriter]:
    """Connections that have asked once and stay open."""
    request = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    writers = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        headers = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in headers.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))
        writers.append(writer)
    return writers
