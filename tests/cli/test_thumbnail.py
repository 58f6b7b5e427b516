"""Pictures as escape sequences, read back by small readers of the protocols."""

from __future__ import annotations

import base64
import io
import re
import sys

import numpy as np
import pytest
from PIL import Image

from gemmary.cli import thumbnail
from gemmary.cli.sixel import sixel

XTERM = {"TERM": "xterm-256color"}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, None),
        (XTERM, None),
        ({"TERM": "xterm-kitty"}, "kitty"),
        (XTERM | {"KITTY_WINDOW_ID": "1"}, "kitty"),
        (XTERM | {"KITTY_WINDOW_ID": "1", "TERM_PROGRAM": "Apple_Terminal"}, None),
        ({"TERM": "alacritty", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        (XTERM | {"TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        (XTERM | {"LC_TERMINAL": "iTerm2"}, "iterm2"),
        (XTERM | {"TERM_PROGRAM": "WezTerm"}, "iterm2"),
        (XTERM | {"TERM_PROGRAM": "vscode"}, None),
        (XTERM | {"KONSOLE_VERSION": "230805"}, "iterm2"),
        (XTERM | {"KONSOLE_VERSION": "200401"}, None),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/x"}, None),
        ({"TERM": "screen", "LC_TERMINAL": "iTerm2"}, None),
        (XTERM | {"GEMMARY_PICTURES": "sixel"}, "sixel"),
        ({"TERM": "xterm-kitty", "GEMMARY_PICTURES": "none"}, None),
        ({"TERM": "dumb", "TERM_PROGRAM": "iTerm.app"}, None),
    ],
)  # fmt: skip
def test_the_protocol_is_told_by_the_environment(env: dict[str, str], expected: str | None) -> None:
    assert thumbnail.protocol(env) == expected


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def test_kitty_gets_the_picture_in_chunks_and_must_not_answer() -> None:
    picture = noise(300, 200)
    sequences = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", thumbnail.kitty(picture, 8))
    assert len(sequences) > 3 and "".join(f"\x1b_G{k};{d}\x1b\\" for k, d in sequences) == thumbnail.kitty(
        picture, 8
    )
    keys = [dict(pair.split("=") for pair in head.split(",")) for head, _ in sequences]
    assert keys[0] == {"a": "T", "f": "100", "q": "2", "r": "8", "m": "1"}
    assert [key["m"] for key in keys] == ["1"] * (len(keys) - 1) + ["0"]
    assert all(len(data) <= 4096 for _, data in sequences)
    data = base64.b64decode("".join(data for _, data in sequences))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(picture))


def test_iterm_gets_a_small_png() -> None:
    found = re.fullmatch(
        r"\x1b\]1337;File=inline=1;size=(\d+);.*height=5;[^:]*:(.*)\x07",
        thumbnail.iterm(noise(3000, 2000), 5),
    )
    assert found is not None
    data = base64.b64decode(found[2])
    assert len(data) == int(found[1])
    assert Image.open(io.BytesIO(data)).size == (300, 200)


def pixels_of(text: str) -> np.ndarray:
    """A reader of sixels: RGB [h, w, 3] in percent."""
    found = re.fullmatch(r'\x1bP0;1q"1;1;(\d+);(\d+)(.*)\x1b\\', text, re.DOTALL)
    assert found is not None
    width, height = int(found[1]), int(found[2])
    seen = np.full((height, width, 3), -1)
    colours: dict[int, list[int]] = {}
    x = y = colour = 0
    for define, rgb, choose, count, char, move in re.findall(
        r"#(\d+);2;(\d+;\d+;\d+)|#(\d+)|(?:!(\d+))?([?-~])|([$-])", found[3]
    ):
        if define:
            colours[int(define)] = [int(part) for part in rgb.split(";")]
        elif choose:
            colour = int(choose)
        elif char:
            for _ in range(int(count or 1)):
                for bit in range(6):
                    if (ord(char) - 63) >> bit & 1:
                        seen[y + bit, x] = colours[colour]
                x += 1
        else:
            x, y = 0, y + (6 if move == "-" else 0)
    return seen


def test_sixels_are_the_picture() -> None:
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]], np.uint8)
    picture = colours[np.random.default_rng(1).integers(0, 5, (20, 33))]
    picture[3:9, 4:30] = (255, 0, 0)
    np.testing.assert_array_equal(
        pixels_of(sixel(Image.fromarray(picture))), picture.astype(int) * 100 // 255
    )


def test_only_terminals_are_shown_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("GEMMARY_PICTURES", "kitty")
    monkeypatch.setattr(sys, "stderr", Tty())
    assert not thumbnail.show(noise(9, 9))
    monkeypatch.setattr(sys, "stdout", Tty())
    assert thumbnail.show(noise(400, 10))
    assert "r=1," in sys.stderr.getvalue() and sys.stderr.getvalue().endswith("\x1b\\\n")  # type: ignore[attr-defined]
    assert sys.stdout.getvalue() == ""  # type: ignore[attr-defined]
    monkeypatch.setenv("GEMMARY_PICTURES", "none")
    assert not thumbnail.show(noise(9, 9))
