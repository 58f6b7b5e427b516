"""The card says what stages recorded, and no more: also of a folder that was cut, or made by older code."""

from __future__ import annotations

import json
from pathlib import Path

from gemmary.config import NANO
from gemmary.recipes.card import card

SCORES = {"perplexity": {}, "commands": {}, "pictures": {}, "pan and scan": {}}


def stage(folder: Path, name: str, seconds: float, device: str | None, behind: str = "") -> Path:
    """The folder of a stage of two steps; without a device it has no run.json."""
    path = folder / name
    path.mkdir()
    lines = [{"step": n, "loss": 2.0 * n, "tokens": 600, "seconds": seconds / 2} for n in (1, 2)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (path / "log.jsonl").write_text(text + behind, encoding="utf-8")
    if device is not None:
        (path / "run.json").write_text(json.dumps({"device": device}), encoding="utf-8")
    return path


def made(folder: Path, *stages: Path) -> str:
    (folder / "scores.json").write_text(json.dumps(SCORES), encoding="utf-8")
    return card(NANO, folder / "scores.json", {path.name: path for path in stages})


def test_devices_are_those_of_the_stages(tmp_path: Path) -> None:
    text = made(
        tmp_path,
        stage(tmp_path, "teacher", 3600, "NVIDIA H100, 85 GB"),
        stage(tmp_path, "pairs", 5400, "AMD EPYC, 2 cores"),
    )
    assert "| teacher | 2 | 1,200 | 3.000 | 60 | NVIDIA H100, 85 GB |" in text
    assert "| pairs | 2 | 1,200 | 3.000 | 90 | AMD EPYC, 2 cores |" in text
    assert "2.5 hours of training steps" in text
    assert "without a GPU" not in text and text.count(" cores") == 1


def test_a_half_written_line_and_a_folder_of_older_code_still_give_a_card(tmp_path: Path) -> None:
    bare = tmp_path / "long"
    bare.mkdir()
    text = made(tmp_path, stage(tmp_path, "tuned", 60, None, behind='{"step": 3, "lo'), bare)
    assert "| tuned | 2 | 1,200 | 3.000 | 1 | not recorded |" in text
    assert "| long | not recorded | | | | not recorded |" in text
