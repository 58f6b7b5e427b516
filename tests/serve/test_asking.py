"""What a server takes of one request, as its settings say; over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import gemmary
from tests.serve.server import running

SAY = [{"role": "user", "content": "hi"}]
LINK = {"url": "data:image/png;base64,AAAA"}
SHOWN = {"type": "image_url", "image_url": LINK}
SOURCE = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
BLOCK = {"type": "image", "source": SOURCE}
CHAT, MESSAGES, TEXTS = "/v1/chat/completions", "/v1/messages", "/v1/completions"


@pytest.fixture(scope="module")
def narrow(bundled: gemmary.Model) -> Iterator[str]:
    """A server of short answers to few pictures."""
    with running(bundled, max_tokens=5, max_pictures=2) as url:
        yield url


def post(url: str, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{url}{path}", json=body, timeout=60)


ASKED: list[tuple[str, dict[str, Any], str]] = [
    (CHAT, {"messages": SAY}, "max_tokens"),
    (CHAT, {"messages": SAY}, "max_completion_tokens"),
    (TEXTS, {"prompt": "hi"}, "max_tokens"),
    (MESSAGES, {"model": "test", "messages": SAY}, "max_tokens"),
]


@pytest.mark.parametrize(("path", "body", "field"), ASKED)
def test_a_longer_answer_than_the_server_makes(
    narrow: str, path: str, body: dict[str, Any], field: str
) -> None:
    refused = post(narrow, path, **body, **{field: 6})
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == "max_tokens: at most 5 on this server"
    assert post(narrow, path, **body, **{field: 5}).status_code == 200


@pytest.mark.parametrize(("path", "body"), [(CHAT, {"messages": SAY}), (TEXTS, {"prompt": "hi"})])
def test_who_says_no_length_gets_the_longest_there_is(narrow: str, path: str, body: dict[str, Any]) -> None:
    """Completions have 16 tokens if nothing is said, elsewhere."""
    said = post(narrow, path, **body, ignore_eos=True).json()
    assert said["usage"]["completion_tokens"] == 5
    assert said["choices"][0]["finish_reason"] == "length"


PICTURES: list[tuple[str, list[Any], list[Any]]] = [
    (CHAT, [SHOWN] * 2, [SHOWN] * 3),
    (MESSAGES, [BLOCK] * 2, [BLOCK] * 3),
    (MESSAGES, [BLOCK], [BLOCK, {"type": "tool_result", "tool_use_id": "x", "content": [BLOCK] * 2}]),
]


@pytest.mark.parametrize(("path", "few", "many"), PICTURES)
def test_more_pictures_than_the_server_takes(narrow: str, path: str, few: Any, many: Any) -> None:
    def asked(content: Any) -> httpx.Response:
        return post(narrow, path, model="test", max_tokens=1, messages=[{"role": "user", "content": content}])

    refused = asked(many)
    assert refused.status_code == 400
    said = "messages: 3 pictures, and this server takes 2 in a request"
    assert refused.json()["error"]["message"] == said
    taken = asked(few)
    assert taken.status_code == 422, "what these pictures are is looked at next"
    assert "not a picture that can be read" in taken.json()["error"]["message"]


def test_pictures_of_all_messages_count_together(narrow: str) -> None:
    messages = [{"role": "user", "content": [SHOWN]}] * 3
    assert "3 pictures" in post(narrow, CHAT, messages=messages).json()["error"]["message"]
