"""What is imported is declared; what is declared is used and argues for itself in docs/DEPENDENCIES.md."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Where the name to import is not the name to install. numba pins llvmlite to the one version it works with.
IMPORTED_AS = {"numba": {"numba", "llvmlite"}, "pillow": {"PIL"}}
# Measured beside us, by a script that runs in a Python of theirs; nothing of ours needs them.
PEERS = {"llama_cpp": "engine/llama_side.py"}


def names(requirements: list[str]) -> set[str]:
    """`numba>=0.68` -> numba."""
    return {re.match(r"[A-Za-z0-9_-]+", text)[0] for text in requirements}  # type: ignore[index]


def importable(distribution: str) -> set[str]:
    return IMPORTED_AS.get(distribution, {distribution.replace("-", "_")})


def imported() -> set[str]:
    """Top-level names of everything that gemmary/ imports from outside; scripts for peers are apart."""
    scripts = {ROOT / "gemmary" / script for script in PEERS.values()}
    return names_in(set((ROOT / "gemmary").rglob("*.py")) - scripts)


def names_in(files: set[Path]) -> set[str]:
    """Top-level names of what files import from outside."""
    found: set[str] = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"gemmary"}


CORE = names(PROJECT["dependencies"])
EXTRAS = {extra: names(listed) for extra, listed in PROJECT["optional-dependencies"].items()}


def test_imports_are_declared() -> None:
    users = CORE.union(*(listed for extra, listed in EXTRAS.items() if extra != "dev"))
    assert imported() - set().union(*map(importable, users)) == set()


@pytest.mark.parametrize(("peer", "script"), PEERS.items())
def test_a_script_for_a_peer_needs_nothing_else(peer: str, script: str) -> None:
    assert names_in({ROOT / "gemmary" / script}) == {peer}


@pytest.mark.parametrize("distribution", sorted(CORE))
def test_core_dependency_is_used(distribution: str) -> None:
    assert importable(distribution) & imported()


# Below these are holes that are known and that somebody else's file or request reaches.
FLOORS = {"pillow": "13", "starlette": "1.0.1", "h11": "0.16", "jinja2": "3.1.6", "transformers": "5.3",
          "torch": "2.10"}  # fmt: skip


@pytest.mark.parametrize("distribution", FLOORS)
def test_no_version_with_a_known_hole_is_taken(distribution: str) -> None:
    """Wherever it is asked for, an older one is refused; and the tests run with none."""
    floor = Version(FLOORS[distribution])
    asked = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    found = [r for listed in asked for r in map(Requirement, listed) if r.name == distribution]
    assert found
    for requirement in found:
        lowest = [Version(one.version) for one in requirement.specifier if one.operator in (">=", "==")]
        assert lowest and min(lowest) >= floor, requirement
    assert Version(version(distribution)) >= floor


def test_every_dependency_argues_for_itself() -> None:
    argued = set(
        re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs/DEPENDENCIES.md").read_text("utf-8"), re.MULTILINE)
    )
    assert argued == CORE.union(*EXTRAS.values())
