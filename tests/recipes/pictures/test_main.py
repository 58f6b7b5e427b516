"""The command writes pictures, their questions and a contact sheet."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from gemmary.recipes.pictures import Gallery
from gemmary.recipes.pictures.__main__ import main


def test_pictures_are_written(tmp_path: Path) -> None:
    main(["--out", str(tmp_path / "new"), "--count", "3", "--held", "--seed", "4"])
    lines = (tmp_path / "new/questions.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    for number, line in enumerate(lines):
        told, drawn = json.loads(line), Gallery(4, True).draw(number)
        assert told["exchanges"] == [list(exchange) for exchange in drawn.exchanges]
        assert Image.open(tmp_path / "new" / told["picture"]).tobytes() == drawn.picture.tobytes()
    assert Image.open(tmp_path / "new/contact.png").width > 224
