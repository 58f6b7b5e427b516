"""How the layers of a module run in training: recomputed in the backward pass, compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def prepared(layers: Sequence[nn.Module], recompute: bool, fuse: bool) -> Iterator[None]:
    """While the block runs, layers are recomputed if `recompute`; they are compiled, if `fuse`, for good.

    A recomputed layer keeps nothing but its input until its backward pass, which runs it a second time: the
    bits are the same, memory is that of one layer, time is about a third more (arXiv 1604.06174).
    """
    if recompute:
        for layer in layers:
            layer.forward = _recomputed(layer.forward)
    if fuse:  # after that, so that the compiler sees what is recomputed
        torch._dynamo.config.recompile_limit = 4 * len(layers)
        for layer in layers:
            layer.compile(dynamic=False)
    try:
        yield
    finally:
        if recompute:
            for layer in layers:
                del layer.forward


def _recomputed(inner: Callable[..., Any]) -> Callable[..., Any]:
    # A plain function, because torch.compile passes over a partial. Layers draw no random numbers, and to put
    # the generator's state back would be a race between threads.
    def forward(*inputs: Any) -> Any:
        return checkpoint(inner, *inputs, use_reentrant=False, preserve_rng_state=False)

    return forward
