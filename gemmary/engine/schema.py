"""Answers that fit a JSON schema, token by token (llguidance, in the `serve` extra)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import PromptError
from ..inputs.tokenizer import Tokenizer


class _Vocabulary:
    """What llguidance asks of a tokenizer (spec: dependencies.md)."""

    def __init__(self, tokenizer: Tokenizer, vocab: int) -> None:
        self._tokenizer = tokenizer
        self.bos_token_id = tokenizer.bos
        self.eos_token_id = tokenizer.eos
        known = range(min(vocab, tokenizer.vocab))
        self.tokens = [tokenizer.piece_bytes(i) for i in known] + [b""] * (vocab - len(known))
        self.special_token_ids = sorted(tokenizer.controls)

    def __call__(self, text: bytes | str) -> list[int]:
        return self._tokenizer.encode(text.decode() if isinstance(text, bytes) else text)


class SchemaConstraint:
    """Allows only tokens that keep the answer a beginning of valid JSON for the schema."""

    def __init__(self, tokenizer: Tokenizer, vocab: int, schema: dict[str, Any] | str) -> None:
        try:
            import llguidance
            import llguidance.numpy
        except ImportError:
            raise PromptError('schema= needs llguidance: pip install "gemmary[serve]"') from None
        self._masks = llguidance.numpy
        text = schema if isinstance(schema, str) else json.dumps(schema)
        tokens = llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Vocabulary(tokenizer, vocab)))
        try:
            # Free white space invites models to loop on it.
            grammar = llguidance.LLMatcher.grammar_from_json_schema(text, overrides={"whitespace_flexible": False})
        except ValueError as fault:
            raise PromptError(f"this JSON schema cannot be used: {fault}") from None
        self._matcher = llguidance.LLMatcher(tokens, grammar)
        if self._matcher.is_error():
            raise PromptError(f"this JSON schema cannot be used: {self._matcher.get_error()}")
        self._bits = self._masks.allocate_token_bitmask(1, vocab)
        self._vocab = vocab

    def allowed(self) -> npt.NDArray[np.bool_]:
        """bool [V] of the tokens that may come next."""
        self._masks.fill_next_token_bitmask(self._matcher, self._bits, 0)
        return np.unpackbits(self._bits.view(np.uint8)[0], bitorder="little")[: self._vocab].astype(np.bool_)

    def accept(self, token: int) -> bool:
        """Take the chosen token; True when the JSON is complete."""
        self._matcher.consume_token(token)
        return bool(self._matcher.is_stopped())
