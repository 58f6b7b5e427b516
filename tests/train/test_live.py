"""The live view fits its terminal, stays in place and leaves a clean one; files get plain lines."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from gemmary.train import history, live
from gemmary.train.about import About
from gemmary.train.live import LineView, LiveView, View, flow, sparks, view
from gemmary.train.meter import Meter
from tests.cli.terminals import Terminal
from tests.train.screen import Screen

RUN = str(Path(__file__).with_name("fake_run.py"))
H100 = About(flops=6e9, peak=989e12)


class Tty(io.StringIO):
    """A terminal that keeps what is written."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def tty(monkeypatch: pytest.MonkeyPatch) -> Tty:
    """A terminal that can do all; `use` makes it stderr (pytest sets its own after the fixtures)."""
    made = Tty()
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(live, "OFTEN", 0.0)
    return made


def use(tty: Tty, monkeypatch: pytest.MonkeyPatch) -> View:
    """The view of a run whose stderr is `tty`."""
    monkeypatch.setattr(sys, "stderr", tty)
    return view()


def watched(steps: int, columns: int, tty: Tty, monkeypatch: pytest.MonkeyPatch) -> Screen:
    """What stands on the screen after `steps` of 2,000 steps; the third was bad."""
    monkeypatch.setenv("COLUMNS", str(columns))
    shown, meter = use(tty, monkeypatch), Meter(2000, H100)
    assert isinstance(shown, LiveView)
    shown.open(meter)
    for step in range(1, steps + 1):
        loss = float("nan") if step == 3 else 2 + 8 / step
        record = {"step": step, "loss": loss, "norm": 0.5, "rate": 3e-3, "tokens": 4096}
        meter.add(record, now=step / 15)
        shown.show(meter)
        if step == 4:
            print("somebody's line", file=sys.stderr)
    shown.close()
    return Screen(columns).feed(tty.getvalue().replace("\n", "\r\n"))  # as the system's side of it does


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_the_picture_fits_and_stays_in_place(columns: int, tty: Tty, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = watched(120, columns, tty, monkeypatch)
    first, *picture = screen.text
    assert first == "somebody's line"
    assert screen.lost == 0
    assert [line for line in picture if line.startswith("step")] == [picture[0]]  # nothing of older ones
    for fact in ("loss 2.0", "61,440 tokens/s", "MFU 37.3 %", "rate 0.003", "1 skipped", "2 min left"):
        assert fact in " ".join(picture)
    assert picture[0].startswith("step 120/2,000") and ("━" in picture[0]) == (columns >= 40)


def test_before_the_first_step_it_says_so(tty: Tty, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "waiting for the first step" in watched(0, 60, tty, monkeypatch).text[1]


def test_the_cursor_is_never_hidden_while_it_runs(tty: Tty, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = use(tty, monkeypatch)
    shown.open(Meter(5, H100))
    assert Screen(80).feed(tty.getvalue()).cursor  # a kill from here on leaves it so
    shown.close()


def test_colours_are_for_those_who_want_them(tty: Tty, monkeypatch: pytest.MonkeyPatch) -> None:
    watched(5, 80, tty, monkeypatch)
    assert "\x1b[33m" in tty.getvalue()
    tty.truncate(0)
    monkeypatch.setenv("NO_COLOR", "1")
    screen = watched(5, 80, tty, monkeypatch)
    assert "\x1b[33m" not in tty.getvalue() and "─" in "".join(screen.text)


def test_a_terminal_of_another_time_gets_ascii(tty: Tty, monkeypatch: pytest.MonkeyPatch) -> None:
    tty.encoding = "ascii"
    screen = watched(1000, 60, tty, monkeypatch)
    assert "\n".join(screen.text).isascii() and "####---" in screen.text[1]


@pytest.mark.parametrize("term", ["dumb", None])
def test_dumb_terminals_and_files_get_lines(
    term: str | None, tty: Tty, monkeypatch: pytest.MonkeyPatch
) -> None:
    if term:
        monkeypatch.setenv("TERM", term)
    else:
        monkeypatch.setattr(Tty, "isatty", lambda self: False)
    clock = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: clock[0])
    shown, meter = use(tty, monkeypatch), Meter(100, H100)
    assert isinstance(shown, LineView)
    shown.open(meter)
    for step in range(1, 61):
        clock[0] = float(step)
        meter.add({"step": step, "loss": 2.0, "tokens": 4096}, now=clock[0])
        shown.show(meter)
    shown.close()
    lines = tty.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["1/100", "22/100", "43/100", "60/100"]
    assert "\x1b" not in tty.getvalue() and "\r" not in tty.getvalue()
    assert "loss 2.000" in lines[0] and "4,096 tokens/s" in lines[1] and "40 s left" in lines[-1]


def test_facts_are_not_broken() -> None:
    assert flow(["aaaa", "bb", "cccc", "dddddddddd"], 8) == ["aaaa  bb", "cccc", "dddddddddd"]


def test_sparks_follow_the_curve() -> None:
    assert sparks([8.0, 7, 6, 5, 4, 3, 2, 1], 8) == "█▇▆▅▄▃▂▁"
    assert sparks([1.0, 1, 8, 8], 2) == "▁█"
    assert sparks([2.0, 2.0, 2.0], 8) == "▁▁▁" and sparks([2.0], 8) == ""


def test_ctrl_c_twice_leaves_a_clean_terminal(tmp_path: Path) -> None:
    with Terminal(RUN, str(tmp_path / "run"), "9000", "60", home=tmp_path, columns=40) as terminal:
        terminal.expect("loss 10.000")
        terminal.type("\x03")
        terminal.expect("Once more stops at once.")
        terminal.type("\x03")
        assert terminal.ended() != 0
        screen = Screen(40).feed(terminal.text)
    assert screen.cursor
    assert sum(line.startswith("step 1/9,000") for line in screen.text) == 1, screen.text
    assert screen.text[-1] == "KeyboardInterrupt"
    assert history.read(tmp_path / "run")[-1].what == "was stopped at once, by Ctrl-C"
