"""Calls of functions in an answer that is still being made.

An answer that begins as {"name": "f", "parameters": { is a call from there on, and its arguments are handed
on as they grow. The other styles that Gemma is known for (Python calls, calls in fences; inputs/tools.py) are
understood when they are complete. Text that may still become a call is kept back until that is known.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass

from ..engine.reply import Piece
from ..inputs.tools import MAX_CALLS_TEXT, parse_tool_calls

HEAD = re.compile(
    r'[\s,;\[\]}]*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:parameters|arguments)"\s*:\s*(?=\{)'
)
REST = re.compile(r"[\s,;\]}`]*")  # what may stand behind the last call
FENCE = re.compile(r"```([a-zA-Z_]*)\s")
CALL_FENCES = ("", "json", "tool_code", "tool_call", "tool_calls")
SIGNS = re.compile(r'["\\{}]')


@dataclass(frozen=True)
class CallPart:
    """Of call number `index`: id and name when it begins, later more of its arguments, JSON as text."""

    index: int
    arguments: str
    id: str = ""
    name: str = ""


Part = str | CallPart


class Arguments:
    """Follows a JSON object to its end."""

    def __init__(self) -> None:
        self.open = True
        self._depth = 0
        self._quoted = self._escaped = False

    def take(self, text: str) -> int:
        """How much of `text` belongs to it."""
        position = 0
        while self.open and position < len(text):
            position = self._step(text, position)
        return position

    def _step(self, text: str, position: int) -> int:
        if self._escaped:
            self._escaped = False
            return position + 1
        sign = SIGNS.search(text, position)
        if sign is None:
            return len(text)
        self._sign(sign[0])
        return sign.end()

    def _sign(self, sign: str) -> None:
        if sign == "\\":
            self._escaped = self._quoted
        elif sign == '"':
            self._quoted = not self._quoted
        elif not self._quoted:
            self._depth += 1 if sign == "{" else -1
            self.open = self._depth > 0


class CallReader:
    """Text of an answer -> text to show, and calls of the functions `names`."""

    def __init__(self, names: Collection[str], several: bool = True, forced: bool = False) -> None:
        """`several`: more than one call counts. `forced`: the answer is calls and nothing else."""
        self._names, self._several, self._forced = names, several, forced
        self._held = ""  # not shown and not understood yet
        self._begun = False  # text was shown: what begins now is no call without a fence
        self._fence = False  # inside a fence that holds no calls
        self._arguments: Arguments | None = None
        self._calls = 0

    @property
    def called(self) -> bool:
        """Whether a function was called."""
        return self._calls > 0

    def push(self, text: str) -> list[Part]:
        """What the next stretch of the answer makes certain."""
        self._held += text
        parts: list[Part] = []
        while step := self._arguing() if self._arguments else self._beginning() or self._reading():
            parts += step
        return parts

    def finish(self) -> list[Part]:
        """What is left when the answer is over."""
        held, self._held = self._held, ""
        if self._arguments is not None or self._forced:
            return []
        if self.called:
            return [] if REST.fullmatch(held) else [held]
        return self._whole(held) or ([held] if held else [])

    def _arguing(self) -> list[Part]:
        """More of the arguments of the call that is open."""
        if self._arguments is None:
            return []
        count = self._arguments.take(self._held)
        taken, self._held = self._held[:count], self._held[count:]
        index = self._calls - 1
        if not self._arguments.open:
            self._arguments = None
        return [CallPart(index, taken)] if taken and (self._several or not index) else []

    def _beginning(self) -> list[Part]:
        """A call that begins here."""
        found = None if self._begun else HEAD.match(self._held)
        if not found or (name := _name(found[1])) is None or not (self._forced or name in self._names):
            return []
        self._held = self._held[found.end() :]
        self._arguments = Arguments()
        return self._call(name, "")

    def _reading(self) -> list[Part]:
        """Text that can be shown, or calls in a fence that is complete."""
        if self._forced or self.called or (not self._begun and self._may_call()):
            return []
        self._begun = True
        at = self._held.find("```")
        if at < 0:
            return self._show(len(self._held.rstrip("`")))
        if at > 0:
            return self._show(at)
        return self._fenced()

    def _fenced(self) -> list[Part]:
        """The text begins with a fence: shown, unless calls are in it."""
        head = FENCE.match(self._held)
        if not self._fence and head and head[1] in CALL_FENCES:
            end = self._held.find("```", head.end())
            if end < 0:
                return [] if len(self._held) <= MAX_CALLS_TEXT else self._show(len(self._held))
            calls = self._whole(self._held[: end + 3])
            self._held, shown = self._held[end + 3 :], self._held[: end + 3]
            return calls or [shown]
        if not self._fence and not head and re.fullmatch("```[a-zA-Z_]*", self._held):
            return []  # its name may go on
        self._fence = not self._fence
        return self._show(3)

    def _may_call(self) -> bool:
        """Whether the answer, nothing of which was shown, may be calls."""
        start = self._held.lstrip()
        if not start or (start[0] in "{[" and len(start) <= MAX_CALLS_TEXT):
            return True
        written = (f"{name}(" for name in (*self._names, "print"))
        return any(start.startswith(call) or call.startswith(start) for call in written)

    def _whole(self, text: str) -> list[Part]:
        """The calls that a complete text is."""
        calls = parse_tool_calls(text)
        if any(call.name not in self._names for call in calls):
            return []
        parts: list[Part] = []
        for call in calls if self._several else calls[:1]:
            parts += self._call(call.name, json.dumps(call.arguments, ensure_ascii=False))
        return parts

    def _call(self, name: str, arguments: str) -> list[Part]:
        index, self._calls = self._calls, self._calls + 1
        if index and not self._several:
            return []
        return [CallPart(index, arguments, f"call_{secrets.token_hex(12)}", name)]

    def _show(self, count: int) -> list[Part]:
        shown, self._held = self._held[:count], self._held[count:]
        return [shown] if shown else []


def parts(reader: CallReader | None, piece: Piece) -> list[Part]:
    """What a piece of an answer makes certain; without a reader, all of it is text."""
    if reader is None:
        return [piece.text] if piece.text else []
    return [*reader.push(piece.text), *(reader.finish() if piece.finish_reason is not None else ())]


def _name(quoted: str) -> str | None:
    try:
        return str(json.loads(quoted))
    except ValueError:
        return None
