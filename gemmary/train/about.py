"""What a run is, known before its first step: run.json, for the live view, the report and programs."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, is_dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..model.modules import TextModule
from ..weights.atomic import replacing
from . import flops
from .packing import Rows

NAME = "run.json"
KINDS: dict[str, type | tuple[type, ...]] = {  # of what is read: a list in a table's place is not believed
    "plan": dict, "config": dict, "data": dict, "parameters": int, "device": str, "flops": (int, float),
    "peak": (int, float), "versions": dict, "commit": str,
}  # fmt: skip
PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class About:
    """`flops`: operations of training a token; `peak`: operations a second that the devices promise together.

    None stands for "not known". `data`: digests by name. All values are JSON's.
    """

    plan: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] | None = None
    data: dict[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    device: str | None = None
    flops: float | None = None
    peak: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None

    def write(self, folder: Path) -> None:
        """As run.json. GemmaryError: it cannot be written."""
        with replacing(folder / NAME) as file:
            file.write((json.dumps(asdict(self), indent=1, default=str) + "\n").encode())


def about(module: torch.nn.Module, plan: Any, identity: dict[str, Any], parts: Sequence[Any]) -> About:
    """Of a run of `module` by `plan` (a dataclass).

    `parts`: micro-batches of a step, as a sample of the data. `identity`: what may not change in the run.
    """
    device = next(module.parameters()).device
    config = getattr(module, "config", None)
    count = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    peak = flops.peak(device) if plan.low else None  # that of bfloat16
    return About(
        plan=asdict(plan),
        config=asdict(config) if is_dataclass(config) and not isinstance(config, type) else None,
        data={name: value for name, value in identity.items() if name != "plan"},
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        device=_device_name(device) + (f", {count} of them" if count > 1 else ""),
        flops=_flops(module, parts),
        peak=None if peak is None else peak * count,
        versions=_versions(),
        commit=_commit(),
    )


def read(folder: Path) -> About:
    """What run.json says; of a run without it, what its last checkpoint knows: plan and data."""
    told = _json(folder / NAME)
    if told is None:
        states = (_json(path) for path in sorted(folder.glob("step-*/state.json"), reverse=True))
        state = next((state for state in states if state), {})
        told = {"plan": state.get("plan"), "data": {"data": state.get("data")}}
    return About(**{name: told[name] for name, kind in KINDS.items() if isinstance(told.get(name), kind)})


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _flops(module: torch.nn.Module, parts: Sequence[Any]) -> float | None:
    """Operations a token of text; None for what this does not know how to count."""
    if not isinstance(module, TextModule) or not all(isinstance(part, Rows) for part in parts):
        return None
    documents = [_lengths(part) for part in parts]
    lengths = [int(length) for of_part in documents for length in of_part]
    return flops.text(module.config, lengths) / sum(lengths) if lengths else None


def _lengths(rows: Rows) -> np.ndarray:
    """Tokens of every document, filling not counted."""
    step, _, _ = rows.step()
    lengths = np.diff(step.starts)
    return lengths[rows.document.ravel()[step.starts[:-1]] >= 0]


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        size = torch.cuda.get_device_properties(device).total_memory
        return f"{torch.cuda.get_device_name(device)}, {size / 1e9:.0f} GB"
    return f"{_processor()}, {os.cpu_count()} cores" if device.type == "cpu" else device.type


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    with suppress(metadata.PackageNotFoundError):  # a source tree: the commit says more
        found["gemmary"] = metadata.version("gemmary")
    return found | {"system": platform.platform(terse=True)}


@cache
def _commit() -> str | None:
    """That of the source tree, with "-dirty" where files differ from it; None where there is no git."""
    if not (PROJECT / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
