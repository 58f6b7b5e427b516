"""The README names only commands that exist, files that exist, and numbers that docs/BENCH.md has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUN = "import sys; sys.argv[0] = 'gemmary'; from gemmary.cli import main; main()"
NUMBER = re.compile(r"(?<![\w.])(?<!Gemma )\d[\d,]*(?:\.\d+)?(?=x\b|×|[\s|%),;*]|$)")


def code_lines(text: str) -> list[str]:
    """The lines of the fenced code blocks, prompts and comments taken off."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [
        line.split(" #")[0].strip().removeprefix("$ ") for block in blocks for line in block.splitlines()
    ]
    return [line for line in lines if line]


def commands(text: str, program: str) -> list[list[str]]:
    """The words after `program` on each code line that runs it."""
    return [line.split()[1:] for line in code_lines(text) if line.split()[0] == program]


def table_numbers(text: str) -> set[str]:
    """Numbers that stand in Markdown tables; names (Q4_0, 4B, Gemma 3) left out."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return {number for row in rows for number in NUMBER.findall(row)}


@cache
def help_page(verb: str) -> str:
    """What `gemmary <verb> --help` prints; no such verb is a failure."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, verb, "--help"],
        cwd=ROOT, env=os.environ | {"TYPER_USE_RICH": "0", "NO_COLOR": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"gemmary {verb} --help: {done.stderr}"
    return done.stdout


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {words[0] for words in commands(README, "make") if words}
    assert "chat" in named, "the README's first command is gone"
    assert named - targets == set()


@pytest.mark.parametrize("words", commands(README, "gemmary"), ids=" ".join)
def test_verbs_and_flags_exist(words: list[str]) -> None:
    page = help_page(words[0])
    flags = [word.split("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)]
    assert [flag for flag in flags if not re.search(rf"(?<![\w-]){flag}(?![\w-])", page)] == []


def test_numbers_are_measured() -> None:
    bench = set(NUMBER.findall((ROOT / "docs/BENCH.md").read_text("utf-8")))
    assert table_numbers(README) - bench == set()


def test_links_lead_somewhere() -> None:
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_this_test_reads_tables_and_code() -> None:
    text = "```sh\n$ make chat PROMPT=1 # go\ngemmary show x --deep\n```\n"
    text += "| Q4_0 Gemma 3 4B | 46.5 tok/s | 1.7x, 90% |\n"
    assert table_numbers(text) == {"46.5", "1.7", "90"}
    assert commands(text, "make") == [["chat", "PROMPT=1"]]
    assert commands(text, "gemmary") == [["show", "x", "--deep"]]
