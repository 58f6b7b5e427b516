"""A receipt, a banner and a long list, at full size: crops, pixels and ids are those of transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gemmary.config import VisionConfig
from gemmary.inputs.crops import PanAndScan
from gemmary.inputs.prompt import brightness
from gemmary.inputs.tokenizer import Tokenizer
from gemmary.inputs.turns import chat_prompt

from . import drawn
from .test_chat_pictures import official, seen
from .test_turns import part, user

BOXES = {
    drawn.receipt: [(0, 0, 420, 517), (0, 517, 420, 1034)],
    drawn.banner: [(0, 0, 600, 420), (600, 0, 1200, 420), (1200, 0, 1800, 420), (1800, 0, 2400, 420)],
    drawn.tall_list: [(0, 0, 500, 763), (0, 763, 500, 1526), (0, 1526, 500, 2289), (0, 2289, 500, 3050)],
}


@pytest.mark.parametrize("draw", BOXES)
def test_documents(draw: Callable[[], Image.Image], tokenizer: Tokenizer, processor: Any) -> None:
    image = draw()
    assert PanAndScan().boxes(*image.size) == BOXES[draw]
    messages = [user([seen(image), part("Read this to me.")])]
    size = {"height": 896, "width": 896}
    reference = official(processor, messages, do_pan_and_scan=True, size=size)
    prompt = chat_prompt(tokenizer, messages, VisionConfig(tokens=4), pan_and_scan=True)
    assert prompt.ids == reference["input_ids"][0]
    assert prompt.pixels is not None and prompt.pixels.shape == (1 + len(BOXES[draw]), 3, 896, 896)
    assert (brightness(prompt.pixels) == np.stack(reference["pixel_values"])).all()
