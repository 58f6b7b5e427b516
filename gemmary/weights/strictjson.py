"""JSON from untrusted files: one reading for every reader, or none.

Python's `json` keeps the last of two equal keys, takes NaN, and turns a 5,000-digit number into work. Here
these are errors, as they are for the other programs that read the same file.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from ..errors import ModelFileError
from .fields import shown
from .mapped import read_small

OPENERS = 1 << 18  # each `{` or `[` becomes an object of 64 bytes: bounded before they are made


class _Fault(Exception):
    """What is wrong, raised from within json's hooks."""


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise _Fault(f"has the key {shown(twice)} twice")
    return result


def _integer(digits: str) -> int:
    if len(digits) > 19 or digits == "-0":
        raise _Fault(f"holds the number {shown(digits)}, which is not a proper whole number")
    return int(digits)


def _constant(name: str) -> float:
    raise _Fault(f"holds {name}, which is not JSON")


def parse_object(data: bytes, path: Path) -> dict[str, object]:
    """The JSON object in `data` (UTF-8); ModelFileError naming `path` when it is anything else.

    Values are str, int, float, bool, None, list and dict. No text in it has a lone surrogate.
    """
    if data.count(b"{") + data.count(b"[") > OPENERS:
        raise ModelFileError(path, "holds more lists and groups than a model needs")
    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_object, parse_int=_integer, parse_constant=_constant)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # a lone surrogate cannot be encoded
    except _Fault as fault:
        raise ModelFileError(path, str(fault)) from None
    except UnicodeError:
        raise ModelFileError(path, "is not UTF-8 text") from None
    except RecursionError:
        raise ModelFileError(path, "is nested too deeply") from None
    except ValueError as error:
        raise ModelFileError(path, f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ModelFileError(path, "is not a JSON object")
    return value


def read_object(path: Path, limit: int) -> dict[str, object]:
    """The JSON object in a file of at most `limit` bytes."""
    return parse_object(read_small(path, limit), path)
