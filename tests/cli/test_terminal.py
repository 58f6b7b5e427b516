"""What reaches a terminal, and what does not."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr

import pytest

from gemmary.cli import terminal
from gemmary.cli.terminal import Waiting, confirm, dim, download_progress, printable


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def tty(monkeypatch: pytest.MonkeyPatch) -> Tty:
    """A capable terminal, to redirect stderr to."""
    screen = Tty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(terminal, "_columns", lambda: 80)
    return screen


def test_every_control_character_but_newline_and_tab_is_taken_out() -> None:
    everything = "".join(map(chr, range(0x500)))
    left = printable(everything)
    gone = {ord(c) for c in everything} - {ord(c) for c in left}
    assert gone == {*range(0x20), 0x7F, *range(0x80, 0xA0)} - {0x0A, 0x09}
    assert printable("né 日本語 👩‍🚀 עברית") == "né 日本語 👩‍🚀 עברית"


def test_colours_are_for_terminals_that_want_them(tty: Tty, monkeypatch: pytest.MonkeyPatch) -> None:
    with redirect_stderr(tty):
        assert dim("x") == "\x1b[2mx\x1b[0m"
        monkeypatch.setenv("NO_COLOR", "1")
        assert dim("x") == "x"
        monkeypatch.delenv("NO_COLOR")
        monkeypatch.setenv("TERM", "dumb")
        assert dim("x") == "x"
    monkeypatch.setenv("TERM", "xterm")
    assert dim("x") == "x", "stderr is no terminal here"


def test_short_waits_show_nothing(tty: Tty) -> None:
    with redirect_stderr(tty), Waiting("Thinking"):
        pass
    assert tty.getvalue() == ""


def test_long_waits_show_that_something_moves_and_leave_a_clean_line(
    tty: Tty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "PATIENCE", 0.01)
    with redirect_stderr(tty), Waiting("Thinking") as wait:
        _until(lambda: "Thinking" in tty.getvalue())
        wait.say("Reading: 5 of 9 tokens")
        _until(lambda: "5 of 9" in tty.getvalue())
    assert tty.getvalue().endswith("\r\x1b[K")
    assert "\n" not in tty.getvalue()


def test_long_waits_in_a_log_are_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "PATIENCE", 0.0)
    with Waiting("Loading the model"):
        time.sleep(0.1)
    assert capsys.readouterr().err == "Loading the model ...\n"


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("typed", "default", "answer"),
    [("y\n", False, True), ("N\n", True, False), ("\n", True, True), ("\n", False, False),
     ("what\nYES\n", False, True), ("", True, False)],
)  # fmt: skip
def test_confirm(
    typed: str,
    default: bool,
    answer: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert confirm("Sure?", default) is answer
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith(f"Sure? {'[Y/n]' if default else '[y/N]'} ")


def test_download_progress_in_a_log_is_a_line_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with download_progress("x") as tell:
        for done in range(0, 1001):
            tell(done * 2_000_000, 2_000_000_000)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert (lines[0], lines[-1]) == ("x: 0.00 of 2.00 GB", "x: 2.00 of 2.00 GB")


def test_download_progress_on_a_terminal_is_a_bar(tty: Tty) -> None:
    with redirect_stderr(tty), download_progress("google/gemma-3-4b-it") as tell:
        tell(1_000_000_000, 3_000_000_000)
    assert "google/gemma-3-4b-it" in tty.getvalue() and "1.0/3.0 GB" in tty.getvalue()
