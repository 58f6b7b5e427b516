"""A data folder of our own: a few made-up pages in four languages, and two short books."""

from __future__ import annotations

import json
from pathlib import Path

PAGE = """# {tool}

> {summary}.
> More information: <https://example.com/{tool}>.

- [l]ist all {thing} in a directory:

`{tool} {{{{[-l|--list]}}}} {{{{path/to/directory}}}}`

- Remove {thing} (use with care):

`{tool} -r {{{{path/to/file1 path/to/file2 ...}}}}`

- Print the {thing} of a file [v]erbosely:

`{tool} -v {{{{path/to/file}}}}`
"""
KNOWN = {"grep": "matches", "tar": "archives", "frobber": "frobs", "zigzag": "zigs", "mopper": "mops"}
OBSCURE = {"quux": "quuxes", "blip": "blips", "snarf": "snarfs"}


def page(tool: str, thing: str) -> str:
    """Markdown of a page."""
    return PAGE.format(tool=tool, thing=thing, summary=f"Work with {thing}")


def write(folder: Path) -> Path:
    """The folder, filled. Pages of KNOWN are translated into three languages."""
    (folder / "multilingual").mkdir(parents=True)
    (folder / "books").mkdir()
    for language in ("en", "de", "fr", "it"):
        tools = {**KNOWN, **OBSCURE} if language == "en" else KNOWN
        records = [{"id": f"common/{tool}", "text": page(tool, thing)} for tool, thing in tools.items()]
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / "multilingual" / f"tldr.{language}.jsonl").write_text(lines, encoding="utf-8")
    for name in (
        "a-tale.txt",
        "h-g-wells_the-time-machine.txt",
        "kenneth-grahame_the-wind-in-the-willows.txt",
    ):
        text = f"Once there was a {name}. " + "It went on and on, over the hills and far away.\n" * 40
        (folder / "books" / name).write_text(text, encoding="utf-8")
    return folder
