"""A plan to begin with: small enough for a laptop, on texts that are there."""

from __future__ import annotations

import os
from pathlib import Path

PATTERNS = ("*.txt", "*.md", "*.jsonl", "*/*.txt", "*/*.md", "*/*.jsonl")
WORKERS = 4

EXAMPLE = """\
# What `gemmary train` does; every line but those under [data] and [train] may be left out.
# Look before you leap:  gemmary train run.toml --dry-run
# Then:                  gemmary train run.toml

[model]
size = "nano"            # 270m, 1b, 4b, 12b, 27b; what follows makes it smaller
width = 128              # also: layers, heads, kv_heads, head_dim, ffn, window, context, global_layers
ffn = 352
# from = "gemma-3-270m"  # instead of sizes: go on with a model; a folder, a GGUF file, an id

[data]
folder = "."             # where the paths below begin, seen from this file
vocabulary = {vocabulary}        # pieces of a new one, made from the texts; or a file: "tokenizer.model"
# shards = "prepared"    # instead of all this: a folder that was prepared before

[[data.source]]          # as many as you like; each gets its share of the mixture
name = "texts"
paths = [{paths}]   # text, JSONL or Parquet, also .gz; "books/*.txt", "**/*.jsonl"
text = ["text"]          # of JSONL and Parquet: the fields to read

[train]
steps = 300              # or epochs = 2.0
row = 256                # tokens that are seen together
rows = 4                 # in a micro-batch
parts = {workers}                # micro-batches in a step
workers = {workers}              # cores
peak = 3e-3              # learning rate
warmup = 30              # steps up to it
cooldown = 100           # steps down from it, at the end
fuse = false             # true compiles each layer: faster, needs a C++ compiler and a minute

# [teacher]              # learn from a bigger model with the same vocabulary, too
# model = "gemma-3-1b"
# draws = 256
# cache = true           # run it once, keep its targets on disk

[save]
safetensors = "bf16"     # a folder for transformers: bf16, f32, none
gguf = "q8_0"            # one file for gemmary chat and llama.cpp: q8_0, q4_0, int4, f16, bf16, f32, none
"""


def example(folder: Path) -> str:
    """The plan of a run on the texts in `folder`, as TOML."""
    found = [pattern for pattern in PATTERNS if any(path.is_file() for path in folder.glob(pattern))]
    paths = ", ".join(f'"{pattern}"' for pattern in found or PATTERNS[:1])
    workers = min(os.cpu_count() or 1, WORKERS)
    size = sum(path.stat().st_size for pattern in found for path in folder.glob(pattern))
    return EXAMPLE.format(paths=paths, workers=workers, vocabulary=2048 if size < 4 << 20 else 8192)
