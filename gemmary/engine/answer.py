"""Tokens -> the pieces of an answer: whole characters, stop strings, log-probabilities, tool calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ..inputs.stream import StopStrings, TextStream
from ..inputs.tokenizer import Tokenizer
from ..inputs.tools import ToolCall, parse_tool_calls
from .generate import Request, Run, generate
from .reply import FinishReason, Piece, Reply, Timings, TokenLogprob, Usage
from .runner import Runner
from .sampling import Draw
from .thread import EngineThread


class Answer:
    """One running request, as an iterator of pieces or as a whole reply. Use one of the two, once."""

    def __init__(
        self,
        runner: Runner,
        thread: EngineThread,
        tokenizer: Tokenizer,
        request: Request,
        stop: StopStrings,
        tools: bool,
    ) -> None:
        self._run = Run()
        self._draws = generate(runner, thread, request, self._run)
        self._request = request
        self._tokenizer = tokenizer
        self._stop = stop
        self._tools = tools
        self._text = ""
        self._ids: list[int] = []

    def pieces(self) -> Iterator[Piece]:
        """Piece after piece; the last has finish_reason, usage and timings. close() cancels."""
        stream, shown = TextStream(self._tokenizer), 0
        logprobs: list[TokenLogprob] = []
        text = ""
        try:
            for draw in self._draws:
                self._ids.append(draw.id)
                logprobs += self._logprob(draw)
                text = self._show(stream.push(draw.id))
                if self._stop.found is not None or self._run.end is not None:
                    break
                if text:
                    yield Piece(text, tuple(self._ids[shown:]), logprobs=self._given(logprobs))
                    text, shown, logprobs = "", len(self._ids), []
            self._draws.close()
            text += self._show(stream.finish()) + self._rest()
            yield self._last(text, tuple(self._ids[shown:]), logprobs)
        finally:
            self._draws.close()

    def _show(self, text: str) -> str:
        """What of the new text may be shown now; it is also added to the whole."""
        shown = self._stop.push(text)
        self._text += shown
        return shown

    def _rest(self) -> str:
        """The text that the stop strings kept back."""
        rest = self._stop.finish()
        self._text += rest
        return rest

    def reply(self) -> Reply:
        """The whole answer."""
        logprobs: list[TokenLogprob] = []
        last = Piece("")
        for last in self.pieces():
            logprobs += last.logprobs or ()
        if last.finish_reason is None or last.usage is None or last.timings is None:
            raise RuntimeError("an answer ended without its last piece")
        calls = tuple(parse_tool_calls(self._text)) if last.finish_reason == "tool_calls" else ()
        message: dict[str, Any] = {"role": "assistant", "content": self._text}
        if calls:
            message["tool_calls"] = [_call_message(n, call) for n, call in enumerate(calls)]
        return Reply(
            self._text, tuple(self._ids), message, last.finish_reason, last.usage, last.timings, calls, self._given(logprobs)
        )

    def _last(self, text: str, ids: tuple[int, ...], logprobs: list[TokenLogprob]) -> Piece:
        run, prompt = self._run, len(self._request.ids)
        return Piece(
            text,
            ids,
            self._finish_reason(),
            self._given(logprobs),
            Usage(prompt, len(self._ids), run.cached),
            Timings(run.prefill_seconds, run.decode_seconds, prompt - run.cached, len(self._ids)),
        )

    def _finish_reason(self) -> FinishReason:
        if self._tools and self._run.end in ("stop", None) and parse_tool_calls(self._text):
            return "tool_calls"
        return "stop" if self._stop.found is not None else self._run.end or "stop"

    def _given(self, logprobs: list[TokenLogprob]) -> tuple[TokenLogprob, ...] | None:
        return None if self._request.sampler.sampling.logprobs is None else tuple(logprobs)

    def _logprob(self, draw: Draw) -> list[TokenLogprob]:
        if self._request.sampler.sampling.logprobs is None:
            return []
        name = self._name
        top = tuple((token, name(token), value) for token, value in draw.top)
        return [TokenLogprob(draw.id, name(draw.id), draw.logprob, top)]

    def _name(self, token: int) -> str:
        return self._tokenizer.piece_bytes(token).decode("utf-8", "replace")


def _call_message(number: int, call: ToolCall) -> dict[str, Any]:
    """A tool call as OpenAI's messages hold it."""
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {"id": f"call_{number}", "type": "function", "function": {"name": call.name, "arguments": arguments}}
