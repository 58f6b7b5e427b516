"""A training loop around transformers' Gemma 3, as a worker of the training table: AdamW, bfloat16 autocast.

python transformers_training.py '{"job": {...}, "attention": "sdpa", "fuse": true, "liger": false}'

Rows are packed as ours are; masks are made once a step, outside what is compiled.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import transformers
from packed import Job, packed
from serving import serve
from torch.nn.attention.flex_attention import create_block_mask

from gemmary.config import SIZES, Config
from gemmary.engine.host import peak_memory
from gemmary.model.modules import TextModule
from gemmary.ops.reference import Reference
from gemmary.train.batches import Batches
from gemmary.train.initial import initialise
from gemmary.train.packing import Rows
from gemmary.weights.names import to_huggingface


class Worker:
    """A model in training."""

    def __init__(self, job: dict[str, Any], attention: str, fuse: bool, liger: bool) -> None:
        self.job, self.attention, self.config = Job(**job), attention, SIZES[job["size"]]
        torch.set_num_threads(self.job.threads)
        if liger:
            from liger_kernel.transformers import apply_liger_kernel_to_gemma3_text

            apply_liger_kernel_to_gemma3_text()
        model = transformers.Gemma3ForCausalLM(settings(self.config, attention)).train()
        model.load_state_dict(first_weights(self.config), strict=False)
        self.model = model.to(self.job.device)
        self.fused = torch.compile(self.model, dynamic=False) if fuse else self.model
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0, fused=True
        )
        rows = packed(self.config, self.job.row, 4 * self.job.rows * self.job.parts)
        self.batches = Batches(rows, self.job.rows, self.job.parts, 0)
        self.losses: list[float] = []

    def about(self) -> dict[str, object]:
        """Versions."""
        version = f"{transformers.__version__}, torch {torch.__version__}"
        return {"version": version, "build": torch.backends.cpu.get_cpu_capability()}

    def train(self, steps: int) -> dict[str, object]:
        """So many updates."""
        started = time.perf_counter()
        for _ in range(steps):
            self._advance(self.batches.step(len(self.losses)))
        if self.job.device == "cuda":
            torch.cuda.synchronize()
        seconds, cuda = time.perf_counter() - started, self.job.device == "cuda"
        peak = torch.cuda.max_memory_allocated() if cuda else peak_memory()
        return {"seconds": seconds, "losses": self.losses, "peak_bytes": peak}

    def _advance(self, parts: list[Rows]) -> None:
        total = sum(float(part.weights.sum()) for part in parts)
        losses = [self._backward(part, total) for part in parts]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.losses.append(sum(losses))

    def _backward(self, rows: Rows, total: float) -> float:
        device = self.job.device
        ids, pos = (torch.from_numpy(x).long().to(device) for x in (rows.ids, rows.pos))
        labels = ids.roll(-1, 1).masked_fill(torch.from_numpy(rows.weights == 0).to(device), -100)
        seen = masks(rows, self.config.window, self.attention, device)
        with torch.autocast(device, torch.bfloat16):
            loss = self.fused(
                input_ids=ids, position_ids=pos, attention_mask=seen, labels=labels, shift_labels=labels,
                num_items_in_batch=torch.tensor(total, device=device), use_cache=False,
            ).loss  # fmt: skip
        loss.backward()
        return loss.item()


def settings(config: Config, attention: str) -> Any:
    """Our config in their words."""
    return transformers.Gemma3TextConfig(
        vocab_size=config.vocab, hidden_size=config.width, intermediate_size=config.ffn,
        num_hidden_layers=config.layers, num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads, head_dim=config.head_dim,
        query_pre_attn_scalar=config.query_scalar, sliding_window=config.window,
        max_position_embeddings=config.context, attn_implementation=attention, tie_word_embeddings=True,
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": config.rope_global.theta},
            "sliding_attention": {"rope_type": "default", "rope_theta": config.rope_local.theta},
        },
    )  # fmt: skip


def first_weights(config: Config) -> dict[str, torch.Tensor]:
    """Those that our side begins with: both lose the same at first."""
    model = TextModule(config, Reference())
    initialise(model, 0)
    return {to_huggingface(name): torch.from_numpy(array) for name, array in model.arrays().items()}


def masks(rows: Rows, window: int, attention: str, device: str) -> dict[str, Any]:
    """What tokens see by kind of layer: bool [B, 1, row, row], or block masks."""
    document = torch.from_numpy(rows.document).to(device)
    column = torch.arange(document.shape[1], device=device)
    if attention == "sdpa":
        same = (document[:, :, None] == document[:, None]) & (column <= column[:, None])
        near = same & (column > column[:, None] - window)
        return {"full_attention": same[:, None], "sliding_attention": near[:, None]}

    def full(b: Any, h: Any, q: Any, k: Any) -> Any:
        return (document[b, q] == document[b, k]) & (k <= q)

    def local(b: Any, h: Any, q: Any, k: Any) -> Any:
        return full(b, h, q, k) & (k > q - window)

    size = (len(document), None, len(column), len(column), device)
    return {
        name: create_block_mask(mask, *size, _compile=device == "cuda")
        for name, mask in (("full_attention", full), ("sliding_attention", local))
    }


if __name__ == "__main__":
    serve(Worker)
