"""SentencePiece's model file (a protobuf message, tokenizer.model) <-> Vocabulary.

The library never sees a message that somebody else wrote: a file is read here, checked to be a Gemma
tokenizer, and written anew with nothing but pieces, scores, kinds and Gemma's fixed settings. Character maps,
self-tests and whatever else a hostile file may carry stay behind.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ..errors import ModelFileError
from .vocabulary import Vocabulary

BPE = 2  # TrainerSpec.ModelType
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # protobuf's wire types

# Field numbers of sentencepiece_model.proto: ModelProto, SentencePiece, TrainerSpec, NormalizerSpec.
PIECES, TRAINER, NORMALIZER, DENORMALIZER = 1, 2, 3, 5
PIECE, SCORE, KIND = 1, 2, 3
MODEL_TYPE, SUFFIX, BYTE_FALLBACK = 3, 24, 35
CHARACTER_MAP, DUMMY_PREFIX, REMOVE_SPACES, ESCAPE_SPACES = 2, 3, 4, 5

_FLOAT = struct.Struct("<f")
_COMMON = b"\x0a%c\x0a%c%b\x15%b\x18%c"  # _piece for short pieces: 0.3 s less at 262k pieces
Value = int | bytes | float


class _Damaged(Exception):
    """The bytes are not a protobuf message."""


def read_model(data: bytes, source: object) -> Vocabulary:
    """The vocabulary of a SentencePiece model; ModelFileError when it is damaged or not Gemma's kind."""
    rows: list[tuple[str, float, int]] = []
    settings: dict[int, dict[int, Value]] = {TRAINER: {}, NORMALIZER: {}, DENORMALIZER: {}}
    try:
        for number, value in _fields(data):
            if number == PIECES:
                rows.append(_row(_bytes(value)))
            elif number in settings:
                settings[number].update(_fields(_bytes(value)))
    except (_Damaged, UnicodeDecodeError):
        raise ModelFileError(source, "is damaged, or not a SentencePiece model") from None
    _check(settings, source)
    pieces, scores, kinds = zip(*rows, strict=True) if rows else ((), (), ())
    return Vocabulary(source, pieces, kinds, scores)


def write_model(vocabulary: Vocabulary) -> bytes:
    """A SentencePiece model with Gemma's settings: BPE, byte fallback, text kept as it is."""
    scores = vocabulary.scores.astype("<f4").tobytes()
    rows = zip(
        (piece.encode() for piece in vocabulary.pieces),
        (scores[i : i + 4] for i in range(0, len(scores), 4)),
        vocabulary.kinds,
        strict=True,
    )
    parts = [_COMMON % (len(p) + 9, len(p), p, s, k) if len(p) < 119 else _piece(p, s, k) for p, s, k in rows]
    trainer = _flag(MODEL_TYPE, BPE) + _flag(BYTE_FALLBACK, 1)
    normalizer = _flag(DUMMY_PREFIX, 0) + _flag(REMOVE_SPACES, 0) + _flag(ESCAPE_SPACES, 1)
    return b"".join(parts) + _message(TRAINER, trainer) + _message(NORMALIZER, normalizer)


def _check(settings: dict[int, dict[int, Value]], source: object) -> None:
    """Refuse what would tokenise differently from Gemma. Absent fields have protobuf's defaults."""
    trainer, normalizer = settings[TRAINER], settings[NORMALIZER]
    wanted = {
        "it is not a BPE model": trainer.get(MODEL_TYPE, 1) == BPE,
        "it has no byte fallback": trainer.get(BYTE_FALLBACK, 0) == 1,
        "it writes spaces behind words": trainer.get(SUFFIX, 0) == 0,
        "it adds a space in front of the text": normalizer.get(DUMMY_PREFIX, 1) == 0,
        "it removes spaces": normalizer.get(REMOVE_SPACES, 1) == 0,
        "it does not mark spaces": normalizer.get(ESCAPE_SPACES, 1) == 1,
        "it rewrites characters": not normalizer.get(CHARACTER_MAP),
        "it rewrites characters of its output": not settings[DENORMALIZER].get(CHARACTER_MAP),
    }
    for fault, fine in wanted.items():
        if not fine:
            raise ModelFileError(source, f"is not a Gemma tokenizer: {fault}")


def _row(body: bytes) -> tuple[str, float, int]:
    """Piece, score and kind of one SentencePiece message."""
    return _usual_row(body) or _any_row(body)


def _usual_row(body: bytes) -> tuple[str, float, int] | None:
    """The same for the form that SentencePiece itself writes: 1 s less at 262k pieces."""
    if len(body) < 8 or body[0] != 0x0A or body[1] > 127:
        return None
    end, kind = 2 + body[1], 1
    if len(body) == end + 7 and body[end + 5] == 0x18:
        kind = body[end + 6]
    elif len(body) != end + 5:
        return None
    return (body[2:end].decode(), _FLOAT.unpack_from(body, end + 1)[0], kind) if body[end] == 0x15 else None


def _any_row(body: bytes) -> tuple[str, float, int]:
    piece, score, kind = "", 0.0, 1
    for number, field in _fields(body):
        if number == PIECE:
            piece = _bytes(field).decode()
        elif number == SCORE and isinstance(field, float):
            score = field
        elif number == KIND and isinstance(field, int):
            kind = min(field, 127)  # anything above 6 is refused by Vocabulary
    return piece, score, kind


def _bytes(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise _Damaged
    return value


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Field numbers and values of a message. Each length is compared with what is left before it is used."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        wire, size = tag & 7, 0
        if wire == VARINT:
            value, position = _varint(data, position)
            yield tag >> 3, value
            continue
        if wire == LENGTH:
            size, position = _varint(data, position)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise _Damaged
        if size > end - position:
            raise _Damaged
        chunk = data[position : position + size]
        position += size
        yield tag >> 3, _FLOAT.unpack(chunk)[0] if wire == FIXED32 else chunk


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at `position` (7 bits a byte, low first) and where the next field starts."""
    if position < len(data) and data[position] < 128:
        return data[position], position + 1
    value = 0
    for shift, byte in enumerate(data[position : position + 10]):
        value |= (byte & 127) << (7 * shift)
        if byte < 128:
            return value, position + shift + 1
    raise _Damaged


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _flag(number: int, value: int) -> bytes:
    return _encoded(number << 3 | VARINT) + _encoded(value)


def _message(number: int, body: bytes) -> bytes:
    return _encoded(number << 3 | LENGTH) + _encoded(len(body)) + body


def _piece(piece: bytes, score: bytes, kind: int) -> bytes:
    number = _encoded(SCORE << 3 | FIXED32)
    return _message(PIECES, _message(PIECE, piece) + number + score + _flag(KIND, kind))
