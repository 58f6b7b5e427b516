"""What users get: the wheel, installed alone, answers offline and without PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUESTION = "How do I list the contents of a tar archive?"
CACHE = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")  # the same sources: compiled once
pytestmark = pytest.mark.timeout(300)  # installs 410 MB


def run(*command: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs `command` with nothing of this environment's Python leaking in, and no standard input."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=clean | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    built = run(sys.executable, "-m", "build", "--wheel", "--outdir", out, ROOT, cwd=out)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(out.glob("gemmary-*.whl"))


@pytest.fixture(scope="module")
def home(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment that holds the wheel and its core dependencies, nothing else."""
    home = tmp_path_factory.mktemp("home")
    venv.create(home / "venv", with_pip=False)
    python = home / "venv/bin/python"
    install = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-compile")
    done = run(*install, wheel, cwd=home)
    assert done.returncode == 0, done.stderr
    return home


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tracked = {str(path.relative_to(ROOT)) for path in (ROOT / "gemmary").rglob("*.py")}
    bundled = {str(path.relative_to(ROOT)) for path in (ROOT / "gemmary/bundled").glob("*") if path.is_file()}
    assert bundled, "the wheel needs a bundled model"
    assert tracked | bundled | {"gemmary/py.typed"} <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"gemmary"}
    assert {"LICENSE", "NOTICE"} <= {Path(name).name for name in names}


@pytest.mark.long
def test_torch_is_not_there(home: Path) -> None:
    done = run(home / "venv/bin/python", "-c", "import torch", cwd=home)
    assert "ModuleNotFoundError: No module named 'torch'" in done.stderr


@pytest.mark.long
def test_it_answers_offline(home: Path) -> None:
    done = run(
        home / "venv/bin/gemmary", "chat", "-p", QUESTION,
        cwd=home, HF_HUB_OFFLINE="1", HOME=str(home), XDG_CACHE_HOME=CACHE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "no answer on stdout"
