"""People's way through the chat, in a browser, against a real server."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

import gemmary
from gemmary.config import NANO

from .conftest import Tab, bring, conversation
from .visitor import ASK, SAID, act, ask, kept, until, whole


def test_asked_answered_reloaded(tab: Tab) -> None:
    """The short way: a question, its answer, the same after a reload, and nothing that axe-core minds."""
    page = tab.open()
    page.keyboard.type(ASK)
    page.keyboard.press("Enter")
    page.wait_for_selector(SAID)
    said = page.text_content(".last .prose")
    assert page.locator(".last .code").count() == 1 and "tar" in said
    assert re.fullmatch(
        r"\d+ tokens · [\d.,]+ tok/s · first after [\d.]+ s", page.text_content(".last .stats")
    )
    assert re.fullmatch(rf"\d+ / {NANO.context:,}", page.text_content("#meter .count"))
    page.wait_for_selector(".chat [aria-current]")
    assert page.text_content("#title") == ASK == page.text_content(".chat a")
    (one,) = kept(tab.url)
    assert [m["role"] for m in whole(tab.url, one["id"])["messages"]] == ["user", "assistant"]
    page.reload()
    page.wait_for_selector(SAID)
    assert page.text_content(".last .prose") == said
    tab.axe()
    tab.check()


WATCH_READING = """() => {
  window.read = [];
  const note = () => {
    const bar = document.querySelector(".last .reading[role=status]");
    const meter = bar?.querySelector("progress");
    const seen = bar ? [bar.textContent, meter.value, meter.max] : null;
    if (seen && String(seen) !== String(window.read.at(-1))) window.read.push(seen);
  };
  const all = { subtree: true, childList: true, characterData: true, attributes: true };
  new MutationObserver(note).observe(document.body, all);
}"""


def test_a_long_prompt_shows_how_much_of_it_is_read(
    tab: Tab, bundled: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In parts, in tokens of this prompt, and no longer than until the answer begins."""
    scheduler = bundled.scheduler
    assert scheduler is not None
    together = scheduler._runner.together
    monkeypatch.setattr(scheduler._runner, "together", lambda *given: (time.sleep(0.1), together(*given))[1])
    text = "How much of this long text, of which no part was read before, has the model read by now? " * 36
    tokens = len(bundled.prompt([{"role": "user", "content": text}]).ids)
    assert 3 * 256 < tokens < 1000, "some steps of 256"
    page = tab.open()
    page.click("#settings")
    page.fill("#max_tokens", "4")
    page.click("#panel .solid")
    page.evaluate(WATCH_READING)
    ask(page, text)
    (waiting, *_), *read = page.evaluate("window.read")
    assert waiting == "Waiting for the model"
    assert [said for said, *_ in read] == [f"Reading {done:,} of {tokens:,} tokens" for _, done, _ in read]
    done = [done for _, done, _ in read]
    assert len(done) >= 2 and done == sorted(set(done)) and 0 < done[-1] < tokens
    assert {total for *_, total in read} == {tokens}
    assert page.locator(".reading").count() == 0
    tab.check()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_stop_continue_again_edit_branch_delete(tab: Tab) -> None:
    page = tab.open()
    ask(page, "What is a ship?")
    id = page.evaluate("location.hash.slice(1)")

    # another answer, stopped by Esc; it goes on where it stopped. So free a model finds no end.
    page.click("#settings")
    for name, value in (("temperature", "4"), ("top_k", "0"), ("top_p", "1")):
        page.fill(f"#{name}", value)
    page.click("#panel .solid")
    act(page, "assistant", "Answer again")
    until(page, "document.querySelector('.writing .prose')?.textContent.length > 40")
    page.keyboard.press("Escape")
    page.wait_for_selector("body:not(.busy)")
    assert page.text_content(".last .note").startswith("Stopped.")
    stopped = whole(tab.url, id)["messages"][-1]["content"][0]["text"]
    page.click(".last .note button")
    until(page, "(n) => document.querySelector('.writing .prose')?.textContent.length > n", len(stopped) + 20)
    page.click("#send")  # it stops now
    page.wait_for_selector("body:not(.busy)")
    page.wait_for_selector(".last .note")
    messages = whole(tab.url, id)["messages"]
    assert messages[-1]["content"][0]["text"].startswith(stopped.rstrip())
    assert (
        len(messages[-1]["content"][0]["text"]) > len(stopped)
        and messages[-1]["meta"]["finish"] == "cancelled"
    )
    page.click("#settings")
    page.click("#reset")
    page.click("#panel .solid")

    # 2/2, back to 1/2, and the server remembers which is shown
    assert page.text_content(".last .siblings span") == "2/2"
    page.click('.last [title="Previous version"]')
    assert page.text_content(".last .siblings span") == "1/2"
    page.wait_for_timeout(300)
    assert whole(tab.url, id)["leaf"] == messages[1]["id"]

    # an edited question is a sibling, by keyboard; Esc leaves it as it was
    act(page, "user", "Edit")
    page.keyboard.press("Escape")
    assert page.locator(".editor").count() == 0
    act(page, "user", "Edit")
    page.keyboard.press("Control+a")
    page.keyboard.type(ASK)
    page.keyboard.press("Enter")
    page.wait_for_selector(".writing")
    page.wait_for_selector(SAID)
    assert page.text_content(".user .siblings span") == "2/2"
    page.reload()
    page.wait_for_selector(SAID)
    assert page.text_content(".user .bubble") == ASK

    # a longest answer ends with a note that offers more
    page.click("#settings")
    page.fill("#max_tokens", "5")
    page.click("#panel .solid")
    act(page, "assistant", "Answer again")
    page.wait_for_selector(".last .note button")
    assert "longest length" in page.text_content(".last .note")
    assert whole(tab.url, id)["settings"] == {"max_tokens": 5}

    # a branch is a chat of its own; deleting goes back
    act(page, "assistant", "Branch into a new chat")
    until(page, "(id) => location.hash.slice(1) !== id", id)
    page.wait_for_selector(SAID)
    assert len(kept(tab.url)) == 2
    act(page, "assistant", "Delete from here")
    page.click("#question-yes")
    page.wait_for_selector(".message.assistant", state="detached")
    page.wait_for_selector("#banner:not([hidden])")
    assert "no answer yet" in page.text_content("#banner")
    page.click("#banner .small")
    page.wait_for_selector(".last .note")
    tab.axe()
    tab.check()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_settings_copy_and_code(tab: Tab) -> None:
    page = tab.open()
    page.click("#settings")
    page.fill("#system", "Answer in one word.")
    page.fill("#temperature", "0")
    page.fill("#seed", "7")
    page.fill("#top_p", "9")
    page.click("#panel .solid")
    assert page.is_visible("#panel"), "a wrong number keeps the panel open"
    tab.axe()
    page.fill("#top_p", "0.5")
    page.click("#panel .solid")
    sent: list[dict[str, Any]] = []
    page.on("request", lambda r: sent.append(r.post_data_json) if r.url.endswith("/completions") else None)
    ask(page, ASK)
    assert sent[0]["messages"][0] == {"role": "system", "content": "Answer in one word."}
    assert (sent[0]["temperature"], sent[0]["seed"], sent[0]["top_p"]) == (0, 7, 0.5) and "top_k" not in sent[
        0
    ]
    first = page.text_content(".last .prose")
    act(page, "assistant", "Answer again")
    page.wait_for_selector(".writing")
    page.wait_for_selector(SAID)
    assert page.text_content(".last .prose") == first, "the same seed gives the same text"
    act(page, "assistant", "Copy")
    page.wait_for_selector('.last [title="Copied"]')
    assert (
        page.evaluate("navigator.clipboard.readText()")
        == whole(tab.url, kept(tab.url)[0]["id"])["messages"][-1]["content"][0]["text"]
    )
    if page.locator(".last .code").count():
        page.click('.last [title="Copy code"]')
        until(
            page, "(seen) => navigator.clipboard.readText().then((text) => seen.includes(text.trim()))", first
        )
    page.click("#settings")
    page.click("#reset")
    page.click("#panel .solid")
    page.wait_for_timeout(300)
    assert whole(tab.url, kept(tab.url)[0]["id"])["settings"] == {}
    tab.check()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_list_search_rename_export_import_delete(tab: Tab, tmp_path: Path) -> None:
    ids = bring(
        tab.url, *(conversation(f"Chat {n}", f"Question {n}", f"Answer {n} has a word{n}") for n in range(5))
    )
    page = tab.open()
    page.wait_for_selector(".chat >> nth=4")

    page.keyboard.press("Control+k")
    page.wait_for_selector(".hit")
    page.keyboard.type("WORD3")
    page.wait_for_selector(".hit mark")
    tab.axe()
    page.keyboard.press("Enter")
    page.wait_for_selector(".revealed")
    assert page.text_content("#title") == "Chat 3"

    row = page.locator(f'.chat[data-id="{ids[3]}"]')
    row.hover()
    row.get_by_role("button").click()
    tab.axe()
    page.keyboard.press("Enter")  # the first item: rename
    page.fill("#question-value", "Named anew")
    page.keyboard.press("Enter")
    until(page, "document.getElementById('title').textContent === 'Named anew'")

    for label, ending in (("Export as Markdown", ".md"), ("Export as JSON", ".json")):
        row.hover()
        row.get_by_role("button").click()
        with page.expect_download() as download:
            page.get_by_role("menuitem", name=label).click()
        assert download.value.suggested_filename == f"Named-anew{ending}"
        download.value.save_as(tmp_path / f"chat{ending}")
    assert (tmp_path / "chat.md").read_text().startswith("# Named anew\n\n## You\n\nQuestion 3")

    page.set_input_files("#import-file", tmp_path / "chat.json")
    until(page, "(id) => location.hash.slice(1) && location.hash.slice(1) !== id", ids[3])
    assert len(kept(tab.url)) == 6
    (tmp_path / "wrong.json").write_text(json.dumps({"a": 1}))
    page.set_input_files("#import-file", tmp_path / "wrong.json")
    page.wait_for_selector("#banner.wrong")
    assert "This file was not taken" in page.text_content("#banner")

    row.hover()
    row.get_by_role("button").click()
    page.get_by_role("menuitem", name="Delete").click()
    page.click("#question-yes")
    row.wait_for(state="detached")
    assert ids[3] not in [one["id"] for one in kept(tab.url)]
    page.keyboard.press("Control+Shift+o")
    page.wait_for_selector("#empty:not([hidden])")
    page.go_back()
    page.wait_for_selector(SAID)
    tab.check()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_second_tab_sees_what_changes(tab: Tab, browser: Any) -> None:
    page = tab.open()
    ask(page, ASK)
    place = page.evaluate("location.hash")
    context = browser.new_context()  # another browser: nothing but the server tells it
    other = Tab(context, tab.url)
    there = other.open(place)
    there.wait_for_selector(SAID)
    ask(page, "And how do I extract it?")
    until(there, "document.querySelectorAll('.message').length === 4")
    until(
        there,
        "(text) => document.querySelector('.last .prose').textContent === text",
        page.text_content(".last .prose"),
    )
    ask(there, "Thanks")
    until(page, "document.querySelectorAll('.message').length === 6")
    act(there, "user", "Delete from here")
    there.click("#question-yes")
    until(page, "document.querySelectorAll('.message').length === 4")
    httpx.delete(f"{tab.url}/api/conversations/{place[1:]}")
    page.wait_for_selector("#empty:not([hidden])")
    other.check()
    tab.check()
    context.close()
