"""The model card: card.md, filled in from the scores of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import Config

TEXT = Path(__file__).parent / "card.md"


def card(config: Config, scored: Path, logs: Mapping[str, Path]) -> str:
    """The card of a run: its scores.json, and log.jsonl of each stage that trains."""
    scores = json.loads(scored.read_text(encoding="utf-8"))
    runs = {
        name: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for name, path in logs.items()
    }
    eyes = config.vision
    if eyes is None:
        raise ValueError("the card is that of a model that sees")
    return TEXT.read_text(encoding="utf-8").format(
        parameters=(config.embedding_parameters + config.body_parameters) / 1e6, layers=config.layers,
        width=config.width, window=config.window, vocab=config.vocab, context=config.context,
        eyes=config.vision_parameters / 1e6, eye_layers=eyes.layers, eye_width=eyes.width, side=eyes.image,
        soft=eyes.tokens,
        commands="\n".join(_commands(*item) for item in scores["commands"].items()),
        pictures="\n".join(_seen(*item) for item in scores["pictures"].items()),
        scanned="\n".join(_seen(*item) for item in scores["pan and scan"].items()),
        perplexities="\n".join(_perplexity(*item) for item in scores["perplexity"].items()),
        stages="\n".join(_stage(*item) for item in runs.items()),
        hours=sum(r["seconds"] for log in runs.values() for r in log) / 3600,
    )  # fmt: skip


def _commands(name: str, score: dict[str, Any]) -> str:
    model, search = score["model"], score["BM25"]
    shares = (model["exact"], model["tool"], search["exact"], search["tool"])
    return f"| {name} | {model['questions']} | " + " | ".join(f"{share:.0%}" for share in shares) + " |"


def _seen(name: str, score: dict[str, Any]) -> str:
    gap = 100 * (score["right"] - score["wrong"])
    return f"| {name} | {score['questions']} | {score['right']:.0%} | {score['wrong']:.0%} | {gap:+.0f} |"


def _perplexity(name: str, values: dict[str, float]) -> str:
    return f"| {name} | " + " | ".join(f"{value:.2f}" for value in values.values()) + " |"


def _stage(name: str, log: list[dict[str, Any]]) -> str:
    last = log[-50:]
    loss, tokens = sum(r["loss"] for r in last) / len(last), sum(r["tokens"] for r in log)
    minutes = sum(r["seconds"] for r in log) / 60
    return f"| {name} | {len(log):,} | {tokens:,} | {loss:.3f} | {minutes:.0f} |"
