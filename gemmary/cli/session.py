"""The chat in a terminal: read, answer, again."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, TextIO

from ..errors import ContextFullError, GemmaryError
from . import commands
from .dialogue import Dialogue, Message
from .keyboard import Read
from .settings import Settings
from .speaking import Spoken, meter, speak
from .terminal import confirm, dim, note, printable, silent_keys

if TYPE_CHECKING:
    from ..engine.model import Model

MANY = '"""'
ROOM = 0.25  # of the context is free again after the oldest turns were dropped
LEAVING = "Ctrl-D or /bye leaves; /help lists what else there is."


class Session:
    """One chat. `read` gives the user's lines, see keyboard.py; answers go to `out`."""

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

    def ask(self, text: str) -> None:
        """Ask, and show the answer."""
        self._once = None
        self.dialogue.ask(text)
        self.answer()

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
        elif line.startswith("/"):
            return commands.run(self, line.strip())
        if line.strip():
            self.ask(line.strip())

    def _many(self, text: str) -> str:
        """Lines until the closing quotes."""
        while MANY not in text:
            text += "\n" + self.read(more=True)
        return text.partition(MANY)[0]

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
        return len(self.model.prompt(messages).ids)
