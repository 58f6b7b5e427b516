"""Strips for pan & scan: every picture whole and in order, and long enough to be cut."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gemmary.inputs.crops import PanAndScan
from gemmary.recipes.studies.scan import SHOWN, SQUARE, _strip

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


@pytest.mark.parametrize("number", range(6))
def test_strips(number: int) -> None:
    made = _strip([Image.new("RGB", (SQUARE, SQUARE), colour) for colour in COLOURS], number)
    pixels = np.asarray(made if number % 2 == 0 else made.transpose(Image.Transpose.TRANSPOSE))
    assert pixels.shape == (SQUARE, (SHOWN + 1) * SQUARE, 3)
    places = [np.flatnonzero((pixels[0] == colour).all(-1)) for colour in COLOURS]
    assert [len(place) for place in places] == [SQUARE] * SHOWN
    assert places[0].max() < places[1].min() <= places[1].max() < places[2].min()
    assert len(PanAndScan().boxes(*made.size)) == SHOWN + 1
