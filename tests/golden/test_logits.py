"""The CPU engine gives the bits that are saved here: on every machine, with every instruction set.

After a change that is meant to change bits: python -m tests.golden.test_logits
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest

from .model import CASES, CONFIG, LENGTH, logits

SAVED = Path(__file__).with_name("logits.json")
SAMPLE = [(t, v) for t in (0, 19, 20, 63, 64, 99) for v in (0, 100, 319)]


def record(found: np.ndarray) -> dict[str, object]:
    """What is saved of logits [T, V]: a hash of all bits, and some values to judge a difference by."""
    digest = hashlib.sha256(found.astype("<f4").tobytes()).hexdigest()
    return {"sha256": digest, "sample": [float(found[place]).hex() for place in SAMPLE]}


def saved() -> dict[str, dict[str, object]]:
    return json.loads(SAVED.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", CASES)
def test_the_bits_are_the_saved_ones(name: str, tmp_path: Path) -> None:
    found, want = record(logits(name, tmp_path)), saved()[name]
    if found["sha256"] != want["sha256"]:
        gap = np.abs(np.subtract(*(numbers(r) for r in (found, want)))).max()
        pytest.fail(f"other bits than saved; {len(SAMPLE)} sampled logits are up to {gap:.1e} off")


def numbers(saved: dict[str, object]) -> list[float]:
    return [float.fromhex(text) for text in saved["sample"]]  # type: ignore[attr-defined]


def test_the_model_is_worth_a_look(tmp_path: Path) -> None:
    """Logits spread, and one format is not another."""
    whole = logits("F32", tmp_path)
    assert whole.shape == (LENGTH, CONFIG.vocab)
    assert whole.std() >= 2
    assert len({record["sha256"] for record in saved().values()}) == len(CASES)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = {name: record(logits(name, Path(folder))) for name in CASES}
    SAVED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
