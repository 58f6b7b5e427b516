"""Everything that moves during training, as tensors by name: what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from .checkpoint import CheckpointError
from .ema import Average
from .tensor_files import TensorFiles

Tensors = dict[str, torch.Tensor]
Optimizers = Sequence[torch.optim.Optimizer]
MODEL, OPTIMIZER, AVERAGE, RANDOM = "model.", "optimizer.", "average.", "random"


def take(model: torch.nn.Module, optimizers: Optimizers, average: Average) -> Tensors:
    """`model.<parameter>`, `optimizer.<parameter>.<field>`, `average.<parameter>`, and the random generator's
    state. Not copies.
    """
    tensors: Tensors = {RANDOM: torch.get_rng_state()}
    tensors |= {f"{AVERAGE}{name}": tensor for name, tensor in average.tensors.items()}
    owner = _owner(optimizers)
    for name, parameter in model.named_parameters():
        tensors[f"{MODEL}{name}"] = parameter
        for field, value in owner[parameter].state[parameter].items():
            tensors[f"{OPTIMIZER}{name}.{field}"] = value
    return tensors


def averaged(path: Path) -> Tensors:
    """The average of weights in checkpoint `path` by parameter name; without one the last weights."""
    with TensorFiles(path) as files:
        kept = AVERAGE if any(name.startswith(AVERAGE) for name in files.names) else MODEL
        return {n.removeprefix(kept): files.whole(n) for n in files.names if n.startswith(kept)}


def restore(model: torch.nn.Module, optimizers: Optimizers, average: Average, tensors: Tensors) -> None:
    """Put back what `take` took. CheckpointError: the tensors belong to another model."""
    left = dict(tensors)
    owner = _owner(optimizers)
    try:
        for name, parameter in model.named_parameters():
            _put(parameter.data, left.pop(f"{MODEL}{name}"))
            prefix = f"{OPTIMIZER}{name}."
            fields = [key for key in left if key.startswith(prefix)]
            owner[parameter].state[parameter] = {
                key.removeprefix(prefix): left.pop(key).to(parameter.device) for key in fields
            }
        for name, tensor in average.tensors.items():
            _put(tensor, left.pop(f"{AVERAGE}{name}"))
        torch.set_rng_state(left.pop(RANDOM))
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"the checkpoint belongs to another model: {error}") from error
    if left:
        raise CheckpointError(f"the checkpoint belongs to another model: it also has {sorted(left)[:3]}")


def _put(target: torch.Tensor, value: torch.Tensor) -> None:
    if target.shape != value.shape:  # which copy_ would stretch
        raise RuntimeError(f"shapes {list(value.shape)} and {list(target.shape)}")
    target.copy_(value)


def _owner(optimizers: Optimizers) -> dict[torch.Tensor, torch.optim.Optimizer]:
    return {p: o for o in optimizers for group in o.param_groups for p in group["params"]}
