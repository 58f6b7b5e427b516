"""Conversations in memory and in files."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from gemmary.cli.dialogue import FILE_BYTES, Dialogue
from gemmary.errors import ImageError, PromptError


def said(*texts: str) -> Dialogue:
    """User and assistant in turns."""
    dialogue = Dialogue()
    for number, text in enumerate(texts):
        (dialogue.answer if number % 2 else dialogue.ask)(text)
    return dialogue


def contents(dialogue: Dialogue) -> list[str]:
    return [turn["content"] for turn in dialogue.turns]


def test_an_unanswered_question_makes_way() -> None:
    dialogue = said("a", "b", "c")
    dialogue.ask("d")
    assert contents(dialogue) == ["a", "b", "d"]


def test_an_answer_can_be_continued() -> None:
    dialogue = said("a", "b")
    dialogue.answer(" and more")
    dialogue.answer("")
    assert contents(dialogue) == ["a", "b and more"]


@pytest.mark.parametrize(("texts", "left"), [("abcd", "ab"), ("abc", "ab"), ("ab", ""), ("a", "")])
def test_undo(texts: str, left: str) -> None:
    dialogue = said(*texts)
    assert dialogue.undo()
    assert "".join(contents(dialogue)) == left


def test_nothing_to_undo() -> None:
    assert not Dialogue("system").undo()


def test_the_oldest_exchanges_go_first_and_the_last_stays() -> None:
    dialogue = said(*"abcdefg")
    assert dialogue.drop_oldest(lambda messages: len(messages) <= 4) == 4
    assert contents(dialogue) == ["e", "f", "g"]
    assert dialogue.drop_oldest(lambda messages: False) == 2
    assert contents(dialogue) == ["g"]
    assert dialogue.drop_oldest(lambda messages: False) == 0


def test_what_fits_is_left_alone() -> None:
    dialogue = said(*"abcde")
    assert dialogue.drop_oldest(lambda messages: True) == 0
    assert contents(dialogue) == list("abcde")


def test_a_conversation_survives_its_file(tmp_path: Path) -> None:
    before = said("Grüße \u202e\x1b", "ok\n")
    before.system = "Be brief."
    before.save(tmp_path / "x.json")
    after = Dialogue("other")
    after.load(tmp_path / "x.json")
    assert after.messages == before.messages


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "{}",
        "[1]",
        '[{"role": "user"}]',
        '[{"role": "user", "content": [1]}]',
        '[{"role": "nobody", "content": "x"}]',
        r'[{"role": "user", "content": "\ud800"}]',
        '[{"role": "user", "content": "x"}, {"role": "system", "content": "x"}]',
        "[" * 100_000,
    ],
)
def test_other_files_are_refused_and_change_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    dialogue = said("a", "b")
    with pytest.raises(PromptError, match=r"x\.json: "):
        dialogue.load(path)
    assert contents(dialogue) == ["a", "b"]


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with path.open("wb") as file:
        file.truncate(FILE_BYTES + 1)
    with pytest.raises(PromptError, match="too large"):
        Dialogue().load(path)


def test_other_keys_of_messages_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"role": "user", "content": "a", "tool_calls": [1]}]))
    dialogue = Dialogue()
    dialogue.load(path)
    assert dialogue.messages == [{"role": "user", "content": "a"}]


PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
URL = "data:image/png;base64," + base64.b64encode(PNG).decode()


def test_pictures_survive_their_file_by_path_and_others_by_value(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    told = [
        {"type": "image", "path": str(tmp_path / "a.png")},
        {"type": "image_url", "image_url": {"url": URL}},
    ]
    saved = [{"role": "user", "content": [*told, {"type": "text", "text": "what?"}]}]
    (tmp_path / "x.json").write_text(json.dumps(saved))
    dialogue = Dialogue()
    dialogue.load(tmp_path / "x.json")
    assert dialogue.messages[0]["content"] == [
        {"type": "image", "image": PNG}, {"type": "image", "image": PNG}, {"type": "text", "text": "what?"}
    ]  # fmt: skip
    (tmp_path / "a.png").unlink()  # what was read stays
    dialogue.save(tmp_path / "y.json")
    assert json.loads((tmp_path / "y.json").read_text()) == saved
    with pytest.raises(ImageError, match=rf"x\.json: {tmp_path}/a\.png: there is no such file"):
        Dialogue().load(tmp_path / "x.json")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image"}, {"type": "image", "image": "x"}, {"type": "video", "path": "x"}, {"type": "text"},
        {"type": "image_url", "image_url": {"url": "/etc/passwd"}}, {"type": "image", "path": "\ud800"}, 1,
    ],
)  # fmt: skip
def test_parts_that_are_none(tmp_path: Path, part: object) -> None:
    (tmp_path / "x.json").write_text(json.dumps([{"role": "user", "content": [part]}]))
    with pytest.raises(PromptError, match=r"x\.json: is not a conversation"):
        Dialogue().load(tmp_path / "x.json")
