"""What is learnt from what: the seam between the loop and everything that it can train."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from ..config import Config, VisionConfig


class Lesson(NamedTuple):
    """What a micro-batch says: summed loss, float32 []; sum of weights; tokens, filling not counted."""

    loss: Tensor
    weight: float
    tokens: int


class Task(Protocol):
    """A module and what it learns. All of its parameters are trained; checkpoints hold them by name."""

    @property
    def module(self) -> nn.Module:
        """What is trained."""
        ...

    @property
    def root(self) -> nn.Module:
        """The module that `loss` calls; it holds `module`. Sharded, its own parameters are whole inside."""
        ...

    @property
    def layers(self) -> Sequence[nn.Module]:
        """Those of its modules that are compiled, recomputed and sharded one by one."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """JSON by name: what must not change within a run, besides the plan."""
        ...

    def parts(self, step: int) -> Sequence[Any]:
        """The micro-batches of `step`: a function of it alone, so that resuming needs no position.

        A run that left out data asks for later ones than its own steps.
        """
        ...

    def loss(self, part: Any) -> Lesson:
        """The forward pass of a micro-batch. Called by several threads at once on a CPU."""
        ...


def recorded(config: Config | VisionConfig) -> dict[str, Any]:
    """A config as JSON gives it back, for a task's identity: equal shapes do not make equal models."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return values
