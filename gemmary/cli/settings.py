"""Sampling parameters by name, as flags and `/set` give them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ..errors import PromptError


@dataclass(frozen=True)
class Settings:
    """What an answer is drawn with; the defaults are Gemma's own. None: no limit, a new seed each time."""

    temperature: float = 1.0
    top_k: int = 64
    top_p: float = 0.95
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    max_tokens: int | None = None

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of Model.chat."""
        return asdict(self)

    def changed(self, name: str, value: str) -> Settings:
        """A copy with one setting read from text; PromptError says what is possible."""
        name = name.lower().replace("-", "_")
        kinds = {field.name: str(field.type) for field in fields(self)}
        if name not in kinds:
            raise PromptError(f"there is no setting {name!r}; there are {', '.join(kinds)}")
        kind = kinds[name]
        nothing = "None" in kind and value.lower() in ("none", "off")
        change: dict[str, Any] = {name: None if nothing else _number(name, value, "float" in kind)}
        changed = replace(self, **change)
        changed.check()
        return changed

    def check(self) -> None:
        """PromptError where a value makes no sense."""
        from ..engine.sampling import Sampling

        values: Mapping[str, Any] = self.arguments()
        rest = {key: value for key, value in values.items() if key not in ("seed", "max_tokens")}
        Sampling(**rest, seed=self.seed or 0).check(0)
        if self.max_tokens is not None and self.max_tokens < 1:
            raise PromptError(f"max_tokens must be at least 1, not {self.max_tokens}")

    def lines(self) -> list[str]:
        """One line a setting."""
        names = {"seed": "new each time", "max_tokens": "no limit"}
        return [f"{key:18} {names[key] if value is None else value}" for key, value in asdict(self).items()]


def _number(name: str, text: str, fraction: bool) -> float | int:
    try:
        return float(text) if fraction else int(text)
    except ValueError:
        kind = "a number" if fraction else "a whole number"
        raise PromptError(f"{name} must be {kind}, not {text!r}") from None
