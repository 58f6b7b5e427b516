"""A SentencePiece vocabulary with Gemma's settings and first 494 ids, at any size."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import sentencepiece

from ..errors import GemmaryError
from ..inputs.sentencepiece_model import read_model, write_model
from ..inputs.vocabulary import Kind, Vocabulary

PAD, EOS, BOS, UNK, START_OF_TURN, END_OF_TURN = 0, 1, 2, 3, 105, 106
FIRST_BYTE = 238
_MARKS = ("<mask>", "[multimodal]", *(f"<unused{i}>" for i in range(99)), "<start_of_turn>", "<end_of_turn>")
_RUNS = (*("\n" * n for n in range(1, 32)), *("▁" * n for n in range(2, 32)))
_TABLE = ("table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td")
_HEADS = ("h1", "h2", "h3", "h4", "h5", "h6", "blockquote")
_STYLES = ("strong", "em", "b", "i", "u", "s", "sub", "sup", "code")
_BLOCKS = ("p", "ul", "ol", "li", "a", "div", "span", "pre", "kbd", "dl", "dd")
_TAGS = tuple(
    f"<{end}{tag}>" for tags in (_TABLE, _HEADS, _STYLES, _BLOCKS) for end in ("", "/") for tag in tags
)
_IMAGE = ("<start_of_image>", "<end_of_image>", "<image_soft_token>")

SETTINGS: dict[str, Any] = {
    "model_type": "bpe",
    "pad_id": PAD, "eos_id": EOS, "bos_id": BOS, "unk_id": UNK,
    "pad_piece": "<pad>", "eos_piece": "<eos>", "bos_piece": "<bos>", "unk_piece": "<unk>",
    "user_defined_symbols": [*_MARKS, *_RUNS, *_TAGS],
    "byte_fallback": True, "split_digits": True, "allow_whitespace_only_pieces": True,
    "normalization_rule_name": "identity", "add_dummy_prefix": False, "remove_extra_whitespaces": False,
    "character_coverage": 0.9999, "max_sentence_length": 16384, "num_threads": 2, "minloglevel": 2,
}  # fmt: skip


def train_vocabulary(texts: Iterable[str], size: int) -> bytes:
    """A serialized SentencePiece model of exactly `size` pieces; the last three are the image marks.

    It depends on the texts and their order alone. GemmaryError: there is too little text for as many pieces.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=model, vocab_size=size - len(_IMAGE), **SETTINGS
        )
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2]
        raise GemmaryError(
            f"a vocabulary of {size:,} pieces cannot be made from these texts ({reason}): "
            "name another size, or give more text"
        ) from error
    return _with_control_pieces(model.getvalue())


def _with_control_pieces(serialized: bytes) -> bytes:
    """Marks become control pieces, so that no text can produce them; image marks are added at the end."""
    trained = read_model(serialized, "the new vocabulary")
    kinds = list(trained.kinds)
    kinds[4 : 4 + len(_MARKS)] = [Kind.CONTROL] * len(_MARKS)
    kinds += [Kind.CONTROL] * len(_IMAGE)
    scores = [*trained.scores, *(0.0 for _ in _IMAGE)]
    return write_model(Vocabulary("the new vocabulary", [*trained.pieces, *_IMAGE], kinds, scores))
