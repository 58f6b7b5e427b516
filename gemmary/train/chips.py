"""Chips that Gemma 3 is, or was, trained on: memory, speed, links. The numbers are the makers'.

TPU: Google Cloud's pages on v5e and v5p (16 GB and 95 GiB, 197 and 459 Tflop/s; links of 400 and 1,200 GB/s
both ways; data centre network of 6.4 Tbit/s a pod of 256, and of 50 Gbit/s a chip); for v4 arXiv 2304.01433
(32 GiB, 275 Tflop/s, six links of 50 GB/s each way; its network is not in there and counted as v5e's). GPU:
NVIDIA's data sheets of A100 80 GB, H100 and H200 SXM (dense bf16; NVLink of 600, 900, 900 GB/s both ways),
eight in a DGX machine, each with a network card of 200 (A100) or 400 Gbit/s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import GemmaryError

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """`memory` bytes; `peak` bf16 operations a second; bytes a second that it receives over a `link` from the
    other chips of its `island`, and over the `network` from other islands.
    """

    name: str
    memory: int
    peak: float
    link: float
    island: int
    network: float


CHIPS = {
    chip.name.lower(): chip
    for chip in (
        Chip("TPUv4", 32 * GIB, 275e12, 300e9, 4096, 3.125e9),
        Chip("TPUv5e", 16 * 10**9, 197e12, 200e9, 256, 3.125e9),
        Chip("TPUv5p", 95 * GIB, 459e12, 600e9, 8960, 6.25e9),
        Chip("A100", 80 * 10**9, 312e12, 300e9, 8, 25e9),
        Chip("H100", 80 * 10**9, 989e12, 450e9, 8, 50e9),
        Chip("H200", 141 * 10**9, 989e12, 450e9, 8, 50e9),
    )
}
SHORT = {name.removeprefix("tpu"): chip for name, chip in CHIPS.items()}


def read_chips(text: str) -> tuple[int, Chip]:
    """ "64xH100" -> 64 and the chip. GemmaryError: it cannot be read, or no such chip is known."""
    known = ", ".join(chip.name for chip in CHIPS.values())
    found = re.fullmatch(r"\s*(?:(\d{1,6})\s*[x*×]\s*)?([a-z][\w-]*)\s*", text, re.IGNORECASE)
    if found is None:
        raise GemmaryError(f"--chips {text!r}: write how many and which, as in 64xH100 (known: {known})")
    count, name = int(found[1] or 1), found[2].lower()
    if name not in SHORT and name not in CHIPS:
        raise GemmaryError(f"--chips {text!r}: {found[2]} is not known here; known: {known}")
    if not count:
        raise GemmaryError(f"--chips {text!r}: at least one chip is needed")
    return count, CHIPS.get(name) or SHORT[name]
