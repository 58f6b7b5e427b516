"""Prints docs/cli.md: the help page of `gemmary` and of each of its verbs, as a user sees them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUN = "import sys; sys.argv[0] = 'gemmary'; from gemmary.cli import main; main()"
# Plain pages, 100 wide, the same on every terminal.
PLAIN = {
    "TYPER_USE_RICH": "0",
    "COLUMNS": "100",
    "TERMINAL_WIDTH": "100",
    "NO_COLOR": "1",
    "LC_ALL": "C.UTF-8",
}


def page(*words: str) -> str:
    """What `gemmary <words> --help` prints."""
    command = [sys.executable, "-c", RUN, *words, "--help"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | PLAIN, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"gemmary {' '.join(words)} --help failed:\n{done.stderr}")
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def verbs(front: str) -> list[str]:
    """The verbs listed under "Commands" on the front page."""
    return re.findall(r"^  ([a-z][a-z-]*)\b", front.partition("Commands:")[2], re.MULTILINE)


def document() -> str:
    """The whole of docs/cli.md."""
    front = page()
    parts = [
        "# The command line",
        "Written by `make docs` from `--help`; do not edit.",
        f"```text\n{front}\n```",
    ]
    for verb in verbs(front):
        parts += [f"## gemmary {verb}", f"```text\n{page(verb)}\n```"]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
