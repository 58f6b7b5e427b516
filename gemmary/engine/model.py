"""A loaded model: what `gemmary.load` returns."""

from __future__ import annotations

import secrets
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Literal, Unpack, overload

import numpy as np

from ..errors import ContextFullError, ImageError, MemoryBudgetError, PromptError
from ..inputs.crops import PanAndScan
from ..inputs.parts import NO_EYES
from ..inputs.prompt import Pixels, Prompt
from ..inputs.stream import StopStrings
from ..inputs.tokenizer import Tokenizer
from ..inputs.turns import chat_prompt
from ..ops.contract import Floats
from .answer import Answer, Stream
from .choices import choices
from .eyes import encode, numbered
from .generate import generate
from .options import Options, Order
from .passage import Listener
from .reply import Reply
from .request import Progress, Request, Run, Text
from .runner import Runner
from .sampling import Sampler, Sampling, check_whole
from .scheduler import Scheduler
from .schema import Schemas
from .score import Score, row_logits, score
from .thread import EngineThread
from .transcript import Transcript

MAX_LOGITS_BYTES = 2_000_000_000
_APART = 192  # tokens between two places of a prompt that are remembered
Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]
Words = Prompt | str | Sequence[int]


class Model(AbstractContextManager["Model"]):
    """Gemma 3, ready to talk. Thread-safe: streams take turns, step by step. Close it, or use it in a `with`.

    config: sizes. tokenizer: text <-> ids. context: tokens that prompt and answer may have together.
    """

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer,
        thread: EngineThread,
        streams: tuple[int, int] | None = None,
    ) -> None:
        """`streams`: how many texts run together, and how many more wait; None: they take turns."""
        self.config = runner.config
        self.tokenizer = tokenizer
        self.context = runner.context
        self._runner: Runner | None = runner
        self._thread = thread
        self._lock = threading.Lock()
        self._scheduler = None if streams is None else Scheduler(runner, thread, *streams)
        self._requests: weakref.WeakSet[Request] = weakref.WeakSet()
        self._choices = choices(tokenizer, self.config.vocab)
        self._schemas = Schemas(tokenizer, self.config.vocab)

    def prompt(
        self,
        messages: Messages,
        pan_and_scan: bool | PanAndScan = False,
        tools: Tools | None = None,
        strict: bool = False,
    ) -> Prompt:
        """The ids of a conversation in Gemma's chat format (report, table 4), and its pictures.

        Messages with the same role in a row are merged; `strict` raises PromptError as the official
        template does. A final assistant message is continued. `pan_and_scan`: whether, or how, pictures are
        shown in crops too (report, section 2.2). PromptError says what is wrong with a message, ImageError
        what is wrong with a picture, or that the model cannot see; ContextFullError that pictures alone are
        too long.
        """
        return chat_prompt(
            self.tokenizer,
            messages,
            self.config.vision,
            tools=tools,
            strict=strict,
            pan_and_scan=pan_and_scan,
            context=self.context,
        )

    @overload
    def chat(
        self, messages: Messages, stream: Literal[False] = False, **options: Unpack[Options]
    ) -> Reply: ...
    @overload
    def chat(self, messages: Messages, stream: Literal[True], **options: Unpack[Options]) -> Stream: ...
    @overload
    def chat(self, messages: Messages, stream: bool, **options: Unpack[Options]) -> Reply | Stream: ...
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
        pan_and_scan: bool | PanAndScan = False,
        logprobs: int | None = None,
        progress: Progress | None = None,
        speculate: bool = True,
    ) -> Reply | Stream:
        """Answer a conversation: a Reply or, with `stream`, an iterator of Piece whose close() cancels.

        messages: [{"role": "user" | "assistant" | "system" | "tool", "content": ...}, ...].
        max_tokens: the longest answer; None: what the context holds.
        temperature: 0 is greedy. top_k (0: all), top_p, min_p: which tokens may be drawn; see `Sampling`.
        repeat_penalty (1: none), presence_penalty, frequency_penalty (0: none), logit_bias ({id: added}).
        seed: the same seed gives the same text, whatever else runs; None: another text each time.
        stop: a string, or several; the answer ends in front of the first that comes up.
        schema: a JSON schema; the answer is JSON that fits it.
        tools: functions as OpenAI's API has them; calls come back in Reply.tool_calls.
        logprobs: log-probabilities of the answer's tokens, with that many alternatives each (0 to 20).
        progress: called as progress(done, total) while the prompt is read, every 50 ms or oftener;
            returning False cancels.
        speculate: guess tokens that the text suggests, and check several at once, where that is quicker; what
            is said is the same with and without.

        PromptError and ContextFullError say what to change; MemoryBudgetError: too many streams at once.
        """
        return self.generate(
            self.prompt(messages, pan_and_scan=pan_and_scan, tools=tools), stream, max_tokens=max_tokens,
            temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repeat_penalty=repeat_penalty,
            presence_penalty=presence_penalty, frequency_penalty=frequency_penalty, logit_bias=logit_bias,
            seed=seed, stop=stop, schema=schema, tools=tools, logprobs=logprobs, progress=progress,
            speculate=speculate,
        )  # fmt: skip

    @overload
    def generate(
        self, prompt: Words, stream: Literal[False] = False, **options: Unpack[Options]
    ) -> Reply: ...
    @overload
    def generate(self, prompt: Words, stream: Literal[True], **options: Unpack[Options]) -> Stream: ...
    @overload
    def generate(self, prompt: Words, stream: bool, **options: Unpack[Options]) -> Reply | Stream: ...
    def generate(
        self,
        prompt: Words,
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
        pan_and_scan: bool | PanAndScan = False,
        logprobs: int | None = None,
        progress: Progress | None = None,
        speculate: bool = True,
    ) -> Reply | Stream:
        """Continue a text (<bos> is put in front), ids (taken as they are) or a Prompt; no chat template.

        Parameters and errors are those of `chat`. With `tools` the answer is searched for calls; to tell the
        model about them is the prompt's part: `model.prompt(messages, tools=tools)`.
        """
        if pan_and_scan:
            raise PromptError(
                "pan_and_scan is for messages: model.prompt(messages, pan_and_scan=True), or chat"
            )
        sampling = Sampling(
            temperature, top_k, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty,
            {} if logit_bias is None else logit_bias,
            secrets.randbits(63) if seed is None else seed, logprobs,
        )  # fmt: skip
        request = self._request(prompt, sampling, max_tokens, schema)
        request.progress, request.speculate = progress, speculate
        stops, runner = _stops(stop), self._admit(request)
        run = Run()
        if self._scheduler is None:
            draws = generate(runner, self._thread, request, run)
        else:
            draws = self._scheduler.draws(request, run)
        answer = Answer(draws, Transcript(self.tokenizer, request, run, stops, bool(tools)))
        return answer.stream() if stream else answer.reply()

    def open(
        self,
        prompt: Words,
        listener: Listener,
        order: Order,
        owner: str = "",
        key: bytes = b"",
        promised: bool = False,
    ) -> Transcript:
        """Begin an answer among others (a model that was loaded with `streams`); for servers.

        `listener` gets the news of the text in the engine thread; push its draws to the transcript.
        Owners take turns; texts with another `key` share nothing that is remembered. Errors are those of
        `generate`, and QueueFullError where too many wait, unless it was `promised`: it is a further answer
        to somebody who was let in. To end it, set `transcript.request.cancel`.
        """
        if self._scheduler is None:
            raise PromptError("this model answers one text after the other: load it with streams=8")
        request = self._request(prompt, order.sampling, order.max_tokens, order.schema)
        request.key = key
        transcript = Transcript(self.tokenizer, request, Run(), _stops(order.stop), order.tools)
        self._admit(request)
        self._scheduler.open(request, transcript.run, listener, owner, promised)
        return transcript

    @property
    def scheduler(self) -> Scheduler | None:
        """What runs several texts in one step; None where they take turns."""
        return self._scheduler

    def _request(
        self,
        prompt: Words,
        sampling: Sampling,
        max_tokens: int | None,
        schema: Mapping[str, Any] | str | None,
    ) -> Request:
        sampling.check(self.config.vocab)
        if max_tokens is not None:
            check_whole("max_tokens", max_tokens, 1)
        text = self._text(prompt)
        self._check_room(len(text.ids) + 1)
        known = [token for token in text.ids if token >= 0]
        return Request(
            ids=text.ids,
            sampler=Sampler(sampling, known, self.config.vocab, self._choices),
            stops=self.tokenizer.stops,
            max_tokens=max_tokens,
            constraint=None if schema is None else self._schemas.constraint(schema),
            pixels=text.pixels,
            marks=_marks(text.ids, self.tokenizer.start_of_turn),
        )

    def logits(self, prompt: Words, rows: Sequence[int] | None = None) -> Floats:
        """Logits float32 [len(rows), V] after each token of `rows` (None: all T; -1 is the last).

        MemoryBudgetError, before anything is computed, for more than 2 GB.
        """
        runner, text = self._admit(), self._text(prompt)
        length = len(text.ids)
        chosen = range(length) if rows is None else _whole_numbers("rows", rows, -length, length - 1)
        if len(chosen) * self.config.vocab * 4 > MAX_LOGITS_BYTES:
            raise MemoryBudgetError(
                f"{len(chosen):,} rows of {self.config.vocab:,} logits exceed 2 GB: ask for fewer rows"
            )
        self._check_room(length)
        return row_logits(runner, self._thread, text, [row % length for row in chosen])

    def score(self, prompt: Words, continuation: str | Sequence[int]) -> Score:
        """Log-probability of each token of `continuation` after `prompt`, and whether greedy would say it."""
        runner, text = self._admit(), self._text(prompt)
        encode = self.tokenizer.encode
        more = encode(continuation) if isinstance(continuation, str) else self._known(continuation)
        if not more:
            raise PromptError("the continuation is empty: there is nothing to score")
        self._check_room(len(text.ids) + len(more))
        return score(runner, self._thread, text, more)

    def encode_image(self, image: object) -> Floats:
        """Soft tokens float32 [M, D] of a picture, squeezed into a square: what the decoder sees of it.

        image: a path, bytes, a data URL, a PIL image or an array. ImageError says what is wrong with it.
        """
        from ..inputs.views import look  # with Pillow, which text does not need

        runner = self._admit()
        if runner.eyes is None or self.config.vision is None:
            raise ImageError(NO_EYES)
        views = look(image, self.config.vision.image)
        number = runner.eyes.number(views.keys[0])
        return encode(runner.eyes, self._thread, number, views.pixels[0])

    def cancel(self) -> None:
        """End running and waiting answers within a step."""
        with self._lock:
            for request in self._requests:
                request.cancel.set()

    def close(self) -> None:
        """Cancel running answers and free the memory. Every later call is a PromptError."""
        with self._lock:
            self._runner = None
        self.cancel()
        self._thread.close()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _admit(self, request: Request | None = None) -> Runner:
        """What computes; `close` will cancel the request. PromptError when the model is closed."""
        with self._lock:
            if self._runner is None:
                raise PromptError("this model is closed: load it again")
            if request is not None:
                self._requests.add(request)
            return self._runner

    def _text(self, prompt: Words) -> Text:
        """What to compute, at least one id; PromptError or ImageError."""
        if isinstance(prompt, Prompt) and prompt.pixels is not None:
            return self._pictured(prompt, prompt.pixels)
        ids = self._encoded(prompt) if isinstance(prompt, str) else self._known(prompt)
        if not ids:
            raise PromptError("the prompt is empty: give at least one token")
        return Text(ids)

    def _pictured(self, prompt: Prompt, pixels: Pixels) -> Text:
        """A prompt whose soft tokens say which picture they belong to."""
        eyes, soft, vision = self._admit().eyes, self.tokenizer.soft, self.config.vision
        if eyes is None or soft is None or vision is None:
            raise ImageError(NO_EYES)
        if pixels.shape[1:] != (3, vision.image, vision.image):
            raise ImageError(
                f"this model wants pictures as uint8 or float32 [n, 3, {vision.image}, {vision.image}], not "
                f"{list(pixels.shape)}: let model.prompt make them"
            )
        numbers = [eyes.number(key) for key in prompt.keys]
        self._known([token for token in prompt.ids if token != soft])
        ids = numbered(prompt.ids, soft, numbers, eyes.tokens)
        return Text(ids, dict(zip(numbers, pixels, strict=True)))

    def _encoded(self, text: str) -> list[int]:
        """Ids of a text behind <bos>. One that is far too long is refused before it is tokenised."""
        self._check_room(len(text) // self.tokenizer.longest)
        start = [] if self.tokenizer.bos is None else [self.tokenizer.bos]
        return [*start, *self.tokenizer.encode(text)]

    def _known(self, prompt: Prompt | Sequence[int]) -> list[int]:
        """Ids as Python integers, each a row of the table."""
        ids = prompt.ids if isinstance(prompt, Prompt) else prompt
        return _whole_numbers("token ids", ids, 0, self.config.vocab - 1)

    def _check_room(self, tokens: int) -> None:
        if tokens > self.context:
            larger = ", or load the model with a larger context" if self.context < self.config.context else ""
            raise ContextFullError(
                f"this needs a context of {tokens:,} tokens or more, and the model was loaded with "
                f"{self.context:,}: shorten the text or drop older messages{larger}"
            )


def _whole_numbers(name: str, values: object, low: int, high: int) -> list[int]:
    if isinstance(values, bytes | str) or not isinstance(values, Sequence | np.ndarray):
        raise PromptError(f"{name} must be a list of whole numbers, not {type(values).__name__}")
    for value in values:
        check_whole(f"each of the {name}", value, low, high)
    return [int(value) for value in values]


def _marks(ids: Sequence[int], turn: int | None) -> tuple[int, ...]:
    """Ends of turns, far enough apart: an edited or regenerated conversation goes on from one of them."""
    marks: list[int] = []
    for place, token in enumerate(ids):
        if token == turn and place - (marks[-1] if marks else 0) >= _APART:
            marks.append(place)
    return tuple(marks)


def _stops(stop: str | Sequence[str]) -> StopStrings:
    if not isinstance(stop, str | Sequence) or isinstance(stop, bytes):
        raise PromptError(f"stop must be a string or a list of strings, not {type(stop).__name__}")
    return StopStrings(stop)
