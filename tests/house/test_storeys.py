"""Imports point downward (every import counts: lazy ones and those under TYPE_CHECKING too)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

# From the ground up. "gemmary" is the public face, gemmary/__init__.py; train and evals are above it only in
# number: APART keeps them away from it.
ORDER = (
    ("config", "errors"),
    ("formats",),
    ("ops",),
    ("model",),
    ("inputs",),
    ("weights",),
    ("engine",),
    ("gemmary",),
    ("train",),
    ("evals",),
    ("serve",),
    ("recipes",),
    ("cli",),
    ("__main__",),
)
RANK = {storey: rank for rank, storeys in enumerate(ORDER) for storey in storeys}
APART = {
    ("train", "engine"),
    ("train", "gemmary"),
    ("evals", "engine"),
    ("evals", "gemmary"),
    ("evals", "train"),
}

# Everything outside these rooms is the CPU path, which runs where PyTorch is not installed.
TORCH_ROOMS = (
    "gemmary.ops.reference",
    "gemmary.ops.banded",
    "gemmary.ops.flex",
    "gemmary.ops.trainable",
    "gemmary.ops.triton",
    "gemmary.model.modules",
    "gemmary.model.vision_modules",
    "gemmary.train",
    "gemmary.recipes",
)


class Import(NamedTuple):
    """`module` names `target` on `line`."""

    module: str
    target: str
    line: int


def modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file of every module of the package below `root`."""
    found = {}
    for path in sorted((root / "gemmary").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path) -> Iterator[Import]:
    """Every import statement of the package, wherever it stands, with relative names resolved."""
    known = modules(root)
    for module, path in known.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(module, alias.name, node.lineno)
            elif isinstance(node, ast.ImportFrom):
                origin = absolute(package, node)
                for alias in node.names:
                    inner = f"{origin}.{alias.name}"
                    yield Import(module, inner if inner in known else origin, node.lineno)


def absolute(package: str, node: ast.ImportFrom) -> str:
    """The module that a `from ... import` statement in `package` names."""
    if not node.level:
        return node.module or ""
    above = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*above, node.module] if node.module else above)


def storey(module: str) -> str:
    """`gemmary.ops.contract` lives in `ops`; `gemmary` is the public face."""
    return module.split(".")[1] if "." in module else module


def own(target: str) -> bool:
    return target.split(".")[0] == "gemmary"


def upward(root: Path) -> list[str]:
    """The imports that point up, or cross between storeys that are kept apart."""
    return [
        f"{found.module}:{found.line} imports {found.target}"
        for found in imports(root)
        if own(found.target)
        and (
            RANK[storey(found.target)] > RANK[storey(found.module)]
            or (storey(found.module), storey(found.target)) in APART
        )
    ]


def cpu_path(root: Path) -> list[str]:
    return [
        m for m in modules(root) if not any(m == room or m.startswith(room + ".") for room in TORCH_ROOMS)
    ]


def torch_on_cpu_path(root: Path) -> list[str]:
    """Imports of torch, or of what needs it, by modules of the CPU path."""
    heavy, path = {"torch", "torchvision", "torchao", "triton", "transformers"}, set(cpu_path(root))
    return [
        f"{found.module}:{found.line} imports {found.target}"
        for found in imports(root)
        if found.module in path and found.target.split(".")[0] in heavy
    ]


def test_every_module_lives_in_a_storey() -> None:
    assert [module for module in modules(ROOT) if storey(module) not in RANK] == []


def test_imports_point_downward() -> None:
    assert upward(ROOT) == []


def test_cpu_path_never_names_torch() -> None:
    assert torch_on_cpu_path(ROOT) == []


def test_cpu_path_loads_where_torch_is_missing() -> None:
    """The same promise, kept by the interpreter: `sys.modules[name] = None` makes every import of it fail."""
    missing = "import sys; sys.modules.update(dict.fromkeys(('torch', 'triton', 'transformers')))"
    loads = "; ".join(f"import {module}" for module in cpu_path(ROOT))
    done = subprocess.run(
        [sys.executable, "-c", f"{missing}; {loads}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


PLANTED = {
    "formats/a.py": "def f():\n    from gemmary.ops import contract\n",
    "engine/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..train import loop\n",
    "train/c.py": "from .. import engine\n",
    "train/d.py": "from gemmary import load\n",
    "evals/e.py": "import gemmary.train.loop as loop\n",
    "inputs/f.py": "def f():\n    import torch.nn\n",
    "model/g.py": "try:\n    from torch import Tensor\nexcept ImportError:\n    pass\n",
    "train/loop.py": "import torch\nfrom ..config import Config\nfrom . import c\n",
    "ops/contract.py": "from ..errors import GemmaryError\n",
}


def test_this_test_sees_planted_faults(tmp_path: Path) -> None:
    for name, text in PLANTED.items():
        path = tmp_path / "gemmary" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)
    for name in ("__init__.py", "config.py", "errors.py"):
        (tmp_path / "gemmary" / name).touch()
    assert upward(tmp_path) == [
        "gemmary.engine.b:3 imports gemmary.train.loop",
        "gemmary.evals.e:1 imports gemmary.train.loop",
        "gemmary.formats.a:2 imports gemmary.ops.contract",
        "gemmary.train.c:1 imports gemmary.engine",
        "gemmary.train.d:1 imports gemmary",
    ]
    assert torch_on_cpu_path(tmp_path) == [
        "gemmary.inputs.f:2 imports torch.nn",
        "gemmary.model.g:2 imports torch",
    ]
