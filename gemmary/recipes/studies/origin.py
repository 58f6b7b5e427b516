"""Where numbers come from: commit, machine, versions."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ... import __version__

LIBRARIES = ("torch", "numpy", "sentencepiece")


def origin() -> dict[str, str]:
    """Commit ("+" where files differ from it, "unknown" without git), device, and versions."""
    found = {"gemmary": __version__, "commit": _commit(), "device": _device()}
    found["python"] = platform.python_version()
    return found | {name: _version(name) for name in LIBRARIES}


def _commit() -> str:
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", ":/gemmary")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _device() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}, one of them used"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
