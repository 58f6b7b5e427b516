"""What somebody does in the chat, and what the server keeps of it."""

from __future__ import annotations

import time
from typing import Any

import httpx

ASK = "How do I list the contents of a tar archive?"
SAID = "body:not(.busy) .last .prose:not(:empty)"


def ask(page: Any, text: str) -> None:
    """Ask, and wait for the whole answer."""
    before = page.locator(".message.assistant").count()
    page.fill("#ask", text)
    page.keyboard.press("Enter")
    until(page, "(n) => document.querySelectorAll('.message.assistant').length > n", before)
    page.wait_for_selector(SAID)


def until(page: Any, expression: str, arg: Any = None) -> None:
    """Wait until an expression, or a function of `arg`, is true; the page itself may evaluate no text."""
    deadline = time.monotonic() + 60
    while not page.evaluate(expression, arg):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(30)


def act(page: Any, message: str, label: str) -> None:
    """Press a message's button: of the last "user" or "assistant"."""
    node = page.locator(f".message.{message}").last
    node.hover()
    node.get_by_role("button", name=label, exact=True).click()


def kept(url: str) -> list[dict[str, Any]]:
    return list(httpx.get(f"{url}/api/conversations").json()["conversations"])


def whole(url: str, id: str) -> dict[str, Any]:
    return dict(httpx.get(f"{url}/api/conversations/{id}").json())
