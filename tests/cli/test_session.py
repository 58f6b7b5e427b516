"""The chat's logic, with a model and a user that are known."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from gemmary.cli import commands, session
from gemmary.cli.dialogue import Dialogue
from gemmary.cli.session import Session
from gemmary.cli.settings import Settings
from gemmary.errors import MemoryBudgetError

from .fakes import FakeModel, User

HELLO = {"role": "user", "content": "hello"}
HI = {"role": "assistant", "content": "hi there"}
CTRL_C = KeyboardInterrupt()
DEFAULT = Settings()


def chat(model: FakeModel, *lines: str | BaseException, settings: Settings = DEFAULT) -> tuple[str, Session]:
    """A whole conversation: what went to stdout, and the session afterwards."""
    out, user = io.StringIO(), User(*lines)
    talk = Session(model, Dialogue(), settings, user, out)  # type: ignore[arg-type]
    talk.run()
    return out.getvalue(), talk


@pytest.fixture
def yes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Says yes to every question, and keeps them."""
    return _agree(monkeypatch, True)


@pytest.fixture
def no(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return _agree(monkeypatch, False)


def _agree(monkeypatch: pytest.MonkeyPatch, answer: bool) -> list[str]:
    questions: list[str] = []

    def confirm(question: str, default: bool) -> bool:
        questions.append(question)
        return answer

    monkeypatch.setattr(session, "confirm", confirm)
    monkeypatch.setattr(commands, "confirm", confirm)
    return questions


def test_answers_go_to_stdout_and_the_rest_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = chat(FakeModel([["hi ", "there"]]), "hello")
    assert out == "hi there\n"
    told = capsys.readouterr()
    assert told.out == ""
    assert "4.0 tokens/s · 3 of 1,000 tokens (0 %)" in told.err


def test_the_model_hears_the_whole_conversation() -> None:
    model = FakeModel([["hi there"], ["fine"]])
    chat(model, "hello", "how are you")
    assert model.asked[1][0] == [HELLO, HI, {"role": "user", "content": "how are you"}]


def test_control_characters_do_not_reach_the_terminal_but_are_remembered() -> None:
    evil = "a\x1b]0;title\x07b\x9b31mc\rd\x00\x7f\te\n"
    out, talk = chat(FakeModel([[evil]]), "hello")
    assert out == "a]0;titleb31mcd\te\n\n"
    assert talk.dialogue.turns[-1]["content"] == evil


def test_ctrl_c_stops_the_answer_and_keeps_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    model = FakeModel([["hi ", "there", CTRL_C, "never"], ["more"]])
    out, _ = chat(model, "hello", "go on")
    assert out == "hi there\nmore\n"
    assert model.closed == 2
    assert model.asked[1][0][:2] == [HELLO, HI]
    assert "Stopped." in capsys.readouterr().err


def test_a_question_that_was_stopped_before_the_first_word_makes_way() -> None:
    model = FakeModel([[CTRL_C], ["hi there"]])
    _, talk = chat(model, "what", "hello")
    assert talk.dialogue.turns == [HELLO, HI]


def test_ctrl_c_at_the_prompt_says_how_to_leave(capsys: pytest.CaptureFixture[str]) -> None:
    chat(FakeModel([]), CTRL_C, CTRL_C)
    assert capsys.readouterr().err.count("Ctrl-D or /bye leaves") == 2


@pytest.mark.parametrize("word", ["/bye", "/exit", "/quit"])
def test_leaving(word: str) -> None:
    model = FakeModel([])
    chat(model, word, "hello")
    assert model.asked == []


def test_an_error_is_a_sentence_and_the_chat_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    model = FakeModel([[MemoryBudgetError("no memory left: close something")], ["hi there"]])
    _, talk = chat(model, "hello", "hello")
    assert "no memory left: close something" in capsys.readouterr().err
    assert talk.dialogue.turns == [HELLO, HI]


def test_empty_lines_ask_nothing() -> None:
    model = FakeModel([])
    chat(model, "", "   ", '"""', '"""')
    assert model.asked == []


def test_many_lines_between_quotes() -> None:
    model = FakeModel([["ok"], ["ok"]])
    _, talk = chat(model, '"""first', "  second", "", 'last"""', '"""one"""')
    assert model.asked[0][0][-1]["content"] == "first\n  second\n\nlast"
    assert model.asked[1][0][-1]["content"] == "one"
    assert talk.read.more[:5] == [False, True, True, True, False]  # type: ignore[attr-defined]


def test_clear_forgets_all_but_the_system_prompt() -> None:
    model = FakeModel([["hi there"], ["ok"]])
    chat(model, "/system Be brief.", "hello", "/clear", "again")
    assert model.asked[1][0] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "again"},
    ]


def test_the_system_prompt_is_shown_set_and_removed(capsys: pytest.CaptureFixture[str]) -> None:
    _, talk = chat(FakeModel([]), "/system", "/system Be brief.", "/system", "/system off")
    told = capsys.readouterr().err
    assert "There is no system prompt." in told and "Be brief." in told
    assert talk.dialogue.system is None


def test_undo_takes_back_one_exchange(capsys: pytest.CaptureFixture[str]) -> None:
    _, talk = chat(FakeModel([["hi there"], ["b"]]), "hello", "second", "/undo")
    assert talk.dialogue.turns == [HELLO, HI]
    _, talk = chat(FakeModel([]), "/undo")
    assert "There is nothing to take back." in capsys.readouterr().err


def test_retry_asks_the_same_with_another_seed_once() -> None:
    model = FakeModel([["first"], ["second"], ["third"]])
    _, talk = chat(model, "hello", "/retry", "next", settings=Settings(seed=7))
    seeds = [arguments["seed"] for _, arguments in model.asked]
    assert seeds[0] == seeds[2] == 7 != seeds[1]
    assert model.asked[1][0] == [HELLO]
    assert talk.dialogue.turns[1]["content"] == "second"


@pytest.mark.parametrize("command", ["/retry", "/edit"])
def test_there_must_be_a_question(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    chat(FakeModel([]), command)
    assert "there is no question to" in capsys.readouterr().err


def test_edit_begins_with_the_last_question_and_replaces_it() -> None:
    model = FakeModel([["first"], ["second"]])
    _, talk = chat(model, "helo", "/edit", "hello")
    assert "helo" in talk.read.defaults  # type: ignore[attr-defined]
    assert model.asked[1][0] == [HELLO]
    assert [turn["content"] for turn in talk.dialogue.turns] == ["hello", "second"]


def test_an_edit_that_is_given_up_changes_nothing() -> None:
    _, talk = chat(FakeModel([["hi there"]]), "hello", "/edit", CTRL_C, "/edit", "")
    assert talk.dialogue.turns == [HELLO, HI]


def test_settings_reach_the_model() -> None:
    model = FakeModel([["ok"]])
    chat(model, "/set temperature 0.2", "/set top-k=5", "/set seed 3", "/set max_tokens 9", "hello")
    arguments = model.asked[0][1]
    assert (arguments["temperature"], arguments["top_k"]) == (0.2, 5)
    assert (arguments["seed"], arguments["max_tokens"]) == (3, 9)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/set heat 1", "there is no setting 'heat'; there are temperature, top_k"),
        ("/set temperature hot", "temperature must be a number, not 'hot'"),
        ("/set temperature -1", "temperature must be a number from 0"),
        ("/set top_k 2.5", "top_k must be a whole number"),
        ("/set max_tokens 0", "max_tokens must be at least 1"),
        ("/set temperature", "say what temperature should be"),
        ("/frobnicate", "/frobnicate is not a command; /help lists them"),
        ("/etc/passwd", "/etc/passwd is not a command"),
        ("/save", "name a file"),
        ("/load nothing.json", "nothing.json: cannot be read"),
    ],
)
def test_wrong_commands_are_explained(line: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = FakeModel([])
    _, talk = chat(model, line)
    assert told in capsys.readouterr().err
    assert model.asked == [] and talk.settings == Settings()


def test_a_message_may_begin_with_a_slash_after_a_space() -> None:
    model = FakeModel([["ok"]])
    chat(model, " /etc/passwd")
    assert model.asked[0][0][0]["content"] == "/etc/passwd"


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    chat(FakeModel([]), "/help")
    told = capsys.readouterr().err
    for name in "/help /clear /retry /undo /edit /system /set /save /load /bye".split():
        assert f"  {name} " in told


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    chat(FakeModel([["hi there"]]), "/system Be brief.", "hello", f"/save {path}")
    assert json.loads(path.read_text()) == [{"role": "system", "content": "Be brief."}, HELLO, HI]
    model = FakeModel([["ok"]])
    chat(model, f"/load '{path}'", "again")
    assert model.asked[0][0][:3] == json.loads(path.read_text())


def test_save_asks_before_it_overwrites(tmp_path: Path, no: list[str]) -> None:
    path = tmp_path / "talk.json"
    path.write_text("precious")
    chat(FakeModel([]), f"/save {path}")
    assert path.read_text() == "precious" and no == [f"{path} exists. Overwrite it?"]


def turns(count: int) -> list[str]:
    return [f"question {n} of many" for n in range(count)]


def test_a_full_context_drops_the_oldest_turns_when_the_user_agrees(yes: list[str]) -> None:
    model = FakeModel([["fine"]] * 9, context=22)
    _, talk = chat(model, *turns(5))
    assert yes == ["The conversation is too long for the context. Drop the 4 oldest messages and go on?"]
    assert talk.dialogue.turns[0]["content"] == "question 2 of many"
    assert len(model.asked[-1][0]) == 5


def test_a_full_context_drops_nothing_when_the_user_does_not_agree(no: list[str]) -> None:
    model = FakeModel([["fine"]] * 9, context=22)
    _, talk = chat(model, *turns(5))
    assert len(no) == 1
    assert talk.dialogue.turns[0]["content"] == "question 0 of many"
    assert talk.dialogue.turns[-1]["content"] == "question 4 of many"


def test_an_answer_that_fills_the_context_goes_on_after_the_drop(yes: list[str]) -> None:
    model = FakeModel([["a"] * 10, [f"{n} " for n in range(30)], ["the end"]], context=25)
    _, talk = chat(model, "one question", "and another")
    assert yes == ["The context is full. Drop the 2 oldest messages and go on?"]
    continued = model.asked[2][0]
    assert [message["role"] for message in continued] == ["user", "assistant"]
    assert talk.dialogue.turns[-1]["content"].endswith("the end")
    assert len(talk.dialogue.turns) == 2


def test_one_message_that_is_too_long(yes: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    chat(FakeModel([], context=5), "much too long for such a context")
    assert yes == []
    assert "There is nothing older to drop" in capsys.readouterr().err


def test_the_system_prompt_survives_the_drop(yes: list[str]) -> None:
    model = FakeModel([["fine"]] * 9, context=22)
    _, talk = chat(model, "/system Be brief.", *turns(5))
    assert talk.dialogue.messages[0] == {"role": "system", "content": "Be brief."}
    assert all(asked[0]["role"] == "system" for asked, _ in model.asked)
