"""The line where the user types: history, completion, many lines, an editor."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output

from .commands import COMMANDS
from .dropped import SUFFIXES
from .settings import Settings
from .terminal import note, printable

PROMPT, MORE = ">>> ", "... "


class Read(Protocol):
    """Reads a line: KeyboardInterrupt for Ctrl-C, EOFError for the end."""

    def __call__(self, default: str = "", more: bool = False) -> str:
        """`default` is there to be changed; `more`: the line goes on a message."""


def reader() -> Read:
    """The line at the terminal."""
    return plain if os.environ.get("TERM", "dumb") == "dumb" else editor()


def plain(default: str = "", more: bool = False) -> str:
    """A line where a terminal can do nothing but print; what stood there before is shown above it."""
    if default:
        note(printable(default))
    print(MORE if more else PROMPT, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")


def editor() -> Read:
    """A line with history, completion and an editor."""
    session: PromptSession[str] = PromptSession(
        history=history(),
        completer=Slash(),
        complete_while_typing=False,
        key_bindings=keys(),
        output=create_output(stdout=sys.stderr),
        prompt_continuation=MORE,
    )

    def read(default: str = "", more: bool = False) -> str:
        while True:
            try:
                return session.prompt(MORE if more else PROMPT, default=default)
            except KeyboardInterrupt:
                if default or more or not session.default_buffer.text:
                    raise  # else what was typed is gone, and that is all that was wanted

    return read


def history() -> History:
    """Messages of earlier chats, in a file that only the user can read."""
    root = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(root) / "gemmary" / "history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        with path.open("a"):
            return FileHistory(str(path))
    except OSError:
        return InMemoryHistory()


def keys() -> KeyBindings:
    """Alt-Enter begins a new line, Ctrl-G opens $EDITOR."""
    bindings = KeyBindings()

    @bindings.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("c-g")
    def _(event: KeyPressEvent) -> None:
        with suppress(OSError):
            event.current_buffer.open_in_editor()

    return bindings


class Slash(Completer):
    """Tab after / completes commands, names of settings, and files."""

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What could stand where the cursor is."""
        line = document.text_before_cursor
        command, space, rest = line.partition(" ")
        if not space:
            yield from _beginning(COMMANDS, line)
        elif command == "/set":
            yield from _beginning((field.name for field in fields(Settings)), rest)
        elif command in ("/save", "/load"):
            yield from PathCompleter(expanduser=True).get_completions(Document(rest), complete_event)
        elif command == "/image":
            yield from _pictures(rest, complete_event)


def _pictures(rest: str, event: CompleteEvent) -> Iterable[Completion]:
    """Files of pictures that the last of several words could become, spaces in their names escaped."""
    quoted = re.search(r"(?:^|\s)(['\"])([^'\"]*)$", rest)
    typed = quoted[2] if quoted else re.sub(r"\\(.)", r"\1", re.findall(r"(?:\\.|\S)*\\?$", rest)[0])
    files = PathCompleter(expanduser=True, file_filter=_is_picture)
    for found in files.get_completions(Document(typed), event):
        text = found.text if quoted else re.sub(r"([\s'\"\\])", r"\\\1", found.text)
        yield Completion(text, found.start_position, found.display)


def _is_picture(path: str) -> bool:
    return os.path.isdir(path) or path.lower().endswith(tuple(f".{suffix}" for suffix in SUFFIXES))


def _beginning(names: Iterable[str], typed: str) -> Iterable[Completion]:
    if typed:
        yield from (Completion(name, -len(typed)) for name in names if name.startswith(typed))
