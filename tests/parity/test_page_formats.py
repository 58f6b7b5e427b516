"""What the format of keys and values costs: sharp random models, beside pages of float32."""

from __future__ import annotations

from pathlib import Path

import pytest

from .decoding import cpu
from .sharp import KINDS, Kind, saved, text_ids
from .test_llama_cpp import divergence

# Nats a token. Measured, largest of the three: F16 1.0e-5, BF16 6.9e-4, I8 5.6e-3.
LIMITS = {"F16": 2e-5, "BF16": 1.4e-3, "I8": 1e-2}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_divergence(kind: Kind, tmp_path: Path) -> None:
    saved(kind, tmp_path)
    ids = text_ids(300)
    truth = cpu(tmp_path, pages="F32").run(ids, (100,))
    found = {name: divergence(truth, cpu(tmp_path, pages=name).run(ids, (100,))) for name in LIMITS}
    assert all(found[name] <= LIMITS[name] for name in LIMITS), found
    assert 0 < found["F16"] < found["BF16"] < found["I8"], "the formats are not the ones asked for"
