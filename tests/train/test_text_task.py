"""What text teaches: the same for rows and shards, in bfloat16 throughout where that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gemmary.errors import GemmaryError
from gemmary.train.layers import prepared
from gemmary.train.loop import Trainer
from gemmary.train.text_task import TextTask
from tests.train import toys


class Products(TorchDispatchMode):
    """Collects the dtypes of everything that is multiplied as matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.dtypes = 0, set[torch.dtype]()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = str(func)
        product = any(word in name for word in ("mm", "dot_product", "linear", "matmul", "einsum"))
        if product and "backward" not in name:  # attention's takes float32 sums beside bfloat16 matrices
            self.count += 1
            self.dtypes |= {x.dtype for x in tree_leaves(args) if isinstance(x, torch.Tensor)}
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("low, wanted", [(True, torch.bfloat16), (False, torch.float32)])
def test_no_matrix_is_multiplied_in_another_precision(
    tmp_path: Path, low: bool, wanted: torch.dtype, recompute: bool
) -> None:
    trainer = toys.trainer(tmp_path, 1, layers=2, low=low, z=1e-4, recompute=recompute)
    part = trainer.task.parts(0)[0]
    with prepared(trainer.task.layers, recompute, False), Products() as seen:
        trainer.task.loss(part).loss.backward()
    assert seen.dtypes == {wanted}
    assert seen.count >= 3 * (7 * 2 + 1)  # forward and two backward: seven matrices a layer, and the head
    held = [p for p in trainer.parameters] + [p.grad for p in trainer.parameters]
    assert {x.dtype for x in held if x is not None} == {torch.float32}


def test_a_checkpoint_of_another_config_with_the_same_shapes_is_refused(tmp_path: Path) -> None:
    how = toys.plan(2)
    for config, refused in ((toys.small(1), False), (replace(toys.small(1), context=4096), True)):
        trainer = Trainer(TextTask(toys.model(config), toys.rows(), how), how, tmp_path)
        if refused:
            with pytest.raises(GemmaryError, match=r"another model \(context\); use another folder"):
                trainer.run()
        else:
            assert trainer.run()
