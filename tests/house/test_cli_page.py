"""docs/cli.md says what `--help` says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_cli_page_is_current() -> None:
    written = subprocess.run(
        [sys.executable, "docs/write_cli.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    assert page == written.stdout, "docs/cli.md is out of date: run `make docs` and commit it"
    assert "## gemmary chat\n" in page
