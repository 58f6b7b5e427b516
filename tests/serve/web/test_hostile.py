"""Whatever is written, by whomever, runs nothing, fetches nothing, and trips no policy.

Payloads x channels: what a model writes (whole, and cut at every character while it streams), what a person
writes, titles, names of pictures and models, system prompts, errors, what search finds, imported files.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import WATCH, Tab, bring, conversation

PAYLOADS = [
    line.replace("\\n", "\n") for line in (Path(__file__).parent / "payloads.txt").read_text().splitlines()
]
CUT = PAYLOADS[::9]  # those that the short suite cuts at every character

# Draw texts as a model's, whole or grown letter by letter: what is there then that must not be.
DRAW = """async ({texts, every}) => {
  const { LiveText } = await import("/static/js/livetext.js");
  const root = document.createElement("div");
  root.className = "prose";
  document.getElementById("thread").append(root);
  const bad = [];
  const alien = new RegExp("^(script|iframe|img|image|object|embed|link|meta|base|style|form|input|video|"
    + "audio|use|template|noscript|textarea|select)$", "i");
  const look = (text) => {
    for (const node of root.querySelectorAll("*")) {
      const link = node.getAttribute("href") ?? "";
      if (alien.test(node.localName)
        || [...node.attributes].some(({ name }) => name.startsWith("on"))
        || (node.hasAttribute("style") && !node.closest(".katex"))
        || (link && !/^(https?:|mailto:)/.test(link))
        || (link && (node.rel !== "noopener noreferrer nofollow" || node.target !== "_blank")))
        bad.push([text, node.outerHTML.slice(0, 200)]);
    }
  };
  for (const text of texts) {
    const live = new LiveText(root);
    for (let end = every ? 1 : text.length; end < text.length; end++) {
      live.text = text.slice(0, end);
      live.draw();
    }
    live.finish(text);
    look(text);
    await new Promise(requestAnimationFrame);
    look(text);
    root.replaceChildren();
  }
  await new Promise((resolve) => setTimeout(resolve, 150));
  root.remove();
  return bad;
}"""


def test_the_watch_sees_what_runs(browser: Any) -> None:
    """Without our page around them the payloads do run: the test below can fail."""
    page = browser.new_page()
    page.add_init_script(WATCH)
    page.goto("about:blank")
    page.set_content("".join(PAYLOADS[2:7]) + '<svg onload="alert(2)"></svg>')
    page.wait_for_function("window.fired.length > 1")
    assert "alert 1" in page.evaluate("window.fired")
    page.close()


def test_what_a_model_writes(drawing: Tab) -> None:
    page = drawing.page
    assert len(PAYLOADS) > 100
    assert page.evaluate(DRAW, {"texts": PAYLOADS, "every": False}) == []
    around = [f"Before *it*\n\n{payload}\n\nand behind" for payload in CUT]
    assert page.evaluate(DRAW, {"texts": around, "every": True}) == []
    drawing.check()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_what_a_model_writes_cut_everywhere(drawing: Tab) -> None:
    page = drawing.page
    for payload in PAYLOADS:
        around = [
            payload,
            f"Text **{payload}** more",
            f"- a\n- {payload}\n\n| a |\n| - |\n| {payload} |\n",
            f"$x$ {payload} `y",
        ]
        assert page.evaluate(DRAW, {"texts": around, "every": True}) == []
    drawing.check()


def hostile(payload: str) -> dict[str, Any]:
    """A conversation in which everything that can be named is the payload."""
    made = conversation(payload[:200], payload, payload, system=payload, settings={"temperature": payload})
    made["messages"][0]["content"].insert(
        0, {"type": "picture", "id": "0" * 64, "name": payload[:200], "width": 4, "height": 3}
    )
    made["messages"][1]["meta"] = {"finish": payload, "model": payload, "speed": payload, "tokens": payload}
    return made


def refusing(said: str) -> Callable[[Any], None]:
    body = json.dumps({"error": {"message": said, "code": said}})
    return lambda route: route.fulfill(status=400, body=body)


def channels(tab: Tab, payloads: list[str]) -> None:
    ids = bring(tab.url, *(hostile(payload) for payload in payloads))
    tab.page.route("**/pictures/*", refusing(payloads[0]))
    page = tab.open()
    page.wait_for_selector(".chat")
    for id, payload in zip(ids, payloads, strict=True):
        page.evaluate("(id) => { location.hash = id; }", id)
        page.wait_for_selector(f'.chat[data-id="{id}"] [aria-current]', state="attached")
        page.wait_for_selector(".prose > *, .prose:empty", state="attached")
        assert page.text_content("#title") == payload[:200]
    page.click("#search")
    page.fill("#query", "alert")
    page.wait_for_selector(".hit mark")
    page.keyboard.press("Escape")
    page.click("#settings")
    page.keyboard.press("Escape")
    page.click("#new")
    for number, payload in enumerate(payloads[:2]):
        page.unroute("**/v1/chat/completions")
        page.route("**/v1/chat/completions", refusing(payload))
        page.fill("#ask", payload + str(number))
        page.keyboard.press("Enter")
        page.get_by_role("status").filter(has_text=payload.strip()[1:]).first.wait_for()
    page.wait_for_timeout(100)
    page.evaluate("window.fired = window.fired.filter((one) => !one.startsWith('rejection'))")
    tab.check()


def test_everything_else_that_is_shown(tab: Tab) -> None:
    channels(tab, PAYLOADS[2:8:3])


@pytest.mark.long
@pytest.mark.timeout(900)
def test_everything_else_that_is_shown_with_every_payload(tab: Tab) -> None:
    for begin in range(0, len(PAYLOADS), 50):  # the list shows the latest hundred
        channels(tab, PAYLOADS[begin : begin + 50])
