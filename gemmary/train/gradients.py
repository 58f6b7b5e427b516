"""How a step's gradients are made: the same sum of micro-batches on threads, on a device, on many devices."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import torch

from .task import Lesson, Task

Tensor = torch.Tensor


class Sums(NamedTuple):
    """Loss, weights and tokens summed over a step's micro-batches, those of other processes too."""

    loss: float
    weight: float
    tokens: int


class Gradients(Protocol):
    """Made once a run. While the block runs, `accumulate` may use threads or devices that the block holds."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def accumulate(self, parts: Sequence[Any]) -> Sums:
        """Leave in every parameter's `.grad` the gradient of summed loss / summed weight over `parts`.

        A parameter that no part used gets zeros. Where the weights sum to 0, gradients are not finite.
        """
        ...


class ThreadedGradients:
    """Micro-batches side by side on `workers` threads, one core each; summed in their order, for equal bits.

    Cores never wait for each other inside an operation, which on a busy machine is several times faster.
    """

    def __init__(self, task: Task, workers: int) -> None:
        self._task, self._workers = task, workers
        self._parameters = list(task.module.parameters())
        self._warm = False

    def __enter__(self) -> Self:
        """The main thread, too, uses one core from here on."""
        with ExitStack() as stack:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
            self._pool = stack.enter_context(
                ThreadPoolExecutor(self._workers, initializer=torch.set_num_threads, initargs=(1,))
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, value, trace)

    def accumulate(self, parts: Sequence[Any]) -> Sums:
        """See `Gradients`."""
        lessons, grads = zip(*self._learnt(parts), strict=True)
        sums = _sums(lessons)
        for parameter, *of_parts in zip(self._parameters, *grads, strict=True):
            parameter.grad = sum(of_parts[1:], of_parts[0]) / sums.weight
        return sums

    def _learnt(self, parts: Sequence[Any]) -> list[tuple[Lesson, tuple[Tensor, ...]]]:
        """The very first micro-batch is alone: one thread compiles the layers before two want them."""
        alone = 0 if self._warm else 1
        self._warm = True
        first = [self._pool.submit(self._learn, part).result() for part in parts[:alone]]
        return [*first, *self._pool.map(self._learn, parts[alone:])]

    def _learn(self, part: Any) -> tuple[Lesson, tuple[Tensor, ...]]:
        lesson = self._task.loss(part)
        grads = torch.autograd.grad(lesson.loss, self._parameters, materialize_grads=True)
        return lesson._replace(loss=lesson.loss.detach()), grads


class DeviceGradients:
    """Micro-batches one after another on the parameters' device; backward adds up."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._parameters = list(task.module.parameters())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def accumulate(self, parts: Sequence[Any]) -> Sums:
        """See `Gradients`."""
        for parameter in self._parameters:
            parameter.grad = None
        lessons = [self._learn(part) for part in parts]
        sums = _sums(lessons)  # the device is waited for here, once a step
        for parameter in self._parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.div_(sums.weight)
        return sums

    def _learn(self, part: Any) -> Lesson:
        lesson = self._task.loss(part)
        lesson.loss.backward()
        return lesson._replace(loss=lesson.loss.detach())


def gradients_for(task: Task, workers: int) -> Gradients:
    """The way for the device that the parameters are on."""
    kind = next(task.module.parameters()).device.type
    return ThreadedGradients(task, workers) if kind == "cpu" else DeviceGradients(task)


def _sums(lessons: Sequence[Lesson]) -> Sums:
    losses, weights, tokens = zip(*lessons, strict=True)
    return Sums(sum(loss.item() for loss in losses), sum(weights), sum(tokens))
