"""What cleaning changes, and what it refuses."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmary.train.data.cleaning import clean, fault
from gemmary.train.data.reasons import Reason

PROSE = "It was the best of times, it was the worst of times, it was the age of wisdom."


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("\ufeffa\0b\x1bc", "abc"),
        ("cafe\u0301", "café"),
        ("a\n\n\n\n\n\nb", "a\n\n\nb"),
        ("  \n a  \n", "a"),
        ("def f():\n    return\t1", "def f():\n    return\t1"),
    ],
)
def test_one_spelling(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned


@given(st.text())
def test_clean_is_clean(text: str) -> None:
    assert clean(clean(text)) == clean(text)
    assert unicodedata.is_normalized("NFC", clean(text))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, None),
        ("हर व्यक्ति को जीवन, स्वतंत्रता और वैयक्तिक सुरक्षा का अधिकार है।", None),
        ("すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。", None),
        ("short", Reason.SHORT),
        ("", Reason.SHORT),
        (PROSE + " caf\ufffd", Reason.GARBLED),
        ("=-=-=-=-" * 9, Reason.SYMBOLS),
        ("Buy now! " * 100, Reason.REPETITIVE),
    ],
)
def test_what_is_refused(text: str, reason: Reason | None) -> None:
    assert fault(text, 40) == reason
