"""Every instruction set that this machine can be made to use gives the saved bits, and stays in itself."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gemmary.errors import UnsupportedModelError
from gemmary.ops.numba.instructions import choose, features

from .test_logits import saved

ROOT = Path(__file__).parents[2]
CASES = ("Q4_0", "Q6_K", "F16", "Q4_0, pages I8")  # sums by 32 and by 16, offsets in the integers, floats
LONG = ("generic", "avx2", "avx-vnni", "avx512-vnni", "neon-dotprod")
PATHS = [pytest.param(name, CASES, marks=pytest.mark.long) for name in LONG]
# Prints the path that was taken, what is saved of each format's logits, and all machine code that was made.
CHILD = """
import json, pathlib, sys, tempfile
from gemmary.formats.codecache import CodeCache
code, right = [], CodeCache.save_overload
def kept(cache, signature, result):
    code.append(result.library.get_asm_str())
    right(cache, signature, result)
CodeCache.save_overload = kept
from gemmary.ops.numba.machine import path
from tests.golden.model import logits
from tests.golden.test_logits import record
found = {}
for name in sys.argv[1].split("|"):
    with tempfile.TemporaryDirectory() as folder:
        found[name] = record(logits(name, pathlib.Path(folder)))
print(json.dumps({"path": path(), "found": found, "code": "".join(code)}))
"""


def forced(path: str, cases: tuple[str, ...], **more: str) -> dict:
    environment = {**os.environ, "GEMMARY_CPU": path, **more}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, "|".join(cases)], cwd=ROOT, env=environment, text=True,
        capture_output=True, timeout=115,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def here(path: str) -> str:
    """The path, or a skipped test where this machine has not got it."""
    try:
        choose(path, features())
    except UnsupportedModelError as fault:
        pytest.skip(str(fault))
    return path


@pytest.mark.parametrize(("path", "cases"), PATHS)
def test_the_bits_are_the_saved_ones(path: str, cases: tuple[str, ...]) -> None:
    answer = forced(here(path), cases)
    assert answer["path"] == path
    for name in cases:
        assert answer["found"][name]["sha256"] == saved()[name]["sha256"], name


BEYOND = {
    "generic": r"[%]?[yz]mm\d|^\s+v[a-z]",  # everything since AVX begins with a v, fused multiply-adds too
    "avx2": r"[%]?zmm\d|[%]?[xy]mm(1[6-9]|2\d|3[01])|%k[0-7]|^\s+vpdpb",
}
USED = {"generic": r"^\s+pmaddwd", "avx2": r"^\s+vpmaddubsw.*ymm"}


@pytest.mark.long
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="looks for x86 instructions")
@pytest.mark.parametrize("path", BEYOND)
def test_no_instruction_beyond_the_path(path: str, tmp_path: Path) -> None:
    """An empty cache, so that everything is compiled before our eyes."""
    code = forced(here(path), ("Q8_0", "BF16", "Q4_0, pages I8"), XDG_CACHE_HOME=str(tmp_path))["code"]
    assert len(code.splitlines()) > 10_000
    beyond = re.findall(f"^.*(?:{BEYOND[path]}).*$", code, re.M)
    assert beyond == [], sorted({line.split()[0] for line in map(str, beyond)})[:20]
    assert re.search(USED[path], code, re.M)


ANSWERS = {
    "sse9": r"GEMMARY_CPU=sse9 is none of: avx512-vnni, avx-vnni, avx2, neon-i8mm, neon-dotprod, generic",
    "absent": r"GEMMARY_CPU=[a-z0-9-]+: this processor cannot run that; unset it, or take generic",
}


def absent() -> str:
    """An instruction set that this machine has not got."""
    return "avx2" if platform.machine() in ("aarch64", "arm64") else "neon-dotprod"


def python(script: str, path: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GEMMARY_CPU": absent() if path == "absent" else path}
    command = [sys.executable, "-c", script, *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("path", ANSWERS)
def test_a_path_that_is_not_there(path: str) -> None:
    """The same sentence each time that somebody tries."""
    script = """
import gemmary
for _ in range(2):
    try:
        gemmary.load()
    except gemmary.errors.UnsupportedModelError as fault:
        print(fault)
"""
    lines = python(script, path).stdout.splitlines()
    assert len(lines) == 2 and lines[0] == lines[1]
    assert re.fullmatch(ANSWERS[path], lines[0])


@pytest.mark.parametrize("path", ANSWERS)
def test_a_path_that_is_not_there_on_the_command_line(path: str) -> None:
    done = python("from gemmary.cli import main; main()", path, "chat", "-p", "hi")
    assert (done.returncode, done.stdout) == (1, "")
    *notes, answer = done.stderr.splitlines()
    assert re.fullmatch(f"gemmary: {ANSWERS[path]}", answer)
    assert notes in ([], ["Loading the model ..."])  # said where loading takes its time
