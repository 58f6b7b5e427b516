"""Conversations are kept as they were said, found again, and nobody else's."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gemmary.serve.history import History, title_of
from gemmary.serve.historyfile import HistoryError

ME, YOU = "me", "you"


def said(id: str, parent: str | None, text: str, role: str = "user", **more: Any) -> dict[str, Any]:
    return {
        "id": id, "parent": parent, "role": role, "content": [{"type": "text", "text": text}], "meta": {},
        **more,
    }  # fmt: skip


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    history = History(tmp_path / "history.db")
    yield history
    history.close()


def fork(history: History, owner: str = ME) -> str:
    """A question, two answers, and what followed the second."""
    id = history.create(owner)["id"]
    history.put(owner, id, said("ask1", None, "Where is the tower?\nI mean 東京タワー"))
    history.put(owner, id, said("ans1", "ask1", "In Tokyo.", "assistant"))
    history.put(owner, id, said("ans2", "ask1", "In Minato, in Tōkyō.", "assistant"))
    history.put(owner, id, said("ask2", "ans2", "Thank you"))
    return id


def test_what_was_said_comes_back_in_a_new_process(history: History, tmp_path: Path) -> None:
    id = fork(history)
    history.close()
    again = History(tmp_path / "history.db").get(ME, id)
    assert [(m["id"], m["parent"], m["role"]) for m in again["messages"]] == [
        ("ask1", None, "user"), ("ans1", "ask1", "assistant"), ("ans2", "ask1", "assistant"),
        ("ask2", "ans2", "user"),
    ]  # fmt: skip
    assert again["messages"][2]["content"] == [{"type": "text", "text": "In Minato, in Tōkyō."}]
    assert again["leaf"] == "ask2"
    assert again["title"] == "Where is the tower?"


def test_saying_it_twice_changes_nothing_and_saying_more_replaces(history: History) -> None:
    id = fork(history)
    history.put(ME, id, said("ans2", "ask1", "In Minato.", "assistant", meta={"finish": "stop"}))
    history.put(ME, id, said("ans2", "ask1", "In Minato.", "assistant", meta={"finish": "stop"}))
    messages = history.get(ME, id)["messages"]
    assert len(messages) == 4
    assert messages[2]["content"][0]["text"] == "In Minato." and messages[2]["meta"] == {"finish": "stop"}
    assert not history.search(ME, "Tōkyō"), "what was replaced must not be found"
    with pytest.raises(HistoryError, match="another message"):
        history.put(ME, id, said("ans2", "ans1", "elsewhere", "assistant"))


def test_deleting_takes_what_follows(history: History) -> None:
    id = fork(history)
    assert history.remove(ME, id, "ans2")["leaf"] == "ask1"
    assert [m["id"] for m in history.get(ME, id)["messages"]] == ["ask1", "ans1"]
    assert not history.search(ME, "thank")


def test_a_chain_of_thousands_can_be_deleted(history: History) -> None:
    whole = {"title": "Long", "system": "", "settings": {}, "leaf": "m3999", "created": 0.0}
    chain = [said(f"m{i:04}", f"m{i - 1:04}" if i else None, "x", created=0.0) for i in range(4000)]
    id = history.take(ME, {**whole, "messages": chain}, {})["id"]
    history.remove(ME, id, "m0001")
    assert [m["id"] for m in history.get(ME, id)["messages"]] == ["m0000"]


def test_a_branch_is_a_chat_of_its_own(history: History) -> None:
    id = fork(history)
    picture = history.add_picture(ME, id, "image/png", b"\x89PNG\r\n\x1a\n...")
    shown = {"type": "picture", "id": picture, "name": "a", "width": 1, "height": 1}
    history.put(ME, id, {**said("ask3", "ask2", "look"), "content": [shown]})
    new = history.branch(ME, id, "ask3")["id"]
    history.delete(ME, id)
    assert [m["id"] for m in history.get(ME, new)["messages"]] == ["ask1", "ans2", "ask2", "ask3"]
    assert history.picture(ME, new, picture) == ("image/png", b"\x89PNG\r\n\x1a\n...")


@pytest.mark.parametrize("query", ["tower", "TOWER where", "京タ", "タワー", "東京", "ower", "is the"])
def test_found(history: History, query: str) -> None:
    id = fork(history)
    found = history.search(ME, query)
    assert [one["id"] for one in found] == [id]


@pytest.mark.parametrize(
    "query", ["nowhere", "tower nowhere", '"', "*", "NEAR(", "100%", "a_b", "tower OR x", "", " "]
)
def test_not_found_and_never_a_fault(history: History, query: str) -> None:
    fork(history)
    assert history.search(ME, query) == []


def test_found_text_is_cut_around_the_match(history: History) -> None:
    id = history.create(ME)["id"]
    history.put(ME, id, said("long", None, "lorem " * 500 + "Needle" + " ipsum" * 500))
    found = history.search(ME, "needle")[0]["found"]
    assert found["match"] == "Needle" and found["message"] == "long"
    assert found["before"].startswith("…") and len(found["before"]) < 60 and found["after"].endswith("…")


def test_titles_are_found_and_renamed(history: History) -> None:
    id = fork(history)
    history.revise(ME, id, {"title": "Architecture"})
    assert [one["title"] for one in history.search(ME, "architect")] == ["Architecture"]
    history.put(ME, id, said("ask9", None, "another beginning"))
    assert history.get(ME, id)["title"] == "Architecture", "a chosen title stays"


def test_others_see_nothing(history: History) -> None:
    id = fork(history)
    assert history.recent(YOU) == [] and history.search(YOU, "tower") == []
    for act in (
        lambda: history.get(YOU, id),
        lambda: history.put(YOU, id, said("mine", None, "x")),
        lambda: history.revise(YOU, id, {"title": "x"}),
        lambda: history.remove(YOU, id, "ask1"),
        lambda: history.branch(YOU, id, "ask1"),
        lambda: history.delete(YOU, id),
        lambda: history.add_picture(YOU, id, "image/png", b"x"),
        lambda: history.picture(YOU, id, "0" * 64),
    ):
        with pytest.raises(HistoryError, match="no such conversation") as caught:
            act()
        assert caught.value.status == 404


def test_every_change_is_told(history: History) -> None:
    before = history.now()
    id = fork(history)
    seen = [before, history.now()]
    for act in (
        lambda: history.revise(ME, id, {"leaf": "ans1"}),
        lambda: history.put(ME, id, said("ans1", "ask1", "Tokyo", "assistant")),
        lambda: history.remove(ME, id, "ask2"),
        lambda: history.delete(ME, id),
    ):
        act()
        seen.append(history.now())
    assert seen == sorted(set(seen))


def test_a_parent_must_be_there(history: History) -> None:
    id = fork(history)
    with pytest.raises(HistoryError, match="no such message"):
        history.put(ME, id, said("lost", "nobody", "x"))
    with pytest.raises(HistoryError, match="no such message"):
        history.revise(ME, id, {"leaf": "nobody"})


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("  \n\n Hello there\nmore", "Hello there"),
        ("", "New chat"),
        ("word " * 40, "word word word word word word word word word word word word…"),
        ("x" * 200, "x" * 60 + "…"),
    ],
)
def test_title_of(text: str, title: str) -> None:
    assert title_of(text) == title


WRITER = """
import sys
from pathlib import Path
from gemmary.serve.history import History
history, id, name = History(Path(sys.argv[1])), sys.argv[2], sys.argv[3]
parent = None
for number in range(int(sys.argv[4])):
    message = f"{name}-{number:05}"
    content = [{"type": "text", "text": f"{message} " + "word " * 50}]
    history.put("me", id, {"id": message, "parent": parent, "role": "user", "content": content, "meta": {}})
    parent = message
    print(message, flush=True)
"""


def writer(path: Path, id: str, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), id, name, str(count)], stdout=subprocess.PIPE, text=True
    )


def killed(path: Path, id: str, times: int, rng: random.Random) -> list[str]:
    """Messages that were acknowledged by writers which were killed."""
    acknowledged: list[str] = []
    for number in range(times):
        process = writer(path, id, f"run{number}", 100_000)
        assert process.stdout is not None
        for _ in range(rng.randrange(1, 20)):
            acknowledged.append(process.stdout.readline().strip())
        time.sleep(rng.random() * 0.01)
        process.send_signal(signal.SIGKILL)
        acknowledged += process.stdout.read().split()
        process.wait()
    return acknowledged


def check_killed(tmp_path: Path, times: int) -> None:
    path = tmp_path / "history.db"
    history = History(path)
    id = history.create(ME)["id"]
    history.close()
    acknowledged = killed(path, id, times, random.Random(times))
    history = History(path)
    assert history.notice is None
    kept = {message["id"] for message in history.get(ME, id)["messages"]}
    assert len(acknowledged) >= times and kept.issuperset(acknowledged)
    with history._file.reading() as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert db.execute("INSERT INTO words (words) VALUES ('integrity-check')") is not None
    assert len(history.search(ME, acknowledged[-1])) == 1


def test_what_was_acknowledged_survives_kill(tmp_path: Path) -> None:
    check_killed(tmp_path, 2)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_what_was_acknowledged_survives_100_kills(tmp_path: Path) -> None:
    check_killed(tmp_path, 100)


def crowd(path: Path, seconds: float, writers: int, readers: int) -> tuple[list[str], list[BaseException]]:
    """Threads that write and read at once: what was acknowledged, and what went wrong."""
    history, until = History(path), time.monotonic() + seconds
    ids = [history.create(ME)["id"] for _ in range(writers)]
    done: list[str] = []
    faults: list[BaseException] = []

    def write(number: int) -> None:
        parent, count = None, 0
        while time.monotonic() < until:
            message = f"w{number:02}-{count:06}"
            history.put(ME, ids[number], said(message, parent, f"{message} some words to index"))
            done.append(message)
            parent, count = message, count + 1

    def read() -> None:
        rng = random.Random()
        while time.monotonic() < until:
            whole = history.get(ME, rng.choice(ids))
            known = {message["id"] for message in whole["messages"]}
            assert all(m["parent"] is None or m["parent"] in known for m in whole["messages"])
            history.search(ME, "words")
            history.recent(ME)

    def guarded(work: Any, *given: int) -> None:
        try:
            work(*given)
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=guarded, args=(write, n)) for n in range(writers)]
    threads += [threading.Thread(target=guarded, args=(read,)) for _ in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = {message["id"] for id in ids for message in history.get(ME, id)["messages"]}
    assert kept == set(done)
    history.close()
    return done, faults


def test_eight_writers_and_eight_readers(tmp_path: Path) -> None:
    done, faults = crowd(tmp_path / "history.db", 0.7, 8, 8)
    assert done and not faults


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_processes_of_eight_writers_and_eight_readers(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    history = History(path)
    id = history.create(ME)["id"]
    other = writer(path, id, "other", 400)
    done, faults = crowd(path, 30, 8, 8)
    assert other.stdout is not None
    told = other.stdout.read().split()
    assert done and not faults and other.wait() == 0
    assert [message["id"] for message in history.get(ME, id)["messages"]] == told
    with history._file.reading() as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
