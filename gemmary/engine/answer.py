"""Tokens -> an answer: whole characters, stop strings, log-probabilities, tool calls."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from ..inputs.stream import StopStrings, TextStream
from ..inputs.tokenizer import Tokenizer
from ..inputs.tools import ToolCall, parse_tool_calls
from .generate import generate
from .reply import FinishReason, Piece, Reply, Timings, TokenLogprob, Usage
from .request import Request, Run
from .runner import Runner
from .sampling import Draw
from .thread import EngineThread


class Stream(Iterator[Piece], AbstractContextManager["Stream"]):
    """The pieces of an answer while it is made.

    close() ends it within 0.1 s, from any thread, and frees its memory; so do leaving a `with` and dropping
    the stream. A thread that waits for a piece meanwhile gets the last one, with finish_reason "cancelled".
    """

    def __init__(self, pieces: Generator[Piece, None, None], cancel: threading.Event, run: Run) -> None:
        self._pieces = pieces
        self._run = run
        self._inside = False
        self._cancel = cancel
        self._lock = threading.RLock()

    def __next__(self) -> Piece:
        with self._lock:
            self._inside = True
            try:
                return next(self._pieces)
            finally:
                self._inside = False

    @property
    def unseen(self) -> float:
        """Pictures that have to be encoded before the prompt is read further; it falls while they are."""
        return self._run.unseen

    def close(self) -> None:
        """End the answer. Closing twice, or after the end, does nothing."""
        self._cancel.set()
        with self._lock:
            if not self._inside:  # `progress` may close it from inside: then it ends by itself
                self._pieces.close()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Answer:
    """One request, as a stream of pieces or as a whole reply. Use one of the two, once."""

    def __init__(
        self,
        runner: Runner,
        thread: EngineThread,
        tokenizer: Tokenizer,
        request: Request,
        stop: StopStrings,
        tools: bool,
    ) -> None:
        """`tools`: whether an answer may be a call of functions."""
        self._run = Run()
        self._draws = generate(runner, thread, request, self._run)
        self._request = request
        self._tokenizer = tokenizer
        self._stop = stop
        self._tools = tools
        self._text = ""
        self._ids: list[int] = []
        self._calls: list[ToolCall] = []

    def stream(self) -> Stream:
        """The answer piece by piece. Nothing is computed before the first is asked for."""
        return Stream(self._pieces(), self._request.cancel, self._run)

    def reply(self) -> Reply:
        """The whole answer."""
        logprobs: list[TokenLogprob] = []
        last = Piece("")
        for last in self._pieces():
            logprobs += last.logprobs or ()
        if last.finish_reason is None or last.usage is None or last.timings is None:
            raise RuntimeError("an answer ended without its last piece")
        return Reply(
            self._text,
            tuple(self._ids),
            self._message(),
            last.finish_reason,
            last.usage,
            last.timings,
            tuple(self._calls),
            self._given(logprobs),
        )

    def _pieces(self) -> Generator[Piece, None, None]:
        stream = TextStream(self._tokenizer)
        text, shown = "", 0
        logprobs: list[TokenLogprob] = []
        try:
            for draw in self._draws:
                self._ids.append(draw.id)
                logprobs += self._logprob(draw)
                text = self._stop.push(stream.push(draw.id))
                self._text += text
                if self._stop.found is not None or self._run.end is not None:
                    break
                if text:
                    yield Piece(text, tuple(self._ids[shown:]), logprobs=self._given(logprobs))
                    text, shown, logprobs = "", len(self._ids), []
        finally:
            self._draws.close()
        rest = self._stop.push(stream.finish()) + self._stop.finish()
        self._text += rest
        reason = self._reason()
        ids = tuple(self._ids[shown:])
        yield Piece(text + rest, ids, reason, self._given(logprobs), self._usage(), self._timings())

    def _reason(self) -> FinishReason:
        """Why the answer ended; a whole answer may turn out to be a call of functions."""
        end = "stop" if self._stop.found is not None else self._run.end or "stop"
        if end == "stop" and self._tools:
            self._calls = parse_tool_calls(self._text)
        return "tool_calls" if self._calls else end

    def _usage(self) -> Usage:
        return Usage(len(self._request.ids), len(self._ids), self._run.cached)

    def _timings(self) -> Timings:
        run = self._run
        prefilled = len(self._request.ids) - run.cached
        seconds = run.prefill_seconds, run.decode_seconds
        return Timings(*seconds, prefilled, len(self._ids), run.drafted, run.accepted)

    def _message(self) -> dict[str, Any]:
        """As OpenAI's API has it: calls instead of text, or text."""
        if not self._calls:
            return {"role": "assistant", "content": self._text}
        calls = [call.message() for call in self._calls]
        return {"role": "assistant", "content": None, "tool_calls": calls}

    def _given(self, logprobs: list[TokenLogprob]) -> tuple[TokenLogprob, ...] | None:
        return None if self._request.sampler.sampling.logprobs is None else tuple(logprobs)

    def _logprob(self, draw: Draw) -> list[TokenLogprob]:
        if draw.logprob is None:
            return []
        top = tuple((token, self._name(token), value) for token, value in draw.top)
        return [TokenLogprob(draw.id, self._name(draw.id), draw.logprob, top)]

    def _name(self, token: int) -> str:
        return self._tokenizer.piece_bytes(token).decode("utf-8", "replace")
