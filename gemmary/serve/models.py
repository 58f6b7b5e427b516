"""The models of a server, by name."""

from __future__ import annotations

from collections.abc import Mapping

from ..engine.model import Model
from ..errors import GemmaryError


class UnknownModelError(GemmaryError):
    """No model of this name is here."""

    def __init__(self) -> None:
        super().__init__("there is no model of this name: GET /v1/models lists those that are here")


class Models:
    """Models by name. Each was loaded with `streams`."""

    def __init__(self, models: Mapping[str, Model], default: str | None = None) -> None:
        """`default`: who answers where no model is named; None: the first."""
        self._models = dict(models)
        self.default = default if default is not None else next(iter(self._models))

    @property
    def names(self) -> list[str]:
        """Names of all models, the default first."""
        return sorted(self._models, key=lambda name: name != self.default)

    def find(self, name: str | None) -> Model:
        """The model of this name. UnknownModelError."""
        model = self._models.get(self.default if name is None else name)
        if model is None:
            raise UnknownModelError
        return model
