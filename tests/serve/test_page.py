"""The page's files: small, from memory, asked for again only when they changed, and nothing else runs."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from gemmary.serve import page
from gemmary.serve.app import create_app
from tests.serve.test_conversations import NO_MODEL

MOST = 700_000  # bytes on the way, everything loaded


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(NO_MODEL), base_url="http://localhost") as client:
        yield client


def test_small() -> None:
    assert sum(len(asset.packed) for asset in page.assets().values()) < MOST


def test_every_file_has_the_headers(client: TestClient) -> None:
    for path in ["/", *(f"/static/{name}" for name in page.assets())]:
        answer = client.get(path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy and "default-src 'none'" in policy and "script-src 'self'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        again = client.get(path, headers={"if-none-match": answer.headers["etag"]})
        assert again.status_code == 304 and not again.content


def test_packed_or_plain(client: TestClient) -> None:
    plain = client.get("/static/vendor/katex.js", headers={"accept-encoding": "identity"})
    with client.stream("GET", "/static/vendor/katex.js", headers={"accept-encoding": "gzip"}) as packed:
        raw = b"".join(packed.iter_raw())
    assert gzip.decompress(raw) == plain.content and len(raw) < len(plain.content) / 3


@pytest.mark.parametrize(
    "path", ["page.py", "../page.py", "%2e%2e/page.py", "vendor", "", "vendor/marked.LICENSE", "x.js"]
)
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    assert client.get(f"/static/{path}").status_code == 404


def test_nothing_comes_from_elsewhere() -> None:
    for name, asset in page.assets().items():
        if name.startswith("vendor/") or not name.endswith((".js", ".css", ".html")):
            continue
        text = asset.plain.decode()
        for url in re.findall(
            r"""(?:src|href|url|import|from)\s*[=(\s]\s*["'(]*([a-z]+:)?//[^"')\s]*""", text
        ):
            raise AssertionError(f"{name} names {url}")


def test_markup_has_no_code_of_its_own() -> None:
    text = page.assets()["index.html"].plain.decode()
    assert not re.search(r"\son\w+=|\sstyle=|<style|<script>|javascript:", text)


def test_every_library_has_its_licence() -> None:
    for name in page.assets():
        if name.startswith("vendor/") and name.endswith(".js"):
            assert (page.FOLDER / f"{name.removesuffix('.js')}.LICENSE").stat().st_size > 500


def test_crops(client: TestClient) -> None:
    assert client.get("/api/crops?width=1600&height=600").json()["boxes"] == [
        [0, 0, 534, 600], [534, 0, 1068, 600], [1068, 0, 1600, 600],
    ]  # fmt: skip
    assert client.get("/api/crops?width=0&height=600").status_code == 400
