"""The average of weights follows its formula and goes on exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gemmary.errors import GemmaryError
from gemmary.train.ema import Average
from tests.train import toys


def test_the_average_is_the_sum_that_it_says() -> None:
    module, decay, steps = torch.nn.Linear(3, 2), 0.6, 30
    average = Average(module, decay)
    dice = np.random.default_rng(0)
    wanted = module.weight.detach().double().numpy()
    for step in range(steps):
        new = dice.normal(size=(2, 3)).astype(np.float32)
        with torch.no_grad():
            module.weight.copy_(torch.from_numpy(new))
        average.update(step)
        kept = min(decay, (1 + step) / (10 + step))
        wanted = kept * wanted + (1 - kept) * new
    np.testing.assert_allclose(average.weights()["weight"].numpy(), wanted, rtol=1e-5)
    assert not np.allclose(wanted, module.weight.detach().numpy(), rtol=0.1)


def test_low_precision_weights_have_an_average_in_float32() -> None:
    module = torch.nn.Linear(2, 2).bfloat16()
    average = Average(module, 0.9)
    average.update(1000)
    assert {tensor.dtype for tensor in average.weights().values()} == {torch.float32}


def test_without_decay_it_is_the_weights_and_holds_nothing() -> None:
    module = torch.nn.Linear(2, 2)
    average = Average(module, 0.0)
    assert not average.tensors
    assert torch.equal(average.weights()["weight"], module.weight)


def test_it_is_in_the_checkpoint_and_loads_into_a_model(tmp_path: Path) -> None:
    whole, cut, rest = (
        toys.trainer(tmp_path / n, 5, ema=0.9, layers=1, parts=1) for n in ("whole", "cut", "cut")
    )
    assert whole.run()
    toys.stop_at(cut, 4)
    with pytest.raises(toys.Stopped):
        cut.run()
    assert rest.run()
    pairs = [(tensor, rest.averaged()[name]) for name, tensor in whole.averaged().items()]
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not any(torch.equal(a, b) for (a, _), b in zip(pairs, whole.parameters, strict=True))
    toys.model(toys.small(1)).load_state_dict(rest.averaged(), strict=True)
    with pytest.raises(GemmaryError, match=r"another plan \(ema\)"):
        toys.trainer(tmp_path / "cut", 5, ema=0.5, layers=1, parts=1).run()
