"""Nothing that a file or a request says is ever run: no pickle, no eval, no module named by data."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
    "runpy",
    "imp",
}
BUILTINS = {"eval", "exec", "compile", "__import__"}
METHODS = {
    ("torch", "load"),
    ("torch", "save"),
    ("yaml", "load"),
    ("yaml", "unsafe_load"),
    ("importlib", "import_module"),
    ("importlib", "util"),
    ("importlib", "machinery"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "__import__"),
    ("os", "system"),
    ("os", "popen"),
}
FLAGS = {"allow_pickle", "trust_remote_code", "shell"}  # never anything but a literal False


def faults(text: str) -> Iterator[str]:
    """Where `text`, a Python source, could run what it reads."""
    for node in ast.walk(ast.parse(text)):
        for fault in fault_of(node):
            yield f"line {getattr(node, 'lineno', '?')}: {fault}"


def fault_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (a.name for a in node.names if a.name.split(".")[0] in MODULES)
    elif isinstance(node, ast.ImportFrom):
        origin = node.module or ""
        if origin.split(".")[0] in MODULES:
            yield origin
        yield from (f"{origin}.{a.name}" for a in node.names if (origin, a.name) in METHODS)
    elif isinstance(node, ast.Name) and node.id in BUILTINS:
        yield node.id
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if (node.value.id, node.attr) in METHODS:
            yield f"{node.value.id}.{node.attr}"
    elif isinstance(node, ast.keyword) and node.arg in FLAGS and not is_false(node.value):
        yield node.arg


def is_false(node: ast.expr) -> bool:
    """Whether `node` is the word False itself."""
    return isinstance(node, ast.Constant) and node.value is False


@pytest.mark.parametrize(
    "path", sorted((ROOT / "gemmary").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_nothing_read_is_run(path: Path) -> None:
    assert list(faults(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import dill as d",
        "torch.load(path, weights_only=True)",
        "from torch import load",
        "eval(text)",
        "run = exec",
        "importlib.import_module(name)",
        "from importlib import import_module",
        "__import__(name)",
        "yaml.load(text)",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=flag)",
        "subprocess.run(command, shell=True)",
    ],
)
def test_the_gate_sees(planted: str) -> None:
    assert list(faults(planted))


@pytest.mark.parametrize(
    "sound",
    ["model.eval()", "re.compile(p)", "np.load(path, allow_pickle=False)", "from importlib import resources"],
)
def test_the_gate_lets_pass(sound: str) -> None:
    assert list(faults(sound)) == []
