"""The chat in a real terminal: keys, signals, what may be written where."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from .terminals import FAKE, Terminal

GREETING = "/help lists the commands"


@pytest.fixture
def chat(tmp_path: Path) -> Terminal:
    return Terminal(FAKE, "chat", home=tmp_path)


def test_ctrl_c_stops_the_answer_and_ctrl_d_leaves(chat: Terminal) -> None:
    with chat:
        chat.expect(GREETING)
        chat.expect(">>>")
        chat.type("hello\r")
        chat.expect("w10 ")
        chat.type("\x03")
        chat.expect("Stopped.")
        chat.expect(">>>")
        assert "w" not in chat.idle(0.3).replace(">>>", "")
        chat.type("\x04")
        assert chat.ended() == 0
    assert "Traceback" not in chat.plain and "^C" not in chat.plain


def test_ctrl_c_at_an_empty_prompt_hints_and_otherwise_clears_the_line(chat: Terminal) -> None:
    with chat:
        chat.expect(">>>")
        chat.type("never mind\x03")
        assert "leaves" not in chat.idle(1.5)
        chat.type("\x03")
        chat.expect("Ctrl-D or /bye leaves")
        chat.expect(">>>")
        chat.type("/bye\r")
        assert chat.ended() == 0


def test_tab_completes_commands_settings_and_files(chat: Terminal, tmp_path: Path) -> None:
    (tmp_path / "conversation.json").write_text('[{"role": "user", "content": "hello"}]')
    with chat:
        chat.expect(">>>")
        for keys in ("/se\t", " temp\t", " 0.25\r"):
            chat.type(keys)
            chat.idle(0.5)
        chat.expect("temperature        0.25")
        chat.expect(">>>")
        chat.type("/load conv\t")
        chat.idle(0.5)
        chat.type("\r")
        chat.expect("1 messages from conversation.json")


def test_what_is_typed_during_an_answer_does_not_show_in_it(chat: Terminal) -> None:
    with chat:
        chat.expect(">>>")
        chat.type("hello\r")
        chat.expect("w3 ")
        chat.type("INTRUDER")
        chat.expect("w20 ")
        chat.type("\x03")
        chat.expect("Stopped.")
        assert "INTRUDER" not in chat.plain.partition("Stopped.")[0]


def test_pasted_lines_are_one_message(tmp_path: Path) -> None:
    with Terminal(FAKE, "chat", home=tmp_path, ECHO="1") as chat:
        chat.expect(">>>")
        chat.type("\x1b[200~first\rsecond\x1b[201~\r")
        chat.expect(r'"content": "first\nsecond"}]')


def test_alt_enter_and_quotes_make_many_lines(tmp_path: Path) -> None:
    with Terminal(FAKE, "chat", home=tmp_path, ECHO="1") as chat:
        chat.expect(">>>")
        chat.type("one\x1b\rtwo\r")
        chat.expect(r'"content": "one\ntwo"}]')
        chat.expect(">>>")
        chat.type('"""three\r')
        chat.expect("...")
        chat.type('four"""\r')
        chat.expect(r'"content": "three\nfour"}]')


def test_the_editor_edits_the_message(tmp_path: Path) -> None:
    with Terminal(FAKE, "chat", home=tmp_path, ECHO="1", VISUAL="sed -i s/bad/good/") as chat:
        chat.expect(">>>")
        chat.type("a bad word\x07")
        chat.expect("good")
        chat.type("\r")
        chat.expect('"content": "a good word"}]')


def test_history_is_kept_for_the_next_chat_and_from_other_users(tmp_path: Path) -> None:
    with Terminal(FAKE, "chat", home=tmp_path, ECHO="1") as chat:
        chat.expect(">>>")
        chat.type("remember me\r")
        chat.expect("tokens (")
        chat.expect(">>>")
        chat.type("\x04")
        assert chat.ended() == 0
    path = tmp_path / "s/gemmary/history"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with Terminal(FAKE, "chat", home=tmp_path, ECHO="1") as chat:
        chat.expect(">>>")
        chat.type("\x1b[A\r")
        chat.expect('"content": "remember me"}]')


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("a file where a folder should be")
    with Terminal(FAKE, "chat", home=tmp_path, ECHO="1") as chat:
        chat.expect(">>>")
        chat.type("hello\r")
        chat.expect('"content": "hello"}]')


def test_a_dumb_terminal_gets_no_escape_sequences(tmp_path: Path) -> None:
    with Terminal(FAKE, "chat", home=tmp_path, ECHO="1", TERM="dumb") as chat:
        chat.expect(">>>")
        chat.type("hello\r")
        chat.expect('"content": "hello"}]')
        chat.expect("tokens (")
        chat.type("\x03")
        chat.expect("Ctrl-D or /bye leaves")
        chat.type("/edit\r")
        chat.expect("hello")
        chat.expect(">>>")
        chat.type("goodbye\r")
        chat.expect('"content": "goodbye"}]')
        chat.expect(">>>")
        chat.type("\x04")
        assert chat.ended() == 0
    assert "\x1b" not in chat.text


@pytest.mark.parametrize("no_color", ["", "1"])
def test_no_color_is_respected(tmp_path: Path, no_color: str) -> None:
    env = {"NO_COLOR": no_color} if no_color else {}
    with Terminal(FAKE, "chat", home=tmp_path, ECHO="1", **env) as chat:
        chat.expect(">>>")
        chat.type("hello\r")
        chat.expect("tokens (")
    assert ("\x1b[2m" in chat.text) is not bool(no_color)


def test_ctrl_c_ends_a_single_answer_with_130(tmp_path: Path) -> None:
    with Terminal(FAKE, "chat", "-p", "count", home=tmp_path) as chat:
        chat.expect("w10 ")
        chat.type("\x03")
        assert chat.ended() == 130
    assert "Traceback" not in chat.plain


@pytest.mark.parametrize("answer", ["n\r", "\r", "\x04"])
def test_a_missing_official_model_is_offered_in_4_bits(tmp_path: Path, answer: str) -> None:
    cache = {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    with Terminal(FAKE, "chat", "google/gemma-3-4b-it", home=tmp_path, **cache) as chat:
        offer = chat.expect("Download it now? [y/N] ")
        for part in (
            "4-bit",
            "download  4.0 GB",
            "memory",
            "hf auth login",
            "google/gemma-3-4b-it-qat-q4_0-gguf",
        ):
            assert part in offer
        chat.type(answer)
        chat.expect("fetch it with `gemmary pull google/gemma-3-4b-it`")
        assert chat.ended() == 1


def test_saying_yes_downloads(tmp_path: Path) -> None:
    cache = {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    with Terminal(FAKE, "chat", "google/gemma-3-4b-it", home=tmp_path, **cache) as chat:
        chat.expect("Download it now? [y/N] ")
        chat.type("y\r")
        chat.expect("no connection to the hub")
        assert chat.ended() == 1
