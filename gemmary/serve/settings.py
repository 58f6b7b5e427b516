"""What a server is told when it starts: flags, GEMMARY_* in the environment."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings of the server; each can be given as GEMMARY_<NAME>."""

    model_config = SettingsConfigDict(env_prefix="GEMMARY_", extra="forbid", frozen=True)

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    streams: int = Field(default=8, ge=1, le=256, description="Answers that are written together.")
    queue: int = Field(default=64, ge=0, le=65536, description="Requests that may wait.")
    keep_alive: float = Field(default=15.0, gt=0, description="Seconds of silence before a comment is sent.")
    stall: float = Field(
        default=60.0, gt=0, description="Seconds that a client may take no data before it is left."
    )
    remote_pictures: bool = Field(default=False, description="Fetch pictures that a message names by a URL.")
    remote_hosts: frozenset[str] = Field(
        default=frozenset(), description="Fetch from these hosts only; none: any."
    )
