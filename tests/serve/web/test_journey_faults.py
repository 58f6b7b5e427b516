"""People's way through the chat when a queue is full, the server is gone, or a key is asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Tab
from .visitor import ASK, SAID, kept, until, whole


@pytest.mark.long
@pytest.mark.timeout(900)
def test_full_queue_server_gone_and_key(tab: Tab) -> None:
    page = tab.open()
    refusals = iter([True, True, False])

    def full(route: Any) -> None:
        if next(refusals):
            body = json.dumps({"error": {"message": "too many wait", "code": "queue_full"}})
            route.fulfill(status=429, body=body, headers={"Retry-After": "1"})
        else:
            route.continue_()

    page.route("**/v1/chat/completions", full, times=3)
    page.fill("#ask", ASK)
    page.keyboard.press("Enter")
    page.wait_for_selector("#banner.busy")
    assert "All places are taken" in page.text_content("#banner")
    page.wait_for_selector(SAID)
    assert page.is_hidden("#banner")

    page.context.set_offline(True)
    page.fill("#ask", "Are you there?")
    page.keyboard.press("Enter")
    page.wait_for_selector("#banner.wrong")
    assert "does not answer" in page.text_content("#banner")
    assert page.input_value("#ask") == "Are you there?", "what was written is not lost"
    page.context.set_offline(False)
    until(page, "document.getElementById('banner').textContent.includes('back')")
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('.message').length === 4")
    page.wait_for_selector(SAID)

    # an answer that breaks off is kept as far as it came, and can go on
    page.route("**/v1/chat/completions", lambda route: route.fulfill(
        content_type="text/event-stream",
        body='data: {"choices":[{"delta":{"content":"Half of it"}}]}\n\n'), times=1)  # fmt: skip
    page.fill("#ask", "Once more")
    page.keyboard.press("Enter")
    page.wait_for_selector(".last .note button")
    assert "cut off" in page.text_content(".last .note")
    assert whole(tab.url, kept(tab.url)[0]["id"])["messages"][-1]["content"][0]["text"] == "Half of it"

    def guarded(route: Any) -> None:
        if route.request.headers.get("authorization") == "Bearer right":
            route.continue_()
        else:
            route.fulfill(status=401, body=json.dumps({"error": {"message": "a key is needed"}}))

    page.route("**/api/**", guarded)
    page.route("**/v1/**", guarded)
    page.reload(wait_until="commit")
    page.wait_for_selector("#question[open]")
    tab.axe()
    page.fill("#question-value", "wrong")
    page.keyboard.press("Enter")
    until(page, "document.getElementById('question-text').textContent.includes('does not know')")
    page.fill("#question-value", "right")
    page.keyboard.press("Enter")
    page.wait_for_selector(".last .note button")
    page.reload()
    page.wait_for_selector(".last .note button")
    tab.check()
