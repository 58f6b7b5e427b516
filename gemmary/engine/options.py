"""What a request may ask for, beside its text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from ..inputs.crops import PanAndScan
from .request import Progress
from .sampling import Sampling


class Options(TypedDict, total=False):
    """The keywords that `Model.chat` and `Model.generate` share; their defaults and meaning stand there."""

    max_tokens: int | None
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float] | None
    seed: int | None
    stop: str | Sequence[str]
    schema: Mapping[str, Any] | str | None
    tools: Sequence[Mapping[str, Any]] | None
    pan_and_scan: bool | PanAndScan
    logprobs: int | None
    progress: Progress | None
    speculate: bool


@dataclass(frozen=True)
class Order:
    """What a server asks for; the fields mean what they do in `Model.generate`."""

    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    stop: Sequence[str] = ()
    schema: Mapping[str, Any] | str | None = None
    tools: bool = False
