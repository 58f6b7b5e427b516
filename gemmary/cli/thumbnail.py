"""Small pictures in terminals that can show them: kitty's protocol, iTerm2's, sixel.

Which one is told by environment variables alone. A terminal that is asked may answer with garbage, and one
that is not known gets nothing. GEMMARY_PICTURES names a protocol, or "none", where the guess is wrong.
"""

from __future__ import annotations

import io
import os
import struct
import sys
from base64 import b64encode
from collections.abc import Callable, Mapping

from PIL import Image

from .sixel import sixel

ROWS, COLUMNS = 8, 40  # of text, at most
WIDEST = 80  # columns, whatever is asked for
SHAPE = 0.5  # width of a character by its height, about
SHARP = 40  # pixels a row: more than any screen has
CELL = 18  # pixels a row, where the terminal does not say
CHUNK = 4096  # characters of base64 that kitty takes at once

KITTY, ITERM, SIXEL = "kitty", "iterm2", "sixel"
TERMS = {"xterm-kitty": KITTY, "xterm-ghostty": KITTY, "foot": SIXEL, "foot-extra": SIXEL, "mlterm": SIXEL}
PROGRAMS = {
    "iTerm.app": ITERM, "iTerm2": ITERM, "WezTerm": ITERM, "WarpTerminal": ITERM, "mintty": ITERM,
    "ghostty": KITTY,
}  # fmt: skip


def protocol(env: Mapping[str, str]) -> str | None:
    """The protocol of the terminal that an environment describes; None: it shows text only."""
    if "GEMMARY_PICTURES" in env:
        wanted = env["GEMMARY_PICTURES"].lower()
        return wanted if wanted in (KITTY, ITERM, SIXEL) else None
    term = env.get("TERM", "dumb")
    if "TMUX" in env or "STY" in env or term.startswith(("tmux", "screen", "dumb", "linux")):
        return None  # multiplexers hand on the variables, not the pictures
    if term in TERMS:
        return TERMS[term]
    if program := env.get("TERM_PROGRAM") or env.get("LC_TERMINAL"):
        return PROGRAMS.get(program)
    if "KITTY_WINDOW_ID" in env and term.startswith("xterm"):
        return KITTY
    return ITERM if env.get("KONSOLE_VERSION", "0") >= "220400" else None


def show(image: Image.Image, rows: int = ROWS, columns: int = COLUMNS) -> bool:
    """Show a picture on stderr; whether that was possible. Never when stdout is no terminal."""
    known = protocol(os.environ) if sys.stdout.isatty() and sys.stderr.isatty() else None
    if known is None:
        return False
    fitting = max(1, min(rows, round(columns * SHAPE * image.height / image.width)))
    sys.stderr.write(WRITERS[known](image, fitting) + "\n")
    sys.stderr.flush()
    return True


def kitty(image: Image.Image, rows: int) -> str:
    """Escape sequences of kitty's graphics protocol. q=2: it must not answer."""
    data = b64encode(_png(image, rows)).decode("ascii")
    chunks = [data[place : place + CHUNK] for place in range(0, len(data), CHUNK)]
    heads = [f"a=T,f=100,q=2,r={rows},", *[""] * (len(chunks) - 1)]
    more = [1] * (len(chunks) - 1) + [0]
    return "".join(
        f"\x1b_G{head}m={flag};{chunk}\x1b\\" for head, flag, chunk in zip(heads, more, chunks, strict=True)
    )


def iterm(image: Image.Image, rows: int) -> str:
    """The escape sequence of iTerm2's inline images."""
    data = _png(image, rows)
    size = f"size={len(data)};width=auto;height={rows};preserveAspectRatio=1"
    return f"\x1b]1337;File=inline=1;{size}:{b64encode(data).decode('ascii')}\x07"


def _sixel(image: Image.Image, rows: int) -> str:
    return sixel(_within(image, rows, _cell()))


WRITERS: dict[str, Callable[[Image.Image, int], str]] = {KITTY: kitty, ITERM: iterm, SIXEL: _sixel}


def _png(image: Image.Image, rows: int) -> bytes:
    file = io.BytesIO()
    _within(image, rows, SHARP).save(file, "PNG")
    return file.getvalue()


def _within(image: Image.Image, rows: int, row: int) -> Image.Image:
    """At most `rows` of `row` pixels high, and no wider than WIDEST; never larger than it was."""
    small = image.copy()
    small.thumbnail((int(WIDEST * row * SHAPE), rows * row))
    return small


def _cell() -> int:
    """Pixels of a row of text."""
    try:
        import termios
        from fcntl import ioctl

        rows, _, _, height = struct.unpack("4H", ioctl(sys.stderr, termios.TIOCGWINSZ, bytes(8)))
    except (ImportError, OSError, ValueError):
        return CELL
    return height // rows if rows and height // rows > 4 else CELL
