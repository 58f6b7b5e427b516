"""transformers' SigLIP in bfloat16, as a worker of a table: random weights at the true shape.

python siglip_side.py '{"threads": 2}'
"""

from __future__ import annotations

import time

import torch
import transformers
from serving import serve

from gemmary.config import VisionConfig
from gemmary.engine.host import peak_memory


class Worker:
    """A tower."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.set_default_dtype(torch.bfloat16)
        size = VisionConfig()
        settings = transformers.SiglipVisionConfig(
            hidden_size=size.width, intermediate_size=size.ffn, num_hidden_layers=size.layers,
            num_attention_heads=size.heads, image_size=size.image, patch_size=size.patch,
            vision_use_head=False, attn_implementation="sdpa",
        )  # fmt: skip
        self.side, self.model = size.image, transformers.SiglipVisionModel(settings).eval()

    def about(self) -> dict[str, object]:
        """Versions."""
        build = torch.backends.cpu.get_cpu_capability()
        version = f"{transformers.__version__}, torch {torch.__version__}"
        return {"version": version, "build": build, "held_bytes": peak_memory()}

    @torch.inference_mode()
    def encode(self, pictures: int) -> dict[str, object]:
        """Features of so many pictures."""
        pixels = torch.rand(pictures, 3, self.side, self.side) * 2 - 1
        started = time.perf_counter()
        self.model(pixel_values=pixels)
        return {"seconds": time.perf_counter() - started}

    def memory(self) -> dict[str, object]:
        """The most bytes that this process has held."""
        return {"peak_bytes": peak_memory()}


if __name__ == "__main__":
    serve(Worker)
