"""What a user sees besides answers: notes, waiting, progress, questions. All of it goes to stderr."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

PATIENCE = 1.0  # seconds that may pass without a sign of life
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"

# Escape, carriage return and all that moves a cursor or recolours a terminal; newline and tab stay.
_CONTROLS = dict.fromkeys([*range(0x20), 0x7F, *range(0x80, 0xA0)])
del _CONTROLS[0x0A], _CONTROLS[0x09]


def printable(text: str) -> str:
    """`text` without control characters: a model's answer must not command the terminal."""
    return text.translate(_CONTROLS)


def note(text: str) -> None:
    """A line for the user."""
    print(text, file=sys.stderr, flush=True)


def dim(text: str) -> str:
    """`text` in the background, where the terminal can show that."""
    return f"\x1b[2m{text}\x1b[0m" if _rich_terminal() and "NO_COLOR" not in os.environ else text


def interactive() -> bool:
    """Whether there is someone to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str, default: bool) -> bool:
    """Ask yes or no; an empty line means `default`, the end of input no."""
    choice = "[Y/n]" if default else "[y/N]"
    while True:
        print(f"{question} {choice} ", end="", file=sys.stderr, flush=True)
        line = ""
        try:
            line = sys.stdin.readline()
        finally:
            if not line:
                note("")
        if not line:
            return False
        word = line.strip().lower()
        if word in ("", "y", "yes", "n", "no"):
            return word.startswith("y") if word else default


class Waiting:
    """Says what the program is doing when that takes over a second; on a terminal it shows that it moves.

    Used in a `with`; `say` changes the text, `stop` takes it away. Where nothing can move it is one line.
    """

    _said: ClassVar[set[str]] = set()  # lines that are for once in the life of the program

    def __init__(self, text: str) -> None:
        self._text = text
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)

    def __enter__(self) -> Waiting:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def say(self, text: str, line: bool = False) -> None:
        """Another text from now on. `line`: where nothing can move it is worth a line of its own, once."""
        self._text = text
        if line and text not in self._said and not _rich_terminal() and not self._over.is_set():
            self._said.add(text)
            note(f"{text} ...")

    def stop(self) -> None:
        """Nothing more, and the line is free."""
        if not self._over.is_set():
            self._over.set()
            self._thread.join()

    def _show(self) -> None:
        if self._over.wait(PATIENCE):
            return
        if not _rich_terminal():
            if self._text not in self._said:
                note(f"{self._text} ...")
            return
        for step in _count(self._over):
            text = f"{FRAMES[step % len(FRAMES)]} {self._text}"[: _columns() - 1]
            print(f"\r\x1b[K{dim(text)}", end="", file=sys.stderr, flush=True)
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


@contextmanager
def download_progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for `call(done, total)` in bytes; a line each tenth where there is no terminal."""
    if not _rich_terminal():
        yield _tenths(title)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def silent_keys() -> Iterator[None]:
    """What is typed meanwhile does not show; Ctrl-C works."""
    if not sys.stdin.isatty():
        yield
        return
    import termios

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(descriptor, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _tenths(title: str) -> Callable[[int, int], None]:
    shown = -1

    def tell(done: int, total: int) -> None:
        nonlocal shown
        if total and (tenth := 10 * done // total) > shown:
            shown = tenth
            note(f"{title}: {done / 1e9:.2f} of {total / 1e9:.2f} GB")

    return tell


def _count(over: threading.Event) -> Iterator[int]:
    """0, 1, 2, ... ten times a second until `over`."""
    step = 0
    while not over.is_set():
        yield step
        step += 1
        over.wait(0.1)


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:
        return 80


def _rich_terminal() -> bool:
    """Whether stderr is a terminal that understands escape sequences."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
