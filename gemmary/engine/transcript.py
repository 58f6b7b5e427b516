"""Draws -> an answer as people read it: whole characters, stop strings, log-probabilities, tool calls."""

from __future__ import annotations

from typing import Any

from ..inputs.stream import StopStrings, TextStream
from ..inputs.tokenizer import Tokenizer
from ..inputs.tools import ToolCall, parse_tool_calls
from .reply import FinishReason, Piece, Reply, Timings, TokenLogprob, Usage
from .request import Request, Run
from .sampling import Draw


class Transcript:
    """The answer to one request: `push` each draw; when `over`, or nothing follows, `finish`."""

    def __init__(
        self, tokenizer: Tokenizer, request: Request, run: Run, stop: StopStrings, tools: bool
    ) -> None:
        """`tools`: whether an answer may be a call of functions."""
        self.request, self.run = request, run
        self._tokenizer, self._stop, self._tools = tokenizer, stop, tools
        self._stream = TextStream(tokenizer)
        self._text = ""  # of the whole answer
        self._ids: list[int] = []
        self._calls: list[ToolCall] = []
        self._logprobs: list[TokenLogprob] = []  # of the next piece
        self._new, self._shown = "", 0  # text of the next piece, ids of those before

    @property
    def over(self) -> bool:
        """Whether a stop string came up: nothing behind it counts."""
        return self._stop.found is not None

    @property
    def stopped_by(self) -> str | None:
        """The stop string that came up."""
        return self._stop.found

    def push(self, draw: Draw) -> Piece | None:
        """Take a draw: what there is to show now, if anything. The last draw's text is for `finish`."""
        self._ids.append(draw.id)
        self._logprobs += self._logprob(draw)
        new = self._stop.push(self._stream.push(draw.id))
        self._text += new
        self._new += new
        if not self._new or self.over or self.run.end is not None:
            return None
        return self._piece(None)

    def finish(self) -> Piece:
        """The last piece, once `run.end` says why the draws ended, or a stop string came up."""
        rest = self._stop.push(self._stream.finish()) + self._stop.finish()
        self._text += rest
        self._new += rest
        return self._piece(self._reason())

    def reply(self, pieces: list[Piece]) -> Reply:
        """The whole answer, from all its pieces."""
        last = pieces[-1]
        if last.finish_reason is None or last.usage is None or last.timings is None:
            raise RuntimeError("an answer ended without its last piece")
        logprobs = [entry for piece in pieces for entry in piece.logprobs or ()]
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

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls of functions that the answer turned out to be, after `finish`."""
        return tuple(self._calls)

    def _piece(self, reason: FinishReason | None) -> Piece:
        ids, logprobs = tuple(self._ids[self._shown :]), self._given(self._logprobs)
        text, self._new, self._shown, self._logprobs = self._new, "", len(self._ids), []
        if reason is None:
            return Piece(text, ids, logprobs=logprobs)
        return Piece(text, ids, reason, logprobs, self._usage(), self._timings())

    def _reason(self) -> FinishReason:
        """Why the answer ended; a whole answer may turn out to be a call of functions."""
        end = "stop" if self.over else self.run.end or "stop"
        if end == "stop" and self._tools:
            self._calls = parse_tool_calls(self._text)
        return "tool_calls" if self._calls else end

    def _usage(self) -> Usage:
        return Usage(len(self.request.ids), len(self._ids), self.run.cached)

    def _timings(self) -> Timings:
        run = self.run
        prefilled = len(self.request.ids) - run.cached
        seconds = run.prefill_seconds, run.decode_seconds
        return Timings(*seconds, prefilled, len(self._ids), run.drafted, run.accepted)

    def _message(self) -> dict[str, Any]:
        """As OpenAI's API has it: calls instead of text, or text."""
        if not self._calls:
            return {"role": "assistant", "content": self._text}
        calls = [call.message() for call in self._calls]
        return {"role": "assistant", "content": None, "tool_calls": calls}

    def _given(self, logprobs: list[TokenLogprob]) -> tuple[TokenLogprob, ...] | None:
        return None if self.request.sampler.sampling.logprobs is None else tuple(logprobs)

    def _logprob(self, draw: Draw) -> list[TokenLogprob]:
        if draw.logprob is None:
            return []
        top = tuple((token, self._name(token), value) for token, value in draw.top)
        return [TokenLogprob(draw.id, self._name(draw.id), draw.logprob, top)]

    def _name(self, token: int) -> str:
        return self._tokenizer.piece_bytes(token).decode("utf-8", "replace")
