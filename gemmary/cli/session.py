"""The chat in a terminal: read, answer, again."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ..errors import ContextFullError, GemmaryError
from . import commands, dropped
from .attachment import Attachment, attach
from .content import Piece, arranged, edited, pictures_in
from .dialogue import Dialogue, Message
from .introducing import check_sight, introduce
from .keyboard import Read
from .settings import Settings
from .speaking import Spoken, meter, speak
from .terminal import confirm, dim, note, printable, silent_keys

if TYPE_CHECKING:
    from ..engine.model import Model

MANY = '"""'
ROOM = 0.25  # of the context is free again after the oldest turns were dropped
NONE_WAITS = "No picture waits. /image FILE adds one to your next message; or drag a file here."
BLIND = "This model reads text only: the path stays text."
LEAVING = "Ctrl-D or /bye leaves; /help lists what else there is."


class Session:
    """One chat. `read` gives the user's lines, see keyboard.py; answers go to `out`.

    waiting: pictures that the next message will show.
    """

    def __init__(
        self,
        model: Model,
        dialogue: Dialogue,
        settings: Settings,
        read: Read,
        out: TextIO,
    ) -> None:
        self.model = model
        self.dialogue = dialogue
        self.settings = settings
        self.read = read
        self.waiting: list[Attachment] = []
        self._out = out
        self._once: int | None = None

    def run(self) -> None:
        """Until the user leaves."""
        while True:
            try:
                self._turn()
            except KeyboardInterrupt:
                note(dim(LEAVING))
            except EOFError:
                return
            except GemmaryError as fault:
                note(printable(str(fault)))

    def pieces(self, text: str, before: Iterable[Attachment] = ()) -> list[Piece]:
        """What a typed text says. Paths of picture files in it become pictures, and so do names in brackets
        of the pictures `before`. ImageError.
        """
        return [piece for part in edited(text, before) for piece in self._seen(part)]

    def ask(self, pieces: list[Piece]) -> None:
        """Ask, and show the answer. Pictures without a question wait for one."""
        if not any(isinstance(piece, str) for piece in pieces):
            return self.wait(pictures_in(pieces))
        if not self.waiting and not pictures_in(pieces):
            pieces = [*self._carried(), *pieces]
        self._once = None
        self.dialogue.ask(arranged([*self.waiting, *pieces]))
        self.waiting = []
        self.answer()

    def show(self, paths: Iterable[Path]) -> None:
        """Put the pictures in files in front of the next message; ImageError, and none of them waits."""
        check_sight(self.model)
        self.wait([self._introduced(path) for path in paths])

    def wait(self, pictures: Iterable[Attachment]) -> None:
        """Let pictures wait for the next message, and say which do."""
        self.waiting += pictures
        names = ", ".join(picture.name for picture in self.waiting)
        note(dim(f"In front of your next message: {names}" if names else NONE_WAITS))

    def reseed(self) -> None:
        """The next answer has another seed than the one that is set."""
        self._once = secrets.randbits(63)

    def answer(self) -> None:
        """Answer the last question. When the context is full, offer to drop the oldest turns and go on."""
        while self._speak():
            pass

    def _turn(self) -> None:
        line = self.read()
        if line.lstrip().startswith(MANY):
            line = self._many(line.lstrip()[len(MANY) :])
        elif line.startswith("/") and not isinstance(dropped.split(line)[0], Path):
            return commands.run(self, line.strip())
        if line.strip():
            self.ask(self.pieces(line.strip()))

    def _many(self, text: str) -> str:
        """Lines until the closing quotes."""
        while MANY not in text:
            text += "\n" + self.read(more=True)
        return text.partition(MANY)[0]

    def _seen(self, piece: Piece) -> list[Piece]:
        """A piece of a message with the pictures in place of their paths."""
        parts: list[str | Path] = dropped.split(piece) if isinstance(piece, str) else []
        if not any(isinstance(part, Path) for part in parts):
            return [piece]
        if self.model.config.vision is None:
            note(dim(BLIND))
            return [piece]
        return [self._introduced(part) if isinstance(part, Path) else part for part in parts]

    def _introduced(self, path: Path) -> Attachment:
        picture = attach(path)
        introduce(self.model, picture, self.settings.crops)
        return picture

    def _carried(self) -> list[Attachment]:
        """Pictures of a question that was stopped before the first word: the next one is about them too."""
        found = pictures_in(self.dialogue.unanswered or "")
        if found:
            note(dim(f"Still about {', '.join(picture.name for picture in found)}"))
        return found

    def _speak(self) -> bool:
        """One answer, or its continuation; whether there is more to say."""
        settings = replace(self.settings, seed=self._once) if self._once is not None else self.settings
        try:
            with silent_keys():
                spoken = speak(self.model, self.dialogue.messages, settings, self._out)
        except ContextFullError:
            return self._make_room("The conversation is too long for the context.")
        self._finish(spoken)
        if spoken.last is not None and spoken.last.finish_reason == "context_full":
            return self._make_room("The context is full.")
        return False

    def _finish(self, spoken: Spoken) -> None:
        self.dialogue.answer(spoken.text)
        self._out.write("\n" if spoken.text else "")
        self._out.flush()
        if spoken.last is None:
            note(dim("Stopped."))
        else:
            note(dim(meter(spoken.last, self.model.context)))

    def _make_room(self, why: str) -> bool:
        """Offer to forget the oldest turns; whether there is room now."""
        shorter = Dialogue(self.dialogue.system)
        shorter.turns = list(self.dialogue.turns)
        dropped = shorter.drop_oldest(self._fits)
        if not dropped or self._tokens(shorter.messages) >= self.model.context:
            note(f"{why} There is nothing older to drop: shorten the message, or /clear.")
            return False
        if not confirm(f"{why} Drop the {dropped} oldest messages and go on?", default=True):
            return False
        self.dialogue.turns = shorter.turns
        return True

    def _fits(self, messages: list[Message]) -> bool:
        return self._tokens(messages) <= self.model.context * (1 - ROOM)

    def _tokens(self, messages: list[Message]) -> int:
        return len(self.model.prompt(messages, pan_and_scan=self.settings.crops).ids)
