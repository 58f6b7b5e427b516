"""Answers that fit a JSON schema, token by token (llguidance, in the `serve` extra)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import PromptError
from ..inputs.tokenizer import Tokenizer
from .schemabounds import MAX_SCHEMA, check
from .schemabounds import SchemaError as SchemaError

TOO_HARD = "the schema is too hard to follow: make it simpler"


class _Vocabulary:
    """What llguidance asks of a tokenizer."""

    def __init__(self, tokenizer: Tokenizer, vocab: int) -> None:
        self._tokenizer = tokenizer
        self.bos_token_id = tokenizer.bos
        self.eos_token_id = min(tokenizer.stops)
        known = range(min(vocab, tokenizer.vocab))
        self.tokens = [tokenizer.piece_bytes(i) for i in known] + [b""] * (vocab - len(known))
        self.special_token_ids = sorted(i for i in tokenizer.controls if i < vocab)

    def __call__(self, text: bytes | str) -> list[int]:
        return self._tokenizer.encode(text.decode() if isinstance(text, bytes) else text)


class Schemas:
    """Constraints for one tokenizer, whose vocabulary is prepared once, when the first schema comes."""

    def __init__(self, tokenizer: Tokenizer, vocab: int) -> None:
        self._tokenizer = tokenizer
        self._vocab = vocab
        self._prepared: Any = None
        self._lock = threading.Lock()

    def constraint(self, schema: Mapping[str, Any] | str) -> SchemaConstraint:
        """A fresh constraint. PromptError: llguidance is missing; SchemaError: the schema cannot be used."""
        try:
            import llguidance
        except ImportError:
            raise PromptError('schema= needs llguidance: pip install "gemmary[serve]"') from None
        text = _json(schema)
        check(text)
        if not self._tokenizer.stops:
            raise PromptError("this model has no token that ends an answer, so no schema can be followed")
        vocabulary = self._vocabulary(llguidance)
        with panics():
            try:
                # Free white space invites models to loop on it.
                translate = llguidance.LLMatcher.grammar_from_json_schema
                grammar = translate(text, overrides={"whitespace_flexible": False})
            except ValueError as fault:
                raise SchemaError(f"this JSON schema cannot be used: {_short(fault)}") from None
            matcher = llguidance.LLMatcher(vocabulary, grammar, log_level=0)
        if matcher.is_error():
            raise SchemaError(f"this JSON schema cannot be used: {_short(matcher.get_error())}")
        constraint = SchemaConstraint(matcher, self._vocab)
        constraint.allowed()  # what is wrong at the start is said now, not in the engine
        return constraint

    def _vocabulary(self, llguidance: Any) -> Any:
        with self._lock:
            if self._prepared is None:
                wrapped = llguidance.TokenizerWrapper(_Vocabulary(self._tokenizer, self._vocab))
                # Models end their turn with one token, files name another: behind the JSON both may come.
                stops = sorted(self._tokenizer.stops)
                self._prepared = llguidance.LLTokenizer(wrapped, eos_token=stops)
            return self._prepared


class SchemaConstraint:
    """Allows only tokens that keep the answer a beginning of valid JSON for the schema."""

    def __init__(self, matcher: Any, vocab: int) -> None:
        self._matcher = matcher
        self._bits = np.zeros(-(-vocab // 32), np.int32)
        self._vocab = vocab

    def allowed(self) -> npt.NDArray[np.bool_]:
        """bool [V] of the tokens that may come next."""
        with panics():
            self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        self._check()
        return np.unpackbits(self._bits.view(np.uint8), bitorder="little")[: self._vocab].astype(np.bool_)

    def accept(self, token: int) -> bool:
        """Take the chosen token; True when the JSON is complete."""
        with panics():
            self._matcher.consume_token(token)
        self._check()
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise SchemaError(TOO_HARD)  # the matcher's own words quote the answer


@contextmanager
def panics() -> Iterator[None]:
    """A panic of llguidance becomes a SchemaError: pyo3's class for it is no Exception."""
    try:
        yield
    except BaseException as fault:
        if type(fault).__name__ != "PanicException":
            raise
        raise SchemaError(TOO_HARD) from None


def _short(fault: object) -> str:
    """The first line of an error of llguidance; what follows is its inner state."""
    return str(fault).partition("\n")[0][:200]


def _json(schema: object) -> str:
    if isinstance(schema, Mapping):
        try:
            schema = json.dumps(dict(schema), allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise SchemaError("the schema must be plain JSON") from None
    if not isinstance(schema, str):
        raise SchemaError(f"the schema must be an object, or JSON text of at most {MAX_SCHEMA:,} characters")
    return schema
