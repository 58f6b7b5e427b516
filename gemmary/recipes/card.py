"""The model card: card.md, filled in from the scores of a run and from what its stages have recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Config
from ..train import about, log
from ..train.journal import LOG

TEXT = Path(__file__).parent / "card.md"
UNKNOWN = "not recorded"


@dataclass(frozen=True)
class Stage:
    """A stage that trains: its steps, and the device of its last start as run.json has it."""

    name: str
    records: tuple[log.Record, ...]
    device: str

    @property
    def seconds(self) -> float:
        """Of all steps; "seconds" may be missing in a line of the log."""
        return sum(record.get("seconds", 0.0) for record in self.records)


def card(config: Config, scored: Path, folders: Mapping[str, Path]) -> str:
    """The card of a run: its scores.json, and the folder of each stage that trains."""
    scores = json.loads(scored.read_text(encoding="utf-8"))
    stages = [
        Stage(name, log.read(folder / LOG).records, about.read(folder).device or UNKNOWN)
        for name, folder in folders.items()
    ]
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
        stages="\n".join(map(_stage, stages)), hours=sum(stage.seconds for stage in stages) / 3600,
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


def _stage(stage: Stage) -> str:
    if not stage.records:
        return f"| {stage.name} | {UNKNOWN} | | | | {stage.device} |"
    last = stage.records[-50:]
    loss, tokens = sum(r["loss"] for r in last) / len(last), sum(r["tokens"] for r in stage.records)
    figures = f"{len(stage.records):,} | {tokens:,} | {loss:.3f} | {stage.seconds / 60:.0f}"
    return f"| {stage.name} | {figures} | {stage.device} |"
