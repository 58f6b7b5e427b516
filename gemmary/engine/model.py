"""A loaded model: what `gemmary.load` returns."""

from __future__ import annotations

import secrets
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from ..config import Config
from ..errors import ContextFullError, ImageError, MemoryBudgetError, PromptError
from ..inputs.prompt import Prompt
from ..inputs.stream import StopStrings
from ..inputs.tokenizer import Tokenizer
from ..inputs.turns import chat_ids
from ..model.text import Decoder
from ..ops.contract import Floats, Full, Targets
from .answer import Answer
from .generate import Constraint, Progress, Request
from .reply import Piece, Reply
from .runner import Runner
from .sampling import Sampler, Sampling
from .schema import SchemaConstraint
from .thread import EngineThread

MAX_LOGITS_BYTES = 2_000_000_000
Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Score:
    """How likely a continuation is: log-probability of each token, and whether greedy decoding gives it."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    greedy: bool

    @property
    def total(self) -> float:
        """Log-probability of the whole continuation."""
        return sum(self.logprobs)


class Model(AbstractContextManager["Model"]):
    """Gemma 3, ready to talk. Thread-safe: streams take turns, step by step. Close it, or use it in a `with`.

    config: sizes. tokenizer: text <-> ids. context: tokens that prompt and answer may have together.
    """

    def __init__(
        self, decoder: Decoder, config: Config, tokenizer: Tokenizer, context: int, thread: EngineThread
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.context = context
        self._thread = thread
        self._runner = Runner(decoder, config, context)
        self._closed = False
        self._lock = threading.Lock()
        self._requests: weakref.WeakSet[Request] = weakref.WeakSet()
        self._choices = _choices(tokenizer, config.vocab)

    def prompt(
        self, messages: Messages, pan_and_scan: bool = False, tools: Tools | None = None, strict: bool = False
    ) -> Prompt:
        """The ids of a conversation in Gemma's chat format (report, table 4).

        Messages with the same role in a row are merged; `strict` raises PromptError as the official
        template does. A final assistant message is continued.
        """
        if pan_and_scan:
            raise ImageError("this version reads text only: leave pan_and_scan off")
        return Prompt(chat_ids(self.tokenizer, messages, tools=tools, strict=strict))

    @overload
    def chat(self, messages: Messages, stream: Literal[False] = False, **rest: Any) -> Reply: ...
    @overload
    def chat(self, messages: Messages, stream: Literal[True], **rest: Any) -> Iterator[Piece]: ...
    def chat(
        self,
        messages: Messages,
        stream: bool = False,
        max_tokens: int | None = None,
        temperature: float = 1.0,
        top_k: int = 64,
        top_p: float = 0.95,
        min_p: float = 0.0,
        repeat_penalty: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        logit_bias: Mapping[int, float] | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        schema: Mapping[str, Any] | str | None = None,
        tools: Tools | None = None,
        pan_and_scan: bool = False,
        logprobs: int | None = None,
        progress: Progress | None = None,
    ) -> Reply | Iterator[Piece]:
        """Answer a conversation.

        Returns a Reply; with `stream`, an iterator of Piece whose close() cancels. Temperature 0 is
        greedy; the other defaults are Gemma's own. `seed` fixes the text. `stop` strings end it and are not
        part of it. `schema` (JSON schema) makes the answer valid JSON for it. `logprobs` asks for
        the log-probability of each token and that many alternatives. `progress(done, total)` is called while the
        prompt is read; returning False cancels. PromptError and ContextFullError say what to change.
        """
        prompt = self.prompt(messages, pan_and_scan=pan_and_scan, tools=tools)
        sampling = Sampling(
            temperature, top_k, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty,
            dict(logit_bias or {}), secrets.randbits(63) if seed is None else seed, logprobs,
        )  # fmt: skip
        answer = self._answer(prompt.ids, sampling, max_tokens, stop, schema, progress, bool(tools))
        return answer.pieces() if stream else answer.reply()

    @overload
    def generate(self, prompt: Prompt | str | Sequence[int], stream: Literal[False] = False, **rest: Any) -> Reply: ...
    @overload
    def generate(self, prompt: Prompt | str | Sequence[int], stream: Literal[True], **rest: Any) -> Iterator[Piece]: ...
    def generate(
        self,
        prompt: Prompt | str | Sequence[int],
        stream: bool = False,
        max_tokens: int | None = None,
        temperature: float = 1.0,
        top_k: int = 64,
        top_p: float = 0.95,
        min_p: float = 0.0,
        repeat_penalty: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        logit_bias: Mapping[int, float] | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        schema: Mapping[str, Any] | str | None = None,
        logprobs: int | None = None,
        progress: Progress | None = None,
    ) -> Reply | Iterator[Piece]:
        """Continue a text (<bos> is put in front), ids (taken as they are) or a Prompt; see `chat`."""
        sampling = Sampling(
            temperature, top_k, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty,
            dict(logit_bias or {}), secrets.randbits(63) if seed is None else seed, logprobs,
        )  # fmt: skip
        answer = self._answer(self._ids(prompt), sampling, max_tokens, stop, schema, progress, False)
        return answer.pieces() if stream else answer.reply()

    def logits(self, prompt: Prompt | str | Sequence[int], rows: Sequence[int] | None = None) -> Floats:
        """Logits float32 [len(rows), V] after each token of `rows` (None: all T). Refuses more than 2 GB."""
        ids = self._ids(prompt)
        chosen = list(range(len(ids))) if rows is None else [_row(r, len(ids)) for r in rows]
        if len(chosen) * self.config.vocab * 4 > MAX_LOGITS_BYTES:
            raise MemoryBudgetError(
                f"{len(chosen)} rows of {self.config.vocab} logits take more than 2 GB: ask for fewer rows"
            )
        found: Floats = self._rows(ids, chosen, Full())
        return np.asarray(found)

    def score(self, prompt: Prompt | str | Sequence[int], continuation: str | Sequence[int]) -> Score:
        """Log-probability of each token of `continuation` after `prompt`, and whether greedy would say it."""
        ids = self._ids(prompt)
        more = self.tokenizer.encode(continuation) if isinstance(continuation, str) else list(continuation)
        if not more:
            raise PromptError("the continuation is empty: there is nothing to score")
        rows = list(range(len(ids) - 1, len(ids) + len(more) - 1))
        found = self._rows([*ids, *self._known(more)], rows, Targets(np.array(more, np.int32)))
        logprobs = tuple(float(x) for x in np.float64(found.logits) - found.lse)
        return Score(tuple(more), logprobs, bool((found.best == np.array(more)).all()))

    def encode_image(self, image: object) -> Floats:
        """Soft tokens of a picture. This version reads text only: always ImageError."""
        raise ImageError("this version reads text only: pictures cannot be encoded yet")

    def close(self) -> None:
        """Stop running answers and free the memory. Every later call is a PromptError."""
        self._closed = True
        with self._lock:
            for request in self._requests:
                request.cancel.set()
        self._thread.close()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(
        self,
        ids: list[int],
        sampling: Sampling,
        max_tokens: int | None,
        stop: str | Sequence[str],
        schema: Mapping[str, Any] | str | None,
        progress: Progress | None,
        tools: bool,
    ) -> Answer:
        self._check_open()
        sampling.check(self.config.vocab)
        if max_tokens is not None and (isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1):
            raise PromptError(f"max_tokens must be a whole number above 0, not {max_tokens!r}")
        request = Request(
            ids=ids,
            sampler=Sampler(sampling, ids, self.config.vocab, self._choices),
            stops=self.tokenizer.stops,
            max_tokens=max_tokens,
            constraint=self._constraint(schema),
            progress=progress,
        )
        with self._lock:
            self._requests.add(request)
        return Answer(self._runner, self._thread, self.tokenizer, request, StopStrings(_strings(stop)), tools)

    def _constraint(self, schema: Mapping[str, Any] | str | None) -> Constraint | None:
        if schema is None:
            return None
        plain = schema if isinstance(schema, str) else dict(schema)
        return SchemaConstraint(self.tokenizer, self.config.vocab, plain)

    def _rows(self, ids: list[int], rows: list[int], want: Full | Targets) -> Any:
        """Answers for chosen rows of a text, computed in chunks."""
        self._check_open()
        if len(ids) > self.context:
            raise ContextFullError(
                f"the text has {len(ids)} tokens and the context holds {self.context}: shorten it, "
                "or load the model with a larger context"
            )
        return self._thread.run(lambda: self._runner.rows(ids, rows, want))

    def _ids(self, prompt: Prompt | str | Sequence[int]) -> list[int]:
        if isinstance(prompt, Prompt):
            return list(prompt.ids)
        if isinstance(prompt, str):
            start = [] if self.tokenizer.bos is None else [self.tokenizer.bos]
            return [*start, *self.tokenizer.encode(prompt)]
        if not len(prompt):
            raise PromptError("the prompt is empty: give at least one token")
        return self._known(prompt)

    def _known(self, ids: Sequence[int]) -> list[int]:
        """Ids as Python integers, each a row of the table."""
        if not all(isinstance(i, int | np.integer) and 0 <= i < self.config.vocab for i in ids):
            raise PromptError(f"token ids must be whole numbers from 0 to {self.config.vocab - 1}")
        return [int(i) for i in ids]

    def _check_open(self) -> None:
        if self._closed:
            raise PromptError("this model is closed: load it again")


def _row(row: int, length: int) -> int:
    if not -length <= row < length:
        raise PromptError(f"row {row} does not exist: the text has {length} tokens")
    return row % length


def _strings(stop: str | Sequence[str]) -> Sequence[str]:
    return (stop,) if isinstance(stop, str) else stop


def _choices(tokenizer: Tokenizer, vocab: int) -> npt.NDArray[np.bool_]:
    """What may be generated, bool [V]: text, and the ends of a turn; no picture marks, no padding."""
    allowed = np.zeros(vocab, np.bool_)
    allowed[: tokenizer.vocab] = True
    allowed[[i for i in tokenizer.controls if i < vocab]] = False
    allowed[[i for i in tokenizer.stops if i < vocab]] = True
    return allowed
