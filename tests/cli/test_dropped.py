"""What terminals write when a file is dragged into them."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import pytest

from gemmary.cli.dropped import files, split
from gemmary.errors import PromptError

NAMES = ("a.png", "my photo.JPG", "it's.webp", "müll & co.gif", "x.heic", "notes.txt", "two.png three.png")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pics").mkdir()
    for name in (*NAMES, "pics/deep.png"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("{}/a.png", ["a.png"]),
        ("{}/a.png ", ["a.png"]),
        ("what is {}/a.png?", ["what is ", "a.png", "?"]),
        (r"{}/my\ photo.JPG tell me", ["my photo.JPG", " tell me"]),
        ("'{}/my photo.JPG' tell me", ["my photo.JPG", " tell me"]),
        ('"{}/my photo.JPG" tell me', ["my photo.JPG", " tell me"]),
        ("{}/my photo.JPG tell me", ["my photo.JPG", " tell me"]),
        (r"'{}/it'\''s.webp'", ["it's.webp"]),
        ("{}/it's.webp", ["it's.webp"]),
        ("file://{}/my%20photo.JPG", ["my photo.JPG"]),
        ("file://localhost{}/a.png\nfile://{}/a.png", ["a.png", "a.png"]),
        (f"file://{{}}/{quote('müll & co.gif')} ok", ["müll & co.gif", " ok"]),
        ("~/a.png", ["a.png"]),
        ("./a.png and pics/deep.png", ["a.png", " and ", "pics/deep.png"]),
        ("{}/x.heic", ["x.heic"]),
        ("{}/two.png three.png", ["two.png three.png"]),
        ("compare {}/a.png with {}/a.png!", ["compare ", "a.png", " with ", "a.png", "!"]),
    ],
)
def test_paths_become_pictures(folder: Path, typed: str, found: list[str]) -> None:
    parts = split(typed.replace("{}", str(folder)))
    names = [os.path.relpath(part, folder) if isinstance(part, Path) else part for part in parts]
    assert names == [name.replace("./", "") for name in found]
    assert all(part.is_file() for part in parts if isinstance(part, Path))


@pytest.mark.parametrize(
    "typed",
    [
        "how do I shrink a.png", "'a.png'", "{}/gone.png", "{}/notes.txt", "{}/pics", "see https://x.org/a.png",
        "and/or, 1/2", "{}/a.pngs", "x{}/a.png", "a\0b/c.png", "/" * 3000 + ".png", "don't / do 'it",
    ],
)  # fmt: skip
def test_the_rest_stays_text(folder: Path, typed: str) -> None:
    text = typed.replace("{}", str(folder))
    assert split(text) == [text]


def test_a_long_text_is_quick() -> None:
    split("a/b.png " * 5000)


def test_words_of_a_command(folder: Path) -> None:
    home = str(folder)
    assert files(r"a.png my\ photo.JPG 'it'\''s.webp' ~/gone.png") == [
        Path("a.png"), Path("my photo.JPG"), Path("it's.webp"), Path(home, "gone.png"),
    ]  # fmt: skip
    assert files("my photo.JPG") == [Path("my photo.JPG")]
    assert files(f"file://{home}/my%20photo.JPG") == [folder / "my photo.JPG"]
    with pytest.raises(PromptError, match="a quote is not closed"):
        files("'a.png")
