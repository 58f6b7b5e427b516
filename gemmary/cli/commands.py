"""What begins with / in the chat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PromptError
from .content import editable, pictures_in
from .dialogue import Dialogue
from .dropped import files
from .introducing import check_sight
from .terminal import confirm, note, printable

if TYPE_CHECKING:
    from .session import Session

Command = Callable[["Session", str], None]


def help_(session: Session, rest: str) -> None:
    """this list"""
    for name, command in COMMANDS.items():
        note(f"  {name:26} {command.__doc__}")
    note('  """                        begins and ends a message of many lines (or Alt-Enter for a new line)')
    note("  Ctrl-C                     stops an answer; Ctrl-D leaves; Ctrl-G opens your editor")


def image(session: Session, rest: str) -> None:
    """show pictures with the next message: /image a.png b.png; off takes them away"""
    check_sight(session.model)
    if rest.lower() == "off":
        session.waiting.clear()
    session.show(files(rest) if rest and rest.lower() != "off" else ())


def clear(session: Session, rest: str) -> None:
    """start over; the system prompt stays"""
    session.dialogue.clear()
    session.waiting.clear()
    note("Cleared.")


def retry(session: Session, rest: str) -> None:
    """ask the last question again, with a new seed"""
    if session.dialogue.question is None:
        raise PromptError("there is no question to ask again")
    session.dialogue.retract_answer()
    session.reseed()
    session.answer()


def undo(session: Session, rest: str) -> None:
    """take back the last question and its answer"""
    note("Taken back." if session.dialogue.undo() else "There is nothing to take back.")


def edit(session: Session, rest: str) -> None:
    """change the last question and ask it again"""
    before = session.dialogue.question
    if before is None:
        raise PromptError("there is no question to edit")
    text = session.read(editable(before))
    if text.strip():
        pieces = session.pieces(text, pictures_in(before))
        session.dialogue.undo()
        session.ask(pieces)


def system(session: Session, rest: str) -> None:
    """show the system prompt, or set it; off removes it"""
    if rest:
        session.dialogue.system = None if rest.lower() == "off" else rest
    note(printable(session.dialogue.system or "There is no system prompt."))


def set_(session: Session, rest: str) -> None:
    """show the sampling parameters, or set one: /set temperature 0.7"""
    name, _, value = rest.replace("=", " ", 1).partition(" ")
    if name and not value.strip():
        raise PromptError(f"say what {name} should be, as in: /set temperature 0.7")
    if name:
        session.settings = session.settings.changed(name, value.strip())
    for line in session.settings.lines():
        note(f"  {line}")


def save(session: Session, rest: str) -> None:
    """write the conversation to a file, as JSON"""
    path = _path(rest)
    if path.exists() and not confirm(f"{path} exists. Overwrite it?", default=False):
        return
    session.dialogue.save(path)
    note(f"Saved to {path}.")


def load(session: Session, rest: str) -> None:
    """go on with a saved conversation"""
    path = _path(rest)
    found = Dialogue()
    found.load(path)
    if found.pictures:
        check_sight(session.model)
    session.dialogue = found
    note(f"{len(found.turns)} messages from {path}.")


def bye(session: Session, rest: str) -> None:
    """leave"""
    raise EOFError


COMMANDS: dict[str, Command] = {
    "/help": help_,
    "/image": image,
    "/retry": retry,
    "/edit": edit,
    "/undo": undo,
    "/clear": clear,
    "/system": system,
    "/set": set_,
    "/save": save,
    "/load": load,
    "/bye": bye,
}
ALIASES = {"/?": "/help", "/exit": "/bye", "/quit": "/bye"}


def run(session: Session, line: str) -> None:
    """Do what a line that begins with / says; PromptError when it cannot be done."""
    name, _, rest = line.partition(" ")
    command = COMMANDS.get(ALIASES.get(name, name))
    if command is None:
        raise PromptError(f"{name} is not a command; /help lists them. A message may begin with a space")
    command(session, rest.strip())


def _path(rest: str) -> Path:
    if not rest:
        raise PromptError("name a file, as in: /save talk.json")
    return Path(rest.strip("'\"")).expanduser()
