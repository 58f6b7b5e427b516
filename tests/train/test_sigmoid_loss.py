"""SigLIP's loss is the sum over all pairs, whichever way it is cut over chunks and devices."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gemmary.train.sigmoid_loss import SigmoidLoss

ROOT = Path(__file__).parents[2]
DEVICE = """
import json, sys, torch
from torch import distributed
from gemmary.train.sigmoid_loss import SigmoidLoss
from tests.train.test_sigmoid_loss import features, measured
rank, devices, meeting = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
distributed.init_process_group("gloo", init_method="file://" + meeting, rank=rank, world_size=devices)
mine = [x.chunk(devices)[rank] for x in features()]
print(json.dumps(measured(SigmoidLoss(group=distributed.group.WORLD, chunk=2), *mine)))
try:
    SigmoidLoss(group=distributed.group.WORLD)(*(x[: len(x) - rank] for x in mine))
except ValueError as error:
    print(error)
distributed.barrier()  # a process that leaves while another still listens makes that one abort
distributed.destroy_process_group()
"""


def features(pairs: int = 12, width: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    dice = torch.Generator().manual_seed(7)
    return torch.randn(pairs, width, generator=dice) * 3, torch.randn(pairs, width, generator=dice) + 0.5


def measured(loss: torch.nn.Module, images: torch.Tensor, texts: torch.Tensor, *true: torch.Tensor) -> list:  # type: ignore[type-arg]
    """The loss and its gradients by pictures, texts, temperature and bias."""
    made = loss(images.requires_grad_(), texts.requires_grad_(), *true)
    inputs = (images, texts, loss.log_temperature, loss.bias)
    return [made.tolist(), *(x.tolist() for x in torch.autograd.grad(made, inputs))]


class Plainly(SigmoidLoss):
    """The definition, pair by pair, by autograd."""

    def forward(
        self, images: torch.Tensor, texts: torch.Tensor, true: torch.Tensor | None = None
    ) -> torch.Tensor:
        total = torch.zeros((), dtype=images.dtype)
        for i, x in enumerate(images):
            for j, y in enumerate(texts):
                z = 1.0 if (i == j if true is None else true[i, j]) else -1.0
                cosine = (x @ y) / (x.norm() * y.norm())
                total = total - torch.log(
                    torch.sigmoid(z * (self.log_temperature.exp() * cosine + self.bias))
                )
        return total / len(images)


def same(mine: list, theirs: list, tolerance: float) -> None:  # type: ignore[type-arg]
    for a, b in zip(mine, theirs, strict=True):
        wanted = torch.tensor(b).double()
        torch.testing.assert_close(torch.tensor(a).double(), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("chunk", [1, 5, 1024])
@pytest.mark.parametrize("bias", [-10.0, 0.3])
def test_equals_the_dense_double_loop(chunk: int, bias: float) -> None:
    images, texts = (x.double() for x in features())
    ours = measured(SigmoidLoss(bias=bias, chunk=chunk).double(), images, texts)
    same(ours, measured(Plainly(bias=bias).double(), images, texts), 1e-12)


@pytest.mark.parametrize("chunk", [5, 1024])
def test_texts_that_are_true_of_several_pictures(chunk: int) -> None:
    images, texts = (x.double() for x in features())
    true = torch.rand(12, 7, generator=torch.Generator().manual_seed(3)) < 0.3
    ours = measured(SigmoidLoss(bias=-2.0, chunk=chunk).double(), images, texts[:7], true)
    same(ours, measured(Plainly(bias=-2.0).double(), images, texts[:7], true), 1e-12)
    with pytest.raises(ValueError, match=r"take \(12, 6\) on one device"):
        SigmoidLoss()(images, texts[:6], true)


def test_the_first_loss_is_that_of_the_right_pairs_alone() -> None:
    """At b = -10 wrong texts cost almost nothing, and a right one what sigmoid(t cosine - 10) leaves."""
    x = torch.eye(64)
    loss = SigmoidLoss()(x, x)
    assert loss.item() == pytest.approx(math.log(2) + 63 * math.log1p(math.exp(-10)), rel=1e-5)


def test_extreme_logits_stay_finite() -> None:
    images, texts = features()
    found = measured(SigmoidLoss(temperature=1e4, bias=100.0), images, texts)
    assert all(torch.tensor(x).isfinite().all() for x in found)


def test_unequal_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="must be pairs"):
        SigmoidLoss()(torch.ones(3, 4), torch.ones(2, 4))


def test_bfloat16_features_are_summed_in_float32() -> None:
    images, texts = (x.bfloat16() for x in features())
    with torch.autocast("cpu", torch.bfloat16):
        loss = SigmoidLoss()(images, texts)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(SigmoidLoss()(images.float(), texts.float()).item(), rel=1e-6)


def check_devices(folder: Path, devices: int) -> None:
    """Each process has its share of the pairs; the mean over processes is the whole batch in one."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", DEVICE, str(rank), str(devices), str(folder / "meeting")],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(devices)
    ]  # fmt: skip
    ended = [process.communicate(timeout=110) for process in running]
    assert [process.returncode for process in running] == [0] * devices, ended
    said = [out.splitlines() for out, _ in ended]
    assert all("every device must give as many pairs" in refusal for _, refusal in said)
    parts = [[torch.tensor(x).double() for x in json.loads(numbers)] for numbers, _ in said]
    loss, images, texts, t, bias = zip(*parts, strict=True)
    whole = measured(SigmoidLoss(), *features())
    # features belong to one device each, so their gradients of the mean are 1 / devices of the device's own
    mean = [sum(loss), torch.cat(images), torch.cat(texts), sum(t), sum(bias)]
    same([(x / devices).tolist() for x in mean], whole, 2e-6)


@pytest.mark.long
def test_two_processes_are_one(tmp_path: Path) -> None:
    check_devices(tmp_path, 2)


@pytest.mark.long
def test_three_processes_are_one(tmp_path: Path) -> None:
    check_devices(tmp_path, 3)
