"""TOML files as tables that know where they stand: a fault names file, line, key and what is allowed."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from ..errors import GemmaryError
from ..weights.fields import shown

Made = TypeVar("Made")
BYTES = 1 << 20  # of a file that somebody wrote by hand
_HEADER = re.compile(r"\s*(\[\[?)\s*([\w\s.\"'-]+?)\s*\]\]?\s*(?:#.*)?$")
_NUMBERED = re.compile(r"\[\d+\]")
_KEY = re.compile(r"\s*[\"']?([\w-]+)[\"']?\s*=")


class PlanError(GemmaryError, ValueError):
    """The plan cannot be followed; the message says which line of it and what to write instead."""


@dataclass(frozen=True)
class Table:
    """A table of a file. name: "" for the file itself, "train", "source[2]"; lines: of names and of keys."""

    path: Path
    values: dict[str, Any]
    lines: Mapping[str, int]
    name: str = ""

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def fault(self, key: str, text: str) -> PlanError:
        """The error for a key: where it stands, its name, and `text`."""
        name = self._full(key)
        line = self.lines.get(name) or self.lines.get(self.name)
        where = f"{self.path}, line {line}" if line else f"{self.path}"
        return PlanError(f"{where}: {_NUMBERED.sub('', name)} {text}")

    def table(self, key: str) -> Table:
        """The table under a key; an empty one where there is none."""
        found = self.values.get(key, {})
        if not isinstance(found, dict):
            raise self.fault(key, f"is a group of lines below [{key}], not {shown(found)}")
        return Table(self.path, found, self.lines, self._full(key))

    def tables(self, key: str) -> list[Table]:
        """The tables that are written as [[key]]."""
        found, name = self.values.get(key, []), self._full(key)
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise self.fault(key, f"is written as [[{name}]], with lines of name and paths")
        return [Table(self.path, entry, self.lines, f"{name}[{n}]") for n, entry in enumerate(found)]

    def only(self, known: Iterable[str]) -> None:
        """PlanError for a key that is not one of `known`."""
        names = list(known)
        for key in self.values:
            if key not in names:
                near = get_close_matches(key, names, 1)
                meant = f"did you mean {near[0]}? There are" if near else "there are"
                raise self.fault(key, f"is not known; {meant} {', '.join(names)}")

    def read(self, key: str, kind: str) -> Any:
        """The value of a key, of a kind as a dataclass writes it; None where there is none."""
        if key not in self.values:
            return None
        value, wanted = self.values[key], KINDS[kind]
        if not wanted.fits(value):
            raise self.fault(key, f"must be {wanted.words}, not {shown(value)}")
        return wanted.made(value)

    def settings(self, kind: type[Any], leave: Iterable[str] = ()) -> dict[str, Any]:
        """The values of the fields of the dataclass `kind` that are here, but those to `leave`."""
        kinds = settable(kind)
        return {key: self.read(key, kinds[key]) for key in self.values if key in kinds.keys() - set(leave)}

    def required(self, key: str) -> None:
        """PlanError where a key is missing."""
        if key not in self.values:
            raise self.fault(key, "is missing")

    def make(self, kind: Callable[..., Made], **values: Any) -> Made:
        """`kind` of values; what it says against them is said of this table."""
        try:
            return kind(**values)
        except ValueError as error:
            line = self.lines.get(self.name)
            where = f"{self.path}, line {line}" if line else f"{self.path}"
            raise PlanError(f"{where}: {error}") from error

    def _full(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key


def settable(kind: type[Any]) -> dict[str, str]:
    """Fields of a dataclass that a file can set, and their kinds."""
    return {f.name: str(f.type) for f in fields(kind) if f.init and str(f.type) in KINDS}


def read_toml(path: Path) -> Table:
    """The whole of a file. PlanError: it cannot be read, or is not TOML."""
    try:
        with path.open("rb") as file:
            content = file.read(BYTES + 1)
        if len(content) > BYTES:
            raise PlanError(f"{path}: has more than {BYTES >> 20} MiB: that is not a plan")
        text = content.decode()
        return Table(path, tomllib.loads(text), _lines(text))
    except OSError as error:
        raise PlanError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PlanError(f"{path}: is not TOML: it is no text in UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PlanError(f"{path}: is not TOML: {error}") from error


def _lines(text: str) -> dict[str, int]:
    """Where tables and keys begin, as far as a look at each line can tell."""
    found: dict[str, int] = {}
    counts: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = re.sub(r"[\s\"']", "", header[2])
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                found.setdefault(table, number)
                table += f"[{counts[table]}]"
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            found.setdefault(f"{table}.{key[1]}" if table else key[1], number)
    return found


# Kinds of values, by the annotation of the field that takes them


@dataclass(frozen=True)
class Kind:
    """What a value must be, in words; whether it is; and what it becomes."""

    words: str
    fits: Callable[[Any], bool]
    made: Callable[[Any], Any] = lambda value: value


def _text(value: object) -> bool:
    return isinstance(value, str)


def _whole(value: object) -> bool:
    return type(value) is int


def _number(value: object) -> bool:
    return type(value) in (int, float) and isfinite(value)  # type: ignore[arg-type]


def _list(fits: Callable[[Any], bool], length: int | None = None) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, list) and all(map(fits, value)) and (length is None or len(value) == length)
    )


_TEXT, _WHOLE = Kind("a text in quotes", _text), Kind("a whole number", _whole)
_NUMBER = Kind("a number", _number, float)
KINDS: Mapping[str, Kind] = {
    "str": _TEXT, "str | None": _TEXT, "int": _WHOLE, "int | None": _WHOLE,
    "float": _NUMBER, "float | None": _NUMBER,
    "bool": Kind("true or false", lambda value: isinstance(value, bool)),
    "int | str": Kind("a whole number or a text in quotes", lambda value: _whole(value) or _text(value)),
    "tuple[str, ...]": Kind('a list of texts, as in ["a.txt", "b.txt"]', _list(_text), tuple),
    "tuple[int, ...] | None": Kind("a list of whole numbers, as in [5, 11]", _list(_whole), tuple),
    "tuple[float, float]": Kind("two numbers, as in [0.9, 0.95]", _list(_number, 2), tuple),
}  # fmt: skip
