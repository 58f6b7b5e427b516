"""A browser that notes whatever a page must not do, and a server with a history for it."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import gemmary
from gemmary.serve.app import create_app
from gemmary.serve.history import History
from gemmary.serve.models import Models
from tests.serve.server import serving

CHROMIUM = "/usr/bin/chromium"
WATCH = """
window.fired = [];
for (const name of ["alert", "prompt", "confirm", "open", "print"])
  window[name] = (...given) => { window.fired.push(`${name} ${given}`); return null; };
document.addEventListener("securitypolicyviolation", (event) =>
  window.fired.push(`policy ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
window.addEventListener("error", (event) => window.fired.push(`error ${event.message}`));
window.addEventListener("unhandledrejection", (event) => window.fired.push(`rejection ${event.reason}`));
"""


class Tab:
    """A page and what went wrong in it: `foreign` requests, code that ran, reports of the policy, errors."""

    def __init__(self, context: Any, url: str) -> None:
        self.url = url
        self.foreign: list[str] = []
        self.page = context.new_page()
        self.page.add_init_script(WATCH)
        self.page.on("request", self._asked)
        self.page.set_default_timeout(30_000)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:", "blob:", "about:")):
            self.foreign.append(request.url)

    def open(self, place: str = "") -> Any:
        self.page.goto(f"{self.url}/{place}")
        self.page.wait_for_selector("#model option", state="attached")
        return self.page

    def check(self) -> None:
        """Nothing ran, nothing was asked of others, nothing failed unseen."""
        assert self.page.evaluate("window.fired") == []
        assert self.foreign == []

    def axe(self) -> None:
        """axe-core finds nothing."""
        packed = Path(__file__).parent.parent / "vendor" / "axe.min.js.gz"
        if not self.page.evaluate("Boolean(window.axe)"):
            self.page.evaluate(gzip.decompress(packed.read_bytes()).decode())
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        told = [
            f"{one['id']}: {one['help']} at {[node['target'] for node in one['nodes']][:5]}"
            for one in found["violations"]
        ]
        assert not told, "\n".join(told)


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no {CHROMIUM}: apt install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def chat(bundled: gemmary.Model, tmp_path: Path) -> Iterator[str]:
    """The bundled model with a history; gives the server's address."""
    history = History(tmp_path / "history.db")
    with serving(create_app(Models({"test": bundled}), None, history)) as url:
        yield url
    history.close()


@pytest.fixture
def tab(browser: Any, chat: str) -> Iterator[Tab]:
    """A tab of 1440x900."""
    context = browser.new_context(
        viewport={"width": 1440, "height": 900}, permissions=["clipboard-read", "clipboard-write"]
    )
    yield Tab(context, chat)
    context.close()


@pytest.fixture(scope="package")
def drawing(browser: Any, url: str) -> Iterator[Tab]:
    """An open tab for tests that only draw texts."""
    context = browser.new_context()
    tab = Tab(context, url)
    tab.open()
    tab.page.evaluate(
        "Promise.all([import('/static/vendor/katex.js'), import('/static/vendor/highlight.js')])"
    )
    yield tab
    context.close()


def bring(url: str, *conversations: dict[str, Any]) -> list[str]:
    """Import conversations; their ids."""
    file = {"format": "gemmary-conversations", "version": 1, "conversations": list(conversations)}
    made = httpx.post(f"{url}/api/import", json=file, timeout=30)
    assert made.status_code == 201, made.text
    return [one["id"] for one in made.json()["conversations"]]


def conversation(
    title: str, *texts: str, pictures: dict[str, bytes] | None = None, **more: Any
) -> dict[str, Any]:
    """A conversation in which both sides take turns."""
    messages = [
        {
            "id": f"m{number:04}", "parent": f"m{number - 1:04}" if number else None,
            "role": "assistant" if number % 2 else "user", "content": [{"type": "text", "text": text}],
            "meta": {"finish": "stop"} if number % 2 else {}, "created": 1.7e9 + number,
        }
        for number, text in enumerate(texts)
    ]  # fmt: skip
    shown = {
        name: f"data:image/png;base64,{base64.b64encode(data).decode()}"
        for name, data in (pictures or {}).items()
    }
    return {
        "title": title, "system": "", "settings": {}, "leaf": messages[-1]["id"], "created": 1.7e9,
        "messages": messages, "pictures": shown, **more,
    }  # fmt: skip
