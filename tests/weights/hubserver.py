"""A hub on this machine: repositories over HTTP, and the ways in which the real one says no or breaks off."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "1" * 40
INLINE = 100_000  # larger files are stored beside the repository, as LFS does


@dataclass
class Hub:
    """What the server serves, and what it was asked.

    `gated` repositories want a token from `tokens`. `breaks`: bytes after which the next downloads lose their
    connection, one entry each. `ranges`: whether a download can start in the middle.
    """

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    tokens: set[str] = field(default_factory=set)
    breaks: list[int] = field(default_factory=list)
    ranges: bool = True
    damage: bool = False
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    url: str = ""
    store: str = ""

    def starts(self) -> list[str | None]:
        """The Range headers of downloads from the store, in order."""
        return [headers.get("range") for _, path, headers in self.requests if path.startswith("/store/")]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        path = self.path.partition("?")[0]
        self.hub.requests.append((self.command, path, headers))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)", path):
            self._listing(found[1])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], found[3], headers)
        elif found := re.fullmatch(r"/store/([0-9a-f]{64})", path):
            self._send_stored(found[1], headers)
        else:
            self._refuse(404, "EntryNotFound")

    def _listing(self, repo: str) -> None:
        if repo not in self.hub.repos:
            return self._refuse(401, "RepoNotFound")
        siblings: list[dict[str, Any]] = []
        for name, data in self.hub.repos[repo].items():
            item = {"rfilename": name, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
            if len(data) > INLINE:
                item["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 134}
            siblings.append(item)
        answer = json.dumps({"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings}).encode()
        self._send(200, answer, {"Content-Type": "application/json"})

    def _resolve(self, repo: str, name: str, headers: dict[str, str]) -> None:
        if repo not in self.hub.repos:
            return self._refuse(404, "RepoNotFound")
        if name not in self.hub.repos[repo]:
            return self._refuse(404, "EntryNotFound")
        if repo in self.hub.gated and headers.get("authorization", "")[7:] not in self.hub.tokens:
            return self._refuse(403 if "authorization" in headers else 401, "GatedRepo")
        data = self.hub.repos[repo][name]
        if len(data) <= INLINE:
            etag = f'"{hashlib.sha1(data).hexdigest()}"'
            return self._send(200, data, {"ETag": etag, "X-Repo-Commit": COMMIT})
        linked = {
            "Location": f"{self.hub.store}/store/{sha256(data)}",
            "X-Linked-Etag": f'"{sha256(data)}"',
            "X-Linked-Size": str(len(data)),
            "X-Repo-Commit": COMMIT,
        }
        self._send(302, b"", linked)

    def _send_stored(self, digest: str, headers: dict[str, str]) -> None:
        blobs = (data for files in self.hub.repos.values() for data in files.values())
        data = next(data for data in blobs if sha256(data) == digest)
        if self.hub.damage:
            data = bytes([data[0] ^ 1]) + data[1:]
        start, status = 0, 200
        if self.hub.ranges and (found := re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))):
            start, status = int(found[1]), 206
        self._send(status, data[start:], {}, self.hub.breaks.pop(0) if self.hub.breaks else None)

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, status: int, data: bytes, headers: dict[str, str], limit: int | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:limit])
        if limit is not None:
            self.wfile.flush()
            self.close_connection = True


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve `hub` at hub.url, its large files at hub.store, another origin, as the real one does."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.url, hub.store = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    for server in servers:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
