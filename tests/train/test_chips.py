"""How chips are written on the command line."""

from __future__ import annotations

import pytest

from gemmary.errors import GemmaryError
from gemmary.train.chips import CHIPS, read_chips


@pytest.mark.parametrize(
    "text, count, name",
    [("64xH100", 64, "H100"), ("H200", 1, "H200"), (" 8 X a100 ", 8, "A100"), ("512xv5e", 512, "TPUv5e"),
     ("6144*TPUv5p", 6144, "TPUv5p"), ("4×tpuv4", 4, "TPUv4")],
)  # fmt: skip
def test_reads(text: str, count: int, name: str) -> None:
    assert read_chips(text) == (count, CHIPS[name.lower()])


@pytest.mark.parametrize(
    "text, fault",
    [("", "64xH100"), ("64", "64xH100"), ("xH100", "xH100 is not known"),
     ("-8xH100", "64xH100"), ("8xB300", "B300 is not"),
     ("0xH100", "at least one"), ("9999999xH100", "64xH100"), ("8xH100; rm", "64xH100")],
)  # fmt: skip
def test_refuses_and_says_what_to_write(text: str, fault: str) -> None:
    with pytest.raises(GemmaryError, match=fault):
        read_chips(text)
