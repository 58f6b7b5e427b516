"""Why something was not kept. Nothing is left out of a training set without one of these."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """In the order of the stages; the text is what the report says."""

    UNREADABLE = "the file cannot be read"
    UNKNOWN = "the file is of no kind that is read"
    EMPTY = "empty"
    BINARY = "binary, not text"
    DAMAGED = "the file is damaged or breaks off"
    NOT_UTF8 = "not UTF-8"
    LONG_LINE = "a line longer than any record"
    BROKEN_JSON = "broken JSON"
    NO_TEXT = "no text in the named fields"
    BAD_QUALITY = "quality is not a number from a millionth to a million"
    NO_PICTURE = "no picture in the named field"
    BAD_PICTURE = "the picture does not decode"
    SHORT = "too short"
    GARBLED = "characters lost in an earlier conversion"
    SYMBOLS = "mostly symbols"
    REPETITIVE = "repeats itself"
    CONTAMINATED = "shares 13 words in a row with an evaluation"
    DUPLICATE = "the same as another document"
    NEAR_DUPLICATE = "nearly the same as another document"
    NOT_SAMPLED = "sound, but not drawn for the mixture"
