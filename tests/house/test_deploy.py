"""What is in deploy/ starts a server: its settings are settings, and its numbers go together."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from gemmary.serve.settings import OTHERS, PREFIX, Settings, SettingsError, read

ROOT = Path(__file__).parents[2]
TOML = ROOT / "deploy/serve.toml"
UNIT = (ROOT / "deploy/gemmary.service").read_text("utf-8")
DOCKER = (ROOT / "deploy/Dockerfile").read_text("utf-8").replace("\\\n", " ")
PAGES = (*sorted((ROOT / "deploy").iterdir()), ROOT / "docs/deploy.md", ROOT / "docs/replicas.md")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A file of keys, as docs/deploy.md makes it."""
    (tmp_path / "keys").write_text("0123456789abcdef" * 3 + "\n")
    return tmp_path / "keys"


def entries(name: str) -> list[str]:
    """Values of a name in the unit."""
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


def stated(pairs: list[str], monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Put NAME=VALUE into the environment where it is ours; the names."""
    said = dict(pair.split("=", 1) for pair in pairs)
    ours = {name: value for name, value in said.items() if name.startswith(PREFIX)}
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    return set(ours)


def test_the_file_of_settings_is_read() -> None:
    settings = read({"config": TOML})
    assert settings.models and settings.loopback and settings.context
    assert settings.log == "json"


def test_the_unit_starts_a_server_with_its_keys(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [pair.replace("%d", str(keys.parent)) for pair in entries("Environment")]
    assert stated(said, monkeypatch) == {"GEMMARY_API_KEY_FILE"}
    assert [credential.split(":")[0] for credential in entries("LoadCredential")] == [keys.name]
    (start,) = entries("ExecStart")
    program, verb, *flags = shlex.split(start)
    assert (Path(program).name, verb, flags[::2]) == ("gemmary", "serve", ["--config"])
    assert Path(flags[1]).name == TOML.name
    settings = read({"config": TOML})
    assert settings.keys == (keys.read_text().strip(),)
    assert int(entries("TimeoutStopSec")[0]) > settings.drain + 10, "answers have their time to end"
    assert int(entries("LimitNOFILE")[0]) > settings.connections


def test_the_container_listens_and_asks_for_a_key(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (said,) = re.findall(r"^ENV (.*)$", DOCKER, re.MULTILINE)
    assert stated(shlex.split(said), monkeypatch) == {"GEMMARY_HOST", "GEMMARY_LOG"}
    with pytest.raises(SettingsError, match="lets other machines ask"):
        read()
    monkeypatch.setenv("GEMMARY_API_KEY_FILE", str(keys))
    settings = read({"models": ["/models/gemma-3-4b-it-q4_0.gguf"]})
    assert (settings.host, settings.log, len(settings.keys)) == ("0.0.0.0", "json", 1)
    assert re.findall(r"^EXPOSE (\d+)$", DOCKER, re.MULTILINE) == [str(settings.port)]
    assert re.findall(r"http://127\.0\.0\.1:(\d+)/health", DOCKER) == [str(settings.port)]
    assert re.findall(r"^ENTRYPOINT (.*)$", DOCKER, re.MULTILINE) == ['["gemmary", "serve"]']


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_of_settings_are_settings(page: Path) -> None:
    text = page.read_text("utf-8")
    names = set(re.findall(rf"{PREFIX}([A-Z_]*[A-Z])", text))
    assert {name for name in names if name.lower() not in Settings.model_fields} <= OTHERS
