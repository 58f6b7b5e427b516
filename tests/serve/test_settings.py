"""Flags come before the environment, that before the file; what is wrong is refused with a sentence."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import pytest

from gemmary.cli.serve import command
from gemmary.serve.settings import Settings, SettingsError, read

KEY = "sk-canary-0123456789"


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GEMMARY_")]:
        monkeypatch.delenv(name)


def written(folder: Path, text: str) -> Path:
    path = folder / "serve.toml"
    path.write_text(text)
    return path


def test_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, 'port = 1\nstreams = 2\nqueue = 3\nmodels = ["a", "b"]')
    monkeypatch.setenv("GEMMARY_STREAMS", "20")
    monkeypatch.setenv("GEMMARY_QUEUE", "30")
    settings = read({"config": path, "queue": 300})
    assert (settings.port, settings.streams, settings.queue, settings.stall) == (1, 20, 300, 60.0)
    assert settings.models == ("a", "b")


def test_the_environment_names_the_file_and_splits_at_commas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMMARY_CONFIG", str(written(tmp_path, "port = 1")))
    monkeypatch.setenv("GEMMARY_HOSTS", "a.example, b.example")
    settings = read()
    assert (settings.port, settings.hosts) == (1, ("a.example", "b.example"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('prot = 1', "there is no setting 'prot'; is port meant?"),
        ('port = "8000"', "port: must be a valid integer"),
        ("port = true", "port: must be a valid integer"),
        ("port = 70000", "port: must be less than or equal to 65535"),
        ("port = 8000.0", "port: must be a valid integer"),
        ('log = "loud"', "log: must be 'plain' or 'json'"),
        ("hosts = [1]", "hosts: must be a valid string"),
        ('config = "other.toml"', "there is no setting 'config'"),
        ("port = ", "is not TOML"),
        ("drain = nan", "drain: must be a finite number"),
    ],
)  # fmt: skip
def test_a_file_is_read_strictly(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=r"serve\.toml") as fault:
        read({"config": written(tmp_path, text)})
    assert said in str(fault.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read({"config": tmp_path / "none.toml"})


def test_a_variable_that_means_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMMARY_API_KEYS", KEY)  # would leave the server open
    with pytest.raises(SettingsError, match="is api_key meant"):
        read()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "server.local"])
def test_others_need_a_key(host: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--no-key"):
        read({"host": host})
    keys = tmp_path / "keys"
    keys.write_text(f"# of the team\n{KEY}\n\n")
    assert read({"host": host, "api_key_file": keys}).keys == (KEY,)
    assert read({"host": host, "no_key": True}).keys == ()


@pytest.mark.parametrize("key", ["short", "with a blank in it", "ümlaut-ümlaut", "new\nline-new-line"])
def test_a_key_is_what_a_header_can_carry(key: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="8 to 512") as fault:
        read({"api_key": (key,)})
    assert key not in str(fault.value)


@pytest.mark.parametrize("text", ["", "# nothing\n", "short\n", "two words here\n"])
def test_a_file_of_keys_has_keys(text: str, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(SettingsError, match="a key on each line"):
        read({"api_key_file": path})


def test_keys_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMMARY_API_KEY", f"{KEY},{KEY}2")
    settings = read()
    assert settings.keys == (KEY, f"{KEY}2")
    assert KEY not in f"{settings!r} {settings} {settings.model_dump()}"


def test_each_setting_is_a_flag() -> None:
    signature = inspect.signature(command(Settings.model_fields))
    assert set(signature.parameters) == set(Settings.model_fields)
    kinds: dict[str, Any] = {name: p.annotation.__origin__ for name, p in signature.parameters.items()}
    assert kinds["port"] == int | None and kinds["hosts"] == list[str] | None
    assert all(field.description for field in Settings.model_fields.values())
