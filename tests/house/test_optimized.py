"""Checks of what users send do not vanish under `python -O`, which removes assert statements.

The tests run again here are those of bad input. Their own assertions hold: pytest rewrites them.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AGAIN = (
    "tests/engine/test_sampling.py::test_senseless_parameters_are_prompt_errors",
    "tests/engine/test_sampling.py::test_not_finite_logits_are_a_typed_error",
    "tests/engine/test_generate.py::test_prompts_that_are_none",
    "tests/engine/test_model.py::test_bad_messages_are_prompt_errors",
    "tests/engine/test_schema.py::test_schemas_that_are_none",
    "tests/engine/test_score.py::test_rows_that_are_none",
    "tests/engine/test_load.py::test_bad_arguments_are_found_before_a_file_is_read",
    "tests/engine/test_memory.py::test_senseless_sizes",
    "tests/inputs/test_turns.py",
    "tests/inputs/test_tools.py",
    "tests/inputs/test_stream.py",
)


@pytest.mark.long  # that nothing asserts is checked below, and quickly
def test_typed_errors_without_assert() -> None:
    command = [sys.executable, "-O", "-m", "pytest", "-q", "-p", "no:cacheprovider", *AGAIN]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_package_never_asserts() -> None:
    """No statement whose removal could change what the package does."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "gemmary").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert found == []
