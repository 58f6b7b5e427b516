"""Every size, theme and way to use it: telephones, the keyboard alone, a server without history."""

from __future__ import annotations

from typing import Any

import pytest

import gemmary
from gemmary.serve.app import create_app
from gemmary.serve.models import Models
from tests.serve.server import serving

from .conftest import Tab, bring, conversation
from .visitor import ASK, SAID, act, ask


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [(390, 844), (1440, 900)])
def test_every_size_and_theme_is_clean(chat: str, browser: Any, size: tuple[int, int], theme: str) -> None:
    rich = (
        "# T\n\n`c` [l](https://example.org) $x$\n\n```python\nreturn 'a'  # note\n```\n\n| a |\n| - |\n| "
        + "b" * 300
        + " |"
    )
    (id,) = bring(chat, conversation("Rich", "question", rich, "again", "end"))
    phone = size[0] < 800
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=theme, is_mobile=phone, has_touch=phone
    )
    tab = Tab(context, chat)
    page = tab.open(f"#{id}")
    page.wait_for_selector(".hljs-keyword")
    page.wait_for_selector(".katex")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    box = page.locator("#composer").bounding_box()
    assert size[1] - 40 < box["y"] + box["height"] <= size[1], "the message box is at the bottom"
    tab.axe()
    if phone:
        page.click(".open-sidebar")
        tab.axe()
        page.click(".chat a")
        assert page.evaluate("document.body.classList.contains('folded')")
    page.click("#settings")
    tab.axe()
    page.keyboard.press("Escape")
    assert page.evaluate("getComputedStyle(document.body).colorScheme") == theme
    tab.check()
    context.close()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_keyboard_alone(tab: Tab) -> None:
    page = tab.open()
    page.keyboard.type("first line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    assert page.input_value("#ask") == "first line\nsecond line"
    page.keyboard.press("Enter")
    page.wait_for_selector(SAID)
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "(({id, title, textContent}) => id || title || textContent.trim())(document.activeElement)"
            )
        )
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        inside = page.evaluate("document.activeElement.matches('#ask, body, #query')")
        assert inside or outline != "none", reached
    assert {
        "settings",
        "Copy",
        "Answer again",
        "Edit",
        "Branch into a new chat",
        "Delete from here",
        "new",
    } <= reached
    tab.check()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_server_that_keeps_nothing(bundled: gemmary.Model, browser: Any) -> None:
    with serving(create_app(Models({"test": bundled}))) as url:
        context = browser.new_context()
        tab = Tab(context, url)
        page = tab.open()
        assert "keeps no conversations" in page.text_content("#empty-note")
        ask(page, ASK)
        act(page, "assistant", "Answer again")
        page.wait_for_selector(".last .siblings")
        page.wait_for_selector(SAID)
        assert page.text_content(".last .siblings span") == "2/2"
        assert page.is_hidden("#search")
        tab.axe()
        tab.check()
        context.close()
