"""Training on many devices: weights, gradients and optimizer states in shards (ZeRO-3; FSDP2, HSDP).

Every process has a slice of the rows of every tensor. A layer is whole only while it is needed: gathered
before its forward and its backward pass, its gradients summed and cut again after. The root is the module
whose forward pass is the loss, so that the tied table is whole for embedding and head at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from ..errors import GemmaryError
from .company import Company
from .gradients import Sums
from .task import Lesson, Task


def check_shards(company: Company, shards: int | None) -> None:
    """GemmaryError: the processes do not make replicas of so many shards."""
    if shards and company.size % shards:
        count = "1 process does" if company.size == 1 else f"{company.size} processes do"
        raise GemmaryError(
            f"{count} not make replicas of {shards} shards; choose a number of shards that divides "
            f"{company.size}, or start a multiple of {shards} with torchrun"
        )


def mesh_of(company: Company, device: str, shards: int | None = None) -> DeviceMesh:
    """Replicas x shards of all processes of the company; as many shards as processes unless told otherwise.

    Neighbours in rank share a replica: give `shards` the number of devices of a machine, and only the sums of
    gradients leave it. GemmaryError: the processes cannot be cut so.
    """
    check_shards(company, shards)
    wanted = shards or company.size
    return init_device_mesh(device, (company.size // wanted, wanted), mesh_dim_names=("replicas", "shards"))


def shard(
    root: torch.nn.Module, layers: Sequence[torch.nn.Module], mesh: DeviceMesh, low: bool
) -> FSDPModule:
    """`root` with its parameters cut, in place: each layer is a unit, and what is left is the root's.

    With `low`, layers are gathered in bfloat16. What the root keeps for itself (table, last norm) is gathered
    in float32, because the loss sums the table's gradient in float32. Gradients are always summed in float32,
    and what an optimizer sees is float32.
    """
    exact = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    rounded = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    flat = mesh["shards"] if mesh.size(0) == 1 else mesh
    for layer in layers:
        fully_shard(layer, mesh=flat, mp_policy=rounded if low else exact)
    sharded: FSDPModule = fully_shard(root, mesh=flat, mp_policy=exact, reshard_after_forward=False)
    for module in root.modules():
        if isinstance(module, FSDPModule):  # sums: the mean is over weights of tokens, not over processes
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return sharded


class ShardedGradients:
    """`Gradients` over all processes of a company. Shards the task's module in place: make optimizers after.

    Where there is CUDA, shards go there, a layer at a time: the module itself may be in main memory.

    Process r learns micro-batches r, r + size, ... of a step. `shards`: see `mesh_of`. `low`: see `shard`.
    """

    def __init__(self, task: Task, company: Company, low: bool, shards: int | None = None) -> None:
        self._task, self._company = task, company
        device = "cuda" if torch.cuda.is_available() else next(task.module.parameters()).device.type
        self._mesh = mesh_of(company, device, shards)
        self._root = shard(task.root, task.layers, self._mesh, low)
        self._parameters = list(task.module.parameters())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def accumulate(self, parts: Sequence[Any]) -> Sums:
        """See `Gradients`. GemmaryError: the micro-batches cannot be shared out evenly."""
        mine = self._share(parts)
        for parameter in self._parameters:
            parameter.grad = None
        with self._company.watched():
            lessons = [self._learn(part, last=part is mine[-1]) for part in mine]
            losses = torch.stack([lesson.loss for lesson in lessons]).tolist()
        loss, weight, tokens = self._company.sums(
            sum(losses), sum(x.weight for x in lessons), sum(x.tokens for x in lessons)
        )
        for parameter in self._parameters:
            grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = grad.div_(weight)
        return Sums(loss, weight, int(tokens))

    def _share(self, parts: Sequence[Any]) -> Sequence[Any]:
        if len(parts) % self._company.size:
            raise GemmaryError(
                f"{len(parts)} micro-batches a step cannot be shared by {self._company.size} processes; "
                f"make the plan's parts a multiple of {self._company.size}"
            )
        return parts[self._company.rank :: self._company.size]

    def _learn(self, part: Any, last: bool) -> Lesson:
        """Gradients are summed over shards after every part, over replicas after the last."""
        self._root.set_is_last_backward(last)
        self._root.set_requires_all_reduce(last)
        lesson = self._task.loss(part)
        lesson.loss.backward()
        return lesson._replace(loss=lesson.loss.detach())
