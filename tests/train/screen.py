"""What a terminal shows after the bytes that a program wrote: enough of a VT100 for lines drawn in place."""

from __future__ import annotations

import re

TOKEN = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])|(\r)|(\n)|([^\x00-\x1f\x7f])")


class Screen:
    """`columns` wide, as long as is written. Characters are one column wide."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.cursor = True
        self.lost = 0  # lines that were broken because they did not fit
        self._lines: list[list[str]] = [[]]
        self._row = self._column = 0

    def feed(self, text: str) -> Screen:
        """Show `text`."""
        for match in TOKEN.finditer(text):
            private, numbers, command, back, new, character = match.groups()
            if command:
                self._command(command, int(numbers.split(";")[0] or 0), bool(private))
            elif back:
                self._column = 0
            elif new:
                self._down()
            else:
                self._put(character)
        return self

    @property
    def text(self) -> list[str]:
        """Its lines without what is empty at their ends, and at its own."""
        lines = ["".join(line).rstrip() for line in self._lines]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def _put(self, character: str) -> None:
        if self._column == self.columns:
            self.lost += 1
            self._column = 0
            self._down()
        line = self._lines[self._row]
        line += " " * (self._column + 1 - len(line))
        line[self._column] = character
        self._column += 1

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self._lines):
            self._lines.append([])

    def _command(self, command: str, number: int, private: bool) -> None:
        if private:
            if number == 25:
                self.cursor = command == "h"
        elif command == "A":
            self._row = max(0, self._row - max(1, number))
        elif command == "K":
            self._lines[self._row] = [] if number == 2 else self._lines[self._row][: self._column]
        elif command != "m":
            raise ValueError(f"the screen does not know {command}")
