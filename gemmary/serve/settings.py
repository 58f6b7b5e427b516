"""What a server is told when it starts: flags, GEMMARY_* in the environment, a TOML file, in this order.

`gemmary serve` makes its flags from the fields below: name, bounds and help stand here only.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, SecretStr, TypeAdapter, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from ..errors import GemmaryError

PREFIX = "GEMMARY_"
# Variables that mean something elsewhere; any other GEMMARY_* that is no setting is a mistake.
OTHERS = {"CPU", "COMPLETE", "DATA", "FUZZ", "LLAMA", "ONNX", "PICTURES", "TRANSFORMERS"}
KEY = re.compile(r"[!-~]{8,512}")  # what a header can carry
MIB = 1 << 20

Many = Annotated[tuple[str, ...], NoDecode]  # a comma separates values in the environment


class SettingsError(GemmaryError, ValueError):
    """A setting that does not exist, or has a value that it cannot have."""


class Settings(BaseSettings):
    """Settings of the server."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, allow_inf_nan=False)

    models: Many = Field(default=(), description="Models to serve: files, folders or Hugging Face ids.")
    config: Path | None = Field(default=None, description="Read settings from this TOML file.")
    default: str | None = Field(
        default=None, description="Who answers where no model is named; the first if not said."
    )
    memory: float | None = Field(
        default=None, gt=0, description="Gigabytes that loaded models may take; the machine's if not said."
    )
    context: int | None = Field(default=None, ge=1, description="Tokens of prompt and answer together.")
    mmproj: Path | None = Field(
        default=None, description="The picture half of a GGUF model; the one beside it if not said."
    )
    threads: int | None = Field(default=None, ge=1, description="Cores to use; all if not said.")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    hosts: Many = Field(
        default=(), description="A name that browsers may call this server by; may be repeated."
    )
    origins: Many = Field(
        default=(), description="A web page's origin that may ask, as https://a.b; may be repeated."
    )

    api_key: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        description="Ask for this key; may be repeated. Others on this machine see flags: take a file.",
    )
    api_key_file: Path | None = Field(
        default=None, description="Ask for one of the keys in this file, one a line."
    )
    no_key: bool = Field(default=False, description="Listen beyond this machine without a key.")
    requests_per_key: int | None = Field(
        default=None, ge=1, description="Requests that a key, or without keys an address, may have at once."
    )

    streams: int = Field(default=8, ge=1, le=256, description="Answers that are written together.")
    queue: int = Field(default=64, ge=0, le=65536, description="Requests that may wait.")
    connections: int = Field(default=4096, ge=1, description="Connections that may be open.")
    max_tokens: int | None = Field(default=None, ge=1, description="Longest answer that may be asked for.")
    max_pictures: int = Field(default=16, ge=0, description="Pictures in a request.")
    max_body: int = Field(default=32 * MIB, ge=1024, description="Bytes of a request.")
    body_memory: int = Field(
        default=512 * MIB, ge=1024, description="Bytes of all requests that are worked on."
    )
    picture_memory: int = Field(
        default=1024 * MIB, ge=1024, description="Bytes of what the pictures of all requests become."
    )
    remote_pictures: bool = Field(default=False, description="Fetch pictures that a message names by a URL.")
    remote_hosts: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(), description="Fetch from this host only; may be repeated. None: any."
    )

    header_time: float = Field(default=10.0, gt=0, description="Seconds for the headers of a request.")
    body_time: float = Field(
        default=30.0, gt=0, description="Seconds for its body, and one more for each 16 KiB."
    )
    answer_time: float = Field(default=3600.0, gt=0, description="Seconds for an answer.")
    idle: float = Field(default=65.0, gt=0, description="Seconds that a connection may do nothing.")
    keep_alive: float = Field(default=15.0, gt=0, description="Seconds of silence before a comment is sent.")
    stall: float = Field(
        default=60.0, gt=0, description="Seconds that a client may take no data before it is left."
    )
    drain: float = Field(
        default=30.0, ge=0, description="Seconds that answers have to end when the server stops."
    )
    hang: float = Field(
        default=120.0, gt=0, description="Seconds after which a step that does not end is a fault."
    )

    history: Path | None = Field(
        default=None, description="The file of the web chat's conversations; one of your own if not said."
    )
    no_history: bool = Field(default=False, description="Keep no conversations.")
    log: Literal["plain", "json"] = Field(default="plain", description="Lines of the log: plain, or json.")
    access_log: bool = Field(default=True, description="A line for each request.")

    @field_validator(
        "models", "hosts", "origins", "api_key", "remote_hosts", mode="before", json_schema_input_type=Any
    )
    @classmethod
    def _split(cls, value: object) -> object:
        """The environment has one string for several values."""
        return (
            [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        )

    @field_validator("api_key")
    @classmethod
    def _check_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(not KEY.fullmatch(key.get_secret_value()) for key in keys):
            raise ValueError("a key has 8 to 512 letters, digits and signs, no blanks")
        return keys

    @field_validator("origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        if any(not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s]+", origin) for origin in origins):
            raise ValueError("an origin is written as https://a.b or http://a.b:3000, without a path")
        return origins

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: Any, env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource, file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
        """Flags, environment, file."""
        path = init_settings.init_kwargs.get("config") or os.environ.get(f"{PREFIX}CONFIG")
        return init_settings, env_settings, TomlFile(settings_cls, None if path is None else Path(path))

    @property
    def loopback(self) -> bool:
        """Whether only this machine can ask."""
        return self.host == "localhost" or self.host.startswith("127.") or self.host == "::1"

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys. SettingsError for a file that cannot be read."""
        said = [key.get_secret_value() for key in self.api_key]
        return tuple(dict.fromkeys([*said, *_keys_in(self.api_key_file)]))


class TomlFile(PydanticBaseSettingsSource):
    """Settings of a TOML file; types are TOML's own: "8000" is no number."""

    def __init__(self, settings: type[BaseSettings], path: Path | None) -> None:
        super().__init__(settings)
        self._path = path

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Not used: all values come at once."""
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        if self._path is None:
            return {}
        try:
            values = tomllib.loads(self._path.read_text(encoding="utf-8"))
        except OSError as fault:
            raise SettingsError(f"{self._path}: cannot be read: {fault.strerror}") from None
        except ValueError as fault:
            raise SettingsError(f"{self._path}: is not TOML: {fault}") from None
        for name, value in values.items():
            self._check(name, value)
        return values

    def _check(self, name: str, value: object) -> None:
        field = self.settings_cls.model_fields.get(name)
        if field is None or name == "config":
            raise SettingsError(f"{self._path}: {_unknown(name)}")
        bounded: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        kind: TypeAdapter[Any] = TypeAdapter(bounded, config=ConfigDict(allow_inf_nan=False))
        try:
            kind.validate_json(json.dumps(value, default=str), strict=True)
        except ValidationError as fault:
            raise SettingsError(f"{self._path}: {name}: {_wrong(fault)}") from None


def read(flags: Mapping[str, Any] | None = None) -> Settings:
    """The settings of a server that was started with `flags`. SettingsError says which is wrong and why."""
    for name in os.environ:
        known = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and known.lower() not in Settings.model_fields and known not in OTHERS:
            raise SettingsError(f"{name} in the environment: {_unknown(known.lower())}")
    try:
        settings = Settings(**dict(flags or {}))
    except ValidationError as fault:
        where = ".".join(str(part) for part in fault.errors()[0]["loc"][:1])
        raise SettingsError(f"{where}: {_wrong(fault)}") from None
    check(settings)
    return settings


def check(settings: Settings) -> None:
    """SettingsError where settings do not go together."""
    keys = settings.keys
    if not (settings.loopback or keys or settings.no_key):
        raise SettingsError(
            f"host {settings.host} lets other machines ask: say who may with --api-key-file FILE, or let "
            "everybody with --no-key"
        )
    if settings.mmproj is not None and len(settings.models) > 1:
        raise SettingsError("mmproj belongs to one model: put each picture half beside its model instead")


def _keys_in(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"api_key_file: {path} cannot be read") from None
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys or any(not KEY.fullmatch(key) for key in keys):
        raise SettingsError(
            f"api_key_file: {path} must have a key on each line: 8 to 512 letters, digits and signs, "
            "no blanks"
        )
    return keys


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, Settings.model_fields, 1)
    hint = f"; is {close[0]} meant?" if close else ": gemmary serve --help lists them"
    return f"there is no setting {name!r}{hint}"


def _wrong(fault: ValidationError) -> str:
    """Why a value is refused; the value is not repeated, for it may be a key."""
    said = str(fault.errors(include_input=False)[0]["msg"])
    return said.replace("Input should be", "must be").removeprefix("Value error, ")
