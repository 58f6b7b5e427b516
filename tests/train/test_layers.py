"""Recomputed layers: the same gradients, far less memory; with and without the compiler."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from gemmary.train.layers import prepared
from gemmary.train.text_task import TextTask
from tests.train import toys


def learnt(layers: int, low: bool, recompute: bool, fuse: bool = False) -> tuple[list[torch.Tensor], int]:
    """Loss and gradients of one micro-batch; bytes that the backward pass keeps, parameters apart."""
    task = TextTask(toys.model(toys.small(layers)), toys.rows(), toys.plan(1, low=low))
    parameters = list(task.module.parameters())
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with prepared(task.layers, recompute, fuse):
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = task.loss(task.parts(0)[0]).loss
        grads = torch.autograd.grad(loss, parameters)
    for parameter in parameters:
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    return [loss.detach(), *grads], sum(kept.values())


@pytest.mark.parametrize("low", [False, True])
def test_gradients_are_the_same_bit_for_bit_and_little_is_kept(low: bool) -> None:
    (plain, much), (again, little) = learnt(2, low, False), learnt(2, low, True)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    assert little < 0.25 * much


def test_what_is_kept_grows_by_a_layers_input_only() -> None:
    sizes = [learnt(layers, False, True)[1] for layers in (2, 4)]
    hidden = 4 * toys.ROW * toys.TOY.width * 4  # rows x row x width in float32
    assert sizes[1] - sizes[0] == 2 * hidden


def test_afterwards_layers_are_as_they_were() -> None:
    layers = list(toys.model(toys.small(2)).layers)
    with prepared(layers, True, False):
        assert all("forward" in vars(layer) for layer in layers)
    assert not any("forward" in vars(layer) for layer in layers)


@pytest.fixture
def fresh() -> Iterator[None]:
    """A compiler that remembers nothing, before and after."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_compiled_layers_are_recomputed_too(fresh: None) -> None:
    (plain, much), (again, little) = (learnt(2, True, recompute, fuse=True) for recompute in (False, True))
    for a, b in zip(plain, again, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))
    assert little < 0.4 * much
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2
