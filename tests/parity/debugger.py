"""Names the first operation whose result differs from transformers.

    python -m tests.parity.debugger FOLDER [--engine cpu|reference] [--tokens 100]

Both sides run the same random ids and note the result of every operation, in the order of `block`: in a layer
q, k, v, q and k rotated, attention, the stream after it, gate, up, their product, the stream after the layer.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from gemmary.model.text import Text
from gemmary.ops.numba.table import Gated

from .decoding import ENGINES, Decoding
from .sharp import distance

LIMIT = 1e-5  # of the range of an operation's results
IN_LAYER = (
    "q", "k", "v", "q rotated", "k rotated", "attention", "after attention",
    "gate", "up", "gate * up", "after the layer",
)  # fmt: skip
NOTED = ("embed", "project", "rotate", "attend", "merge", "gate", "select", "head")
Notes = list[np.ndarray]


def labels(layers: int) -> list[str]:
    """A name for every note."""
    inside = [f"layer {layer}: {name}" for layer in range(layers) for name in IN_LAYER]
    return ["embedding", *inside, "final norm", "logits"]


class Recorder:
    """An op table that notes results [T, ...] and leaves the work to another one."""

    def __init__(self, ops: Any) -> None:
        self._ops = ops
        self.notes: Notes = []

    def __getattr__(self, name: str) -> Any:
        work = getattr(self._ops, name)
        return self._noting(work) if name in NOTED else work

    def _noting(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            result = work(*args)
            note(self.notes, *(result if isinstance(result, tuple) else (result,)))
            return result

        return run


def note(notes: Notes, *results: Any) -> None:
    """Keep copies, as [T, rest]."""
    for result in results:
        array = result.numpy(force=True) if isinstance(result, torch.Tensor) else result
        array = array.computed() if isinstance(array, Gated) else array
        notes.append(array.reshape(len(array), -1).copy())


def ours(decoding: Decoding, ids: list[int]) -> Notes:
    """The notes of one of our engines."""
    decoder = decoding.decoder
    recorder = Recorder(decoder.ops)
    if isinstance(decoder, Text):
        layers = tuple(replace(layer, ops=recorder) for layer in decoder.layers)
        decoder = replace(decoder, ops=recorder, layers=layers)
    else:
        for part in (decoder, *decoder.layers):
            part.ops = recorder
    Decoding(decoder, decoder.config, pages=len(ids) // 64 + 2).run(ids, (len(ids),))
    return recorder.notes


def theirs(model: Any, ids: list[int]) -> Notes:
    """The notes of a transformers model with eager attention."""
    notes: Notes = []
    with _listening(model, notes), torch.no_grad():
        model(torch.tensor([ids]), use_cache=False)
    return notes


@contextmanager
def _listening(model: Any, notes: Notes) -> Iterator[None]:
    from transformers.models.gemma3 import modeling_gemma3 as module

    def output(_: Any, __: Any, result: Any) -> None:
        note(notes, (result[0] if isinstance(result, tuple) else result)[0])

    def inlet(_: Any, args: Any) -> None:
        note(notes, args[0][0])

    eager = module.eager_attention_forward

    def attention(layer: Any, q: Any, k: Any, *args: Any, **options: Any) -> Any:
        result = eager(layer, q, k, *args, **options)
        note(notes, q[0].transpose(0, 1), k[0].transpose(0, 1), result[0][0])
        return result

    inner = model.model
    hooks = [part.register_forward_hook(output) for part in (inner.embed_tokens, inner.norm, model.lm_head)]
    for layer in inner.layers:
        heads, ffn = layer.self_attn, layer.mlp
        listened = (heads.q_proj, heads.k_proj, heads.v_proj, ffn.gate_proj, ffn.up_proj, layer)
        hooks += [part.register_forward_hook(output) for part in listened]
        hooks += [
            p.register_forward_pre_hook(inlet) for p in (layer.pre_feedforward_layernorm, ffn.down_proj)
        ]
    try:
        with patch.object(module, "eager_attention_forward", attention):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def distances(model: Any, decoding: Decoding, ids: list[int]) -> dict[str, float]:
    """Every operation's distance, in the order of the forward pass."""
    names = labels(decoding.pages.config.layers)
    pairs = zip(names, ours(decoding, ids), theirs(model, ids), strict=True)
    return {name: distance(mine, other) for name, mine, other in pairs}


def first_divergence(model: Any, decoding: Decoding, ids: list[int]) -> str:
    """One line: where the two part."""
    found = distances(model, decoding, ids)
    for name, gap in found.items():
        if not gap <= LIMIT:
            return f"they part at {name}: {gap:.1e} of its range"
    return f"they agree everywhere, within {max(found.values()):.1e} of the range"


def main() -> None:
    parser = argparse.ArgumentParser(description="Name the first operation that differs from transformers.")
    parser.add_argument("folder", type=Path, help="a text model as Hugging Face stores it")
    parser.add_argument("--engine", choices=ENGINES, default="cpu")
    parser.add_argument("--tokens", type=int, default=100)
    options = parser.parse_args()
    from transformers import Gemma3ForCausalLM

    model = Gemma3ForCausalLM.from_pretrained(
        options.folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, options.tokens)
    found = distances(model, ENGINES[options.engine](options.folder), ids.tolist())
    for name, gap in found.items():
        print(f"{name:28} {gap:.1e}{'' if gap <= LIMIT else '  <-'}")


if __name__ == "__main__":
    main()
