"""Parameters of an answer by name, as flags and `/set` give them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from ..errors import PromptError

if TYPE_CHECKING:
    from ..inputs.crops import PanAndScan

WORDS = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}
OTHERS = ("seed", "max_tokens", "pan_and_scan", "tiles")  # all but what Sampling takes as it is


@dataclass(frozen=True)
class Settings:
    """What an answer is drawn with; the defaults are Gemma's own. None: no limit, a new seed each time.

    pan_and_scan, tiles: whether and how pictures are shown in crops too; see `PanAndScan`.
    """

    temperature: float = 1.0
    top_k: int = 64
    top_p: float = 0.95
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    max_tokens: int | None = None
    pan_and_scan: bool = False
    tiles: int | None = None

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of Model.chat."""
        return {name: value for name, value in asdict(self).items() if name != "tiles"} | {
            "pan_and_scan": self.crops
        }

    @property
    def crops(self) -> bool | PanAndScan:
        """How pictures are cut, as Model.prompt takes it; PromptError for tiles that are not possible."""
        from ..inputs.crops import PanAndScan

        return self.pan_and_scan if self.tiles is None else PanAndScan(tiles=self.tiles)

    def changed(self, name: str, value: str) -> Settings:
        """A copy with one setting read from text; PromptError says what is possible."""
        name = name.lower().replace("-", "_")
        kinds = {field.name: str(field.type) for field in fields(self)}
        if name not in kinds:
            raise PromptError(f"there is no setting {name!r}; there are {', '.join(kinds)}")
        kind = kinds[name]
        nothing = "None" in kind and value.lower() in ("none", "off")
        change: dict[str, Any] = {name: None if nothing else _value(name, value, kind)}
        changed = replace(self, **change)
        changed.check()
        return changed

    def check(self) -> None:
        """PromptError where a value makes no sense."""
        from ..engine.sampling import Sampling

        values: Mapping[str, Any] = self.arguments()
        rest = {key: value for key, value in values.items() if key not in OTHERS}
        Sampling(**rest, seed=self.seed or 0).check(0)
        if self.max_tokens is not None and self.max_tokens < 1:
            raise PromptError(f"max_tokens must be at least 1, not {self.max_tokens}")

    def lines(self) -> list[str]:
        """One line a setting."""
        return [f"{key:18} {_shown(key, value)}" for key, value in asdict(self).items()]


def _shown(name: str, value: object) -> str:
    nothing = {"seed": "new each time", "max_tokens": "no limit", "tiles": "none"}
    words = {True: "on", False: "off"}
    return nothing[name] if value is None else words[value] if isinstance(value, bool) else str(value)


def _value(name: str, text: str, kind: str) -> float | int | bool:
    if kind != "bool":
        return _number(name, text, "float" in kind)
    if text.lower() not in WORDS:
        raise PromptError(f"{name} must be on or off, not {text!r}")
    return WORDS[text.lower()]


def _number(name: str, text: str, fraction: bool) -> float | int:
    try:
        return float(text) if fraction else int(text)
    except ValueError:
        kind = "a number" if fraction else "a whole number"
        raise PromptError(f"{name} must be {kind}, not {text!r}") from None
