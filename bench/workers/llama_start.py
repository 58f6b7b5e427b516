"""llama.cpp from the start of the process to its first word: `python llama_start.py FILE PROMPT`.

Runs where llama-cpp-python is installed; needs nothing of ours.
"""

from __future__ import annotations

import os
import sys

import llama_cpp

path, prompt = sys.argv[1:]
threads = len(os.sched_getaffinity(0))
model = llama_cpp.Llama(
    path, n_ctx=2048, n_threads=threads, n_threads_batch=threads, flash_attn=True, swa_full=False,
    verbose=False,
)  # fmt: skip
text = f"<start_of_turn>user\n{prompt}<end_of_turn>\n<start_of_turn>model\n"
for piece in model.create_completion(text, max_tokens=1, stream=True, temperature=0):
    print(piece["choices"][0]["text"], end="", flush=True)
print(flush=True)
