"""The model card: card.md, filled in from the scores of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..config import Config

TEXT = Path(__file__).parent / "card.md"


def card(config: Config, scored: Path, logs: list[Path]) -> str:
    """The card of a run: its scores.json, and log.jsonl of each phase."""
    scores = json.loads(scored.read_text(encoding="utf-8"))
    perplexities = scores.pop("perplexity")
    log = [json.loads(line) for path in logs for line in path.read_text(encoding="utf-8").splitlines()]
    last = log[-50:]
    return TEXT.read_text(encoding="utf-8").format(
        parameters=config.parameters / 1e6, layers=config.layers, width=config.width, window=config.window,
        vocab=config.vocab, accuracies="\n".join(_accuracy(*item) for item in scores.items()),
        perplexities="\n".join(_perplexity(*item) for item in perplexities.items()),
        format=list(perplexities["books"])[1], steps=len(log), tokens=sum(r["tokens"] for r in log) / 1e6,
        hours=sum(r["seconds"] for r in log) / 3600, loss=sum(r["loss"] for r in last) / len(last),
    )  # fmt: skip


def _accuracy(name: str, score: dict[str, Any]) -> str:
    model, search = score["model"], score["BM25"]
    shares = (model["exact"], model["tool"], search["exact"], search["tool"])
    return f"| {name} | {model['questions']} | " + " | ".join(f"{share:.0%}" for share in shares) + " |"


def _perplexity(name: str, values: dict[str, float]) -> str:
    return f"| {name} | " + " | ".join(f"{value:.2f}" for value in values.values()) + " |"
