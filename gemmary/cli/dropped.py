"""Paths of pictures in what was typed: terminals write them when a file is dragged or pasted.

They write them plain, in quotes, with backslashes in front of spaces, or as file:// URLs; file managers that
paste a path leave spaces as they are. A bare name without a folder stays text: people write about files too.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..errors import PromptError

LONGEST = 1024  # characters of a path
ENDS = 3  # places where a path may end that are tried: "a.png b.png" may be one name
# The formats that are read, and some that cameras and phones write, so that their names do not stay text.
SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "heic", "heif", "avif")
_START = re.compile(r"(?<!\S)(?=['\"]?(?:file://|~/|[^\s'\"/]*/))", re.IGNORECASE)
_END = re.compile(rf"\.(?:{'|'.join(SUFFIXES)})['\"]?(?=[\s,;:?!.)]|\Z)", re.IGNORECASE)
# A word of a shell, and what quotes in it: '...', "...", a backslash.
_WORD = re.compile(r"""(?:[^\s'"\\]|\\.|'[^']*'|"[^"\\]*")+""")
_QUOTING = re.compile(r"""'([^']*)'|"([^"\\]*)"|\\(.)""")


def split(text: str) -> list[str | Path]:
    """Text and paths of picture files that exist, in order; no empty texts."""
    found: list[str | Path] = []
    place = 0
    for start in _START.finditer(text):
        if start.start() >= place and (hit := _path_at(text, start.start())):
            path, end = hit
            found += [text[place : start.start()], path]
            place = end
    found.append(text[place:])
    return [part for part in found if isinstance(part, Path) or part.strip()]


def files(text: str) -> list[Path]:
    """All words of `text` as paths, whether they exist or not; PromptError when a quote is not closed."""
    if whole := next(filter(_is_file, _readings(text)), None):
        return [Path(whole)]
    try:
        return [Path(_local(word)) for word in shlex.split(text)]
    except ValueError:
        raise PromptError("a quote is not closed, as in: /image 'my photo.png'") from None


def _path_at(text: str, start: int) -> tuple[Path, int] | None:
    """The shortest path of an existing file that begins at `start`, and its end."""
    line = text[start : start + LONGEST].partition("\n")[0]
    for end in islice(_END.finditer(line), ENDS):
        for reading in _readings(line[: end.end()]):
            if "/" in reading and _is_file(reading):
                return Path(reading), start + end.end()
    return None


def _readings(raw: str) -> Iterator[str]:
    """What a terminal may have meant: one word of a shell, or the characters as they are."""
    if _WORD.fullmatch(raw):
        yield _local(_QUOTING.sub(lambda found: found[1] or found[2] or found[3] or "", raw))
    yield _local(raw)


def _local(word: str) -> str:
    """The path in a file:// URL, or one that may begin with the home folder's ~."""
    if word[:7].lower() == "file://":
        return unquote(urlsplit(word).path)
    return os.path.expanduser(word)


def _is_file(path: str) -> bool:
    return os.path.isfile(path)
