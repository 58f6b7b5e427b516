"""What a request gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ..inputs.tools import ToolCall

FinishReason = Literal["stop", "length", "context_full", "cancelled", "tool_calls"]


@dataclass(frozen=True)
class TokenLogprob:
    """One token of the answer: its log-probability, and the best alternatives (id, text, log-probability).

    They are natural logarithms under the model's own distribution, before temperature, penalties and bias.
    """

    id: int
    text: str
    logprob: float
    top: tuple[tuple[int, str, float], ...] = ()


@dataclass(frozen=True)
class Usage:
    """Token counts. `cached_tokens` of the prompt came from the prefix cache."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class Timings:
    """Seconds of prefill and decode, waiting for other streams included, and the speeds that follow.

    Of `drafted_tokens`, guessed and then checked, `accepted_tokens` were what the model said.
    """

    prefill: float
    decode: float
    prefill_tokens: int
    decode_tokens: int
    drafted_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def prefill_speed(self) -> float:
        """Prompt tokens computed a second."""
        return self.prefill_tokens / self.prefill if self.prefill else 0.0

    @property
    def decode_speed(self) -> float:
        """Answer tokens a second."""
        return self.decode_tokens / self.decode if self.decode else 0.0


@dataclass(frozen=True)
class Piece:
    """A stretch of a streamed answer. The last one has finish_reason, usage and timings.

    `text` holds whole characters; all pieces joined are the text of the Reply, and so for ids and logprobs.
    """

    text: str
    ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    usage: Usage | None = None
    timings: Timings | None = None


@dataclass(frozen=True)
class Reply:
    """A whole answer.

    text: what the model said, up to a stop string. ids: the tokens made, those of a stop string included, the
    end of the turn not. message: the answer in the shape of a chat message, ready to be appended to the
    conversation. finish_reason: "stop" (the model ended, or a stop string came), "length" (max_tokens),
    "context_full", "cancelled" or "tool_calls". logprobs: one for each of `ids`, where they were asked for.
    """

    text: str
    ids: tuple[int, ...]
    message: dict[str, Any]
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    tool_calls: tuple[ToolCall, ...] = field(default=())
    logprobs: tuple[TokenLogprob, ...] | None = None
