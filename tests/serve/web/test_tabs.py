"""A conversation that is open twice, left in the middle of an answer, or whose server goes away meanwhile."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

import gemmary
from gemmary.serve.app import create_app
from gemmary.serve.history import History
from gemmary.serve.models import Models

from .conftest import Tab, bring, conversation
from .visitor import ASK, SAID, act, ask, kept, until, whole

FREE = {"temperature": 4, "top_k": 0, "top_p": 1}  # so free a model finds no end
WRITING = "document.querySelector('.writing .prose')?.textContent.length > 40"
COUNT = "(n) => document.querySelectorAll('.message').length === n"


def look(page: Any) -> None:
    """What a tab does every two seconds, now."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def put(url: str, id: str, message: str, parent: str, text: str, **meta: str) -> None:
    """A message of another tab."""
    said = {
        "parent": parent, "role": "assistant" if meta else "user", "meta": meta,
        "content": [{"type": "text", "text": text}],
    }  # fmt: skip
    httpx.put(f"{url}/api/conversations/{id}/messages/{message}", json=said).raise_for_status()


def banner(page: Any) -> str:
    page.wait_for_selector("#banner:not([hidden])")
    return str(page.text_content("#banner span"))


def test_what_another_tab_does_is_shown(tab: Tab) -> None:
    (id,) = bring(tab.url, conversation("Ships", "What is a ship?", "A large boat."))
    place = f"{tab.url}/api/conversations/{id}"
    page = tab.open(f"#{id}")
    page.wait_for_selector(SAID)

    # an answer that another tab writes grows; nobody else can add to it meanwhile
    put(tab.url, id, "q2aa", "m0001", "And a yacht?")
    put(tab.url, id, "a2aa", "q2aa", "A sm", finish="writing")
    look(page)
    until(page, COUNT, 4)
    assert page.text_content(".last .reading span") == "Being written in another tab"
    assert page.locator(".last .note").count() == 0 and page.is_disabled('.last [title="Answer again"]')
    page.fill("#ask", "And a raft?")
    page.keyboard.press("Enter")
    assert "Another tab is writing" in banner(page) and page.input_value("#ask") == "And a raft?"
    put(tab.url, id, "a2aa", "q2aa", "A small one.", finish="stop")
    look(page)
    until(page, "document.querySelector('.last .prose').textContent.trim() === 'A small one.'")
    assert page.locator(".reading").count() == 0 and page.is_enabled('.last [title="Answer again"]')

    # a question from a tab that does not know how the chat stands is not sent into the past
    put(tab.url, id, "q3aa", "a2aa", "And a canoe?")
    put(tab.url, id, "a3aa", "q3aa", "Narrow.", finish="stop")
    page.keyboard.press("Enter")
    until(page, COUNT, 6)
    assert "changed in another tab" in banner(page) and page.input_value("#ask") == "And a raft?"
    assert len(whole(tab.url, id)["messages"]) == 6

    # another wording, a name, what is deleted; nothing there is no place to go back to
    put(tab.url, id, "q2bb", "m0001", "And a dinghy?")
    httpx.patch(place, json={"title": "Boats"})
    look(page)
    until(page, COUNT, 3)
    assert page.text_content(".user.message >> nth=-1 >> .siblings span") == "2/2"
    assert page.text_content("#title") == "Boats"
    httpx.delete(place)
    look(page)
    page.wait_for_selector("#empty:not([hidden])")
    assert "not here any more" in banner(page) and page.evaluate("location.hash") == ""
    assert page.input_value("#ask") == "And a raft?"
    tab.check()


@pytest.fixture
def other(browser: Any, tab: Tab) -> Iterator[Tab]:
    """A tab of another browser: nothing but the server tells it."""
    context = browser.new_context()
    yield Tab(context, tab.url)
    context.close()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_one_tab_writes_and_the_other_looks(tab: Tab, other: Tab) -> None:
    (id,) = bring(tab.url, conversation("Free", "Tell me a story", "Once upon a time", settings=FREE))
    page, there = tab.open(f"#{id}"), other.open(f"#{id}")
    there.wait_for_selector(SAID)
    page.wait_for_selector(SAID)
    page.fill("#ask", "Go on")
    page.keyboard.press("Enter")
    until(page, WRITING)
    there.wait_for_selector(".last .reading")
    length = "document.querySelector('.last .prose').textContent.length"
    until(there, f"{length} > 0")
    seen = there.evaluate(length)
    until(there, f"{length} > {seen}")
    assert there.locator(".last .note").count() == 0 and there.is_disabled('.last [title="Answer again"]')
    there.fill("#ask", "And then?")
    there.keyboard.press("Enter")
    assert "Another tab is writing" in banner(there) and there.input_value("#ask") == "And then?"
    page.keyboard.press("Escape")
    there.wait_for_selector(".last .note")
    assert there.text_content(".last .note").startswith("Stopped.")
    same = "document.querySelector('.last .prose').textContent"
    until(there, f"(text) => {same} === text", page.evaluate(same))

    # now the other one asks, again and again, and this one follows
    httpx.patch(f"{tab.url}/api/conversations/{id}", json={"settings": {"max_tokens": 12}})
    for count in (6, 8):
        ask(there, "And then?")
        until(page, COUNT, count)
        until(page, "!document.querySelector('.reading')")
    act(there, "user", "Edit")
    there.keyboard.press("Control+a")
    there.keyboard.type("Is that all?")
    there.keyboard.press("Enter")
    there.wait_for_selector(".writing")
    until(page, "document.querySelector('.thread > li:nth-child(7) .bubble')?.textContent === 'Is that all?'")
    until(page, "document.querySelector('.thread > li:nth-child(7) .siblings span').textContent === '2/2'")
    there.wait_for_selector("body:not(.busy)")
    there.click('.thread > li:nth-child(7) [title="Previous version"]')
    until(page, "document.querySelector('.thread > li:nth-child(7) .bubble').textContent === 'And then?'")
    act(there, "assistant", "Branch into a new chat")
    page.wait_for_selector(".chat >> nth=1")
    assert page.evaluate("location.hash") == f"#{id}", "who looks stays"
    other.check()
    tab.check()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_deleted_while_it_is_answered(tab: Tab) -> None:
    (id,) = bring(tab.url, conversation("Free", "Tell me a story", "Once upon a time", settings=FREE))
    place = f"{tab.url}/api/conversations/{id}"
    page = tab.open(f"#{id}")
    page.wait_for_selector(SAID)
    page.fill("#ask", "Go on")
    page.keyboard.press("Enter")
    until(page, WRITING)
    question = whole(tab.url, id)["messages"][2]["id"]
    httpx.delete(f"{place}/messages/{question}")
    until(page, COUNT, 2)
    assert "deleted in another tab" in banner(page)
    page.wait_for_selector("body:not(.busy)")
    page.fill("#ask", "Go on")
    page.keyboard.press("Enter")
    until(page, WRITING)
    httpx.delete(place)
    page.wait_for_selector("#empty:not([hidden])")
    assert kept(tab.url) == []
    ask(page, ASK)  # a new chat begins as if nothing had been
    assert len(kept(tab.url)) == 1
    tab.check()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_left_in_the_middle_of_an_answer(tab: Tab) -> None:
    first, second = bring(
        tab.url,
        conversation("Free", "Tell me a story", "Once upon a time", settings=FREE),
        conversation("Other", "Another question", "Another answer"),
    )
    page = tab.open(f"#{first}")
    page.wait_for_selector(SAID)
    page.fill("#ask", "Go on")
    page.keyboard.press("Enter")
    until(page, WRITING)
    page.reload()
    page.wait_for_selector(".last .note button")
    assert "cut off" in page.text_content(".last .note") and page.locator(".reading").count() == 0
    text = whole(tab.url, first)["messages"][-1]["content"][0]["text"]
    assert len(text) > 40, "what had been written is there, not what was there two seconds before"
    page.click(".last .note button")
    until(page, "(n) => document.querySelector('.writing .prose')?.textContent.length > n", len(text) + 20)

    page.click(f'.chat[data-id="{second}"] a')  # to another chat: this answer ends
    until(page, "document.querySelector('.last .prose').textContent.trim() === 'Another answer'")
    page.wait_for_selector("body:not(.busy)")
    page.go_back()
    page.wait_for_selector(".last .note")
    assert page.text_content(".last .note").startswith("Stopped.")
    assert whole(tab.url, first)["messages"][-1]["content"][0]["text"].startswith(text.rstrip())

    # a tab that dies says nothing: after some seconds of silence its answer counts as cut off
    last = whole(tab.url, first)["messages"][-1]
    put(tab.url, first, last["id"], last["parent"], "Half", finish="writing")
    page.wait_for_selector(".last .reading")
    page.wait_for_selector(".last .note button")
    assert "cut off" in page.text_content(".last .note") and page.locator(".reading").count() == 0
    tab.check()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_back_and_forward(tab: Tab) -> None:
    ids = bring(tab.url, *(conversation(f"Chat {n}", f"Question {n}", f"Answer {n}") for n in range(3)))
    page = tab.open(f"#{ids[0]}")
    for number in (1, 2):
        page.click(f'.chat[data-id="{ids[number]}"] a')
        until(page, "(title) => document.getElementById('title').textContent === title", f"Chat {number}")

    def slowly(route: Any) -> None:
        time.sleep(1)
        route.continue_()

    page.route(f"**/api/conversations/{ids[1]}", slowly)
    page.evaluate("history.back(); setTimeout(() => history.forward(), 300)")  # before it is there
    page.wait_for_timeout(2500)
    assert page.text_content("#title") == "Chat 2" and page.evaluate("location.hash") == f"#{ids[2]}"
    page.unroute(f"**/api/conversations/{ids[1]}")

    httpx.delete(f"{tab.url}/api/conversations/{ids[1]}")
    page.go_back()
    page.wait_for_selector("#empty:not([hidden])")
    assert "not here any more" in banner(page)
    page.go_back()  # past what is no more, not into it again
    until(page, "document.getElementById('title').textContent === 'Chat 0'")
    page.go_forward()
    page.wait_for_selector("#empty:not([hidden])")
    page.go_forward()
    until(page, "document.getElementById('title').textContent === 'Chat 2'")
    tab.check()


@contextlib.contextmanager
def on(port: int, model: gemmary.Model, path: Path) -> Iterator[None]:
    """A server on a port that was chosen; at the end every connection breaks."""
    history = History(path)
    app = create_app(Models({"test": model}), None, history)
    config = uvicorn.Config(
        app, port=port, log_level="critical", access_log=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield
    server.should_exit = True
    thread.join(30)
    history.close()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_server_is_started_again_under_the_page(
    browser: Any, bundled: gemmary.Model, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tab = Tab(browser.new_context(), f"http://127.0.0.1:{port}")
    path = tmp_path / "history.db"
    with on(port, bundled, path):
        (id,) = bring(tab.url, conversation("Free", "Tell me a story", "Once upon a time", settings=FREE))
        page = tab.open(f"#{id}")
        page.wait_for_selector(SAID)
        page.fill("#ask", "Go on")
        page.keyboard.press("Enter")
        until(page, WRITING)
    page.wait_for_selector("#banner.wrong")
    assert "does not answer" in banner(page)
    page.wait_for_selector("body:not(.busy)")
    said = page.text_content(".last .prose")
    with on(port, bundled, path):
        until(page, "document.getElementById('banner').textContent.includes('back')")
        until(page, "document.getElementById('banner').hidden")
        assert page.text_content(".last .prose") == said
        last = whole(tab.url, id)["messages"][-1]
        deadline = time.monotonic() + 30
        while last["meta"]["finish"] != "cut":  # it is sent again every two seconds
            assert time.monotonic() < deadline
            time.sleep(0.2)
            last = whole(tab.url, id)["messages"][-1]
        assert re.sub(r"\W", "", last["content"][0]["text"])[:30] == re.sub(r"\W", "", said)[:30]
        page.click(".last .note button")
        until(page, "(n) => document.querySelector('.writing .prose')?.textContent.length > n", len(said))
        page.keyboard.press("Escape")
        page.wait_for_selector("body:not(.busy)")
    tab.check()
    tab.page.context.close()
