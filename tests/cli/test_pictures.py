"""Pictures in the chat: how they get into a message, what is said of them, what the model is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gemmary.cli.speaking import looking
from gemmary.config import SIZES
from gemmary.inputs.crops import PanAndScan

from .fakes import VIEW, FakeModel
from .terminals import FAKE, Terminal
from .test_session import chat
from .test_verbs import GEMMARY, Run, run, shell

__all__ = ["run"]
NO_EYES = "this model reads text only: leave the pictures out"
WAITS = "In front of your next message: "


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user is, with two pictures and a file that is none."""
    numbers = np.random.default_rng(0).integers(0, 256, (1300, 600, 3), np.uint8)
    Image.fromarray(numbers).save(tmp_path / "receipt.png")
    Image.fromarray(numbers[:300, :400]).save(tmp_path / "my photo.jpg")
    (tmp_path / "broken.png").write_bytes((tmp_path / "receipt.png").read_bytes()[:5000])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def seeing(*answers: list[Any]) -> FakeModel:
    return FakeModel([*answers], context=100_000, config=SIZES["4b"])


def asked(model: FakeModel, folder: Path) -> list[Any]:
    """The contents of the last conversation that a model got, pictures as the names of their files."""
    names = {path.read_bytes(): path.name for path in folder.iterdir() if path.suffix in (".png", ".jpg")}

    def read(content: Any) -> Any:
        if isinstance(content, str):
            return content
        return [names[part["image"]] if part["type"] == "image" else part["text"] for part in content]

    return [read(message["content"]) for message in model.asked[-1][0]]


def test_pictures_wait_for_the_next_message(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = seeing(["7.50"], ["yes"])
    out, _ = chat(model, "/image receipt.png 'my photo.jpg'", "the total?", "sure?")
    assert out == "7.50\nyes\n"
    assert asked(model, folder) == [["receipt.png", "my photo.jpg", "the total?"], "7.50", "sure?"]
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[:3] == [
        f"receipt.png  600 x 1,300, {VIEW} tokens",
        f"my photo.jpg  400 x 300, {VIEW} tokens",
        f"{WAITS}receipt.png, my photo.jpg",
    ]


def test_image_alone_lists_and_off_takes_away(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = seeing(["ok"])
    chat(model, "/image", "/image receipt.png", "/image", "/image off", "hello")
    assert asked(model, folder) == ["hello"]
    told = capsys.readouterr().err
    assert told.count("No picture waits.") == 2 and told.count(f"{WAITS}receipt.png") == 2


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("{}/receipt.png the total?", ["receipt.png", "the total?"]),
        ("the total? '{}/my photo.jpg' ", ["my photo.jpg", "the total?"]),
        (r"is {}/my\ photo.jpg on {}/receipt.png?", ["is", "my photo.jpg", "on", "receipt.png", "?"]),
        ("how big is receipt.png", "how big is receipt.png"),
    ],
)
def test_dragged_files_become_pictures(folder: Path, typed: str, expected: Any) -> None:
    model = seeing(["ok"])
    chat(model, typed.replace("{}", str(folder)))
    assert asked(model, folder) == [expected]


def test_a_picture_without_a_question_waits_for_one(folder: Path) -> None:
    model = seeing(["ok"])
    chat(model, f"{folder}/receipt.png", "and?")
    assert len(model.asked) == 1 and asked(model, folder) == [["receipt.png", "and?"]]


def test_pan_and_scan_counts_and_reaches_the_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = seeing(["ok"])
    chat(model, "/set pan_and_scan on", f"{folder}/receipt.png the total?")
    assert f"receipt.png  600 x 1,300, 2 crops, {3 * VIEW} tokens\n" in capsys.readouterr().err
    assert model.asked[0][1]["pan_and_scan"] is True and "tiles" not in model.asked[0][1]
    model = seeing(["ok"])
    chat(model, "/set tiles 2", "/set pan_and_scan maybe", "/set tiles 9", "hello")
    told = capsys.readouterr().err
    assert "pan_and_scan must be on or off, not 'maybe'" in told and "tiles must be a whole number" in told
    assert model.asked[0][1]["pan_and_scan"] == PanAndScan(tiles=2)


def test_what_is_no_picture_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = seeing(["ok"])
    lines = ("/image broken.png", "/image gone.png", "/image 'x", f"what is {folder}/broken.png", "hello")
    chat(model, *lines)
    told = capsys.readouterr().err.splitlines()
    assert told[0] == told[3] == "broken.png: the picture is damaged or cut short: save or download it again"
    assert told[1].startswith("gone.png: there is no such file") and "a quote is not closed" in told[2]
    assert asked(model, folder) == ["hello"]


def test_one_bad_picture_of_several_leaves_none_waiting(folder: Path) -> None:
    _, talk = chat(seeing(), "/image receipt.png broken.png")
    assert talk.waiting == []


def test_a_model_without_eyes_says_so_and_keeps_paths_as_text(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = FakeModel([["ok"]])
    chat(model, "/image receipt.png", f"shrink {folder}/receipt.png")
    told = capsys.readouterr().err
    assert told.startswith(NO_EYES) and "the path stays text" in told
    assert asked(model, folder) == [f"shrink {folder}/receipt.png"]


def test_a_file_that_is_gone_afterwards_is_no_trouble(folder: Path) -> None:
    model = seeing(["ok"], ["ok"])
    before = (folder / "receipt.png").read_bytes()
    chat(model, f"{folder}/receipt.png what?", "/image gone", "again")
    (folder / "receipt.png").unlink()
    assert model.asked[-1][0][0]["content"][0]["image"] == before


def test_retry_undo_and_edit(folder: Path) -> None:
    model = seeing(*[["ok"]] * 6)
    _, talk = chat(
        model, f"compare {folder}/receipt.png with '{folder}/my photo.jpg'.", "/retry",
        "/edit", "[my photo.jpg] and [other.png] alone", "/edit", f"[my photo.jpg] {folder}/receipt.png both",
        "/edit", "nothing", "/undo",
    )  # fmt: skip
    shown = [asked(FakeModel([], asked=[call]), folder)[0] for call in model.asked]
    pair = ["compare", "receipt.png", "with", "my photo.jpg", "."]
    both = ["my photo.jpg", "receipt.png", "both"]
    assert shown == [pair, pair, ["my photo.jpg", "and [other.png] alone"], both, "nothing"]
    assert talk.read.defaults[3] == "compare [receipt.png] with [my photo.jpg] ."  # type: ignore[attr-defined]
    assert talk.dialogue.turns == []


def test_an_edit_with_a_bad_picture_changes_nothing(folder: Path) -> None:
    _, talk = chat(seeing(["ok"]), f"{folder}/receipt.png what?", "/edit", f"{folder}/broken.png what?")
    assert len(talk.dialogue.turns) == 2 and talk.dialogue.pictures[0].name == "receipt.png"


def test_a_stopped_question_hands_its_pictures_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = seeing([KeyboardInterrupt()], ["ok"])
    chat(model, f"{folder}/receipt.png what?", "the total?")
    assert asked(model, folder) == [["receipt.png", "the total?"]]
    assert "Still about receipt.png" in capsys.readouterr().err


def test_saved_and_loaded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chat(seeing(["ok"]), f"{folder}/receipt.png what?", "/save talk.json")
    assert json.loads((folder / "talk.json").read_text())[0]["content"][0] == {
        "type": "image", "path": f"{folder}/receipt.png"
    }  # fmt: skip
    model = seeing(["fine"])
    chat(model, "/load talk.json", "and?")
    assert asked(model, folder) == [["receipt.png", "what?"], "ok", "and?"]
    _, blind = chat(FakeModel([]), "/load talk.json")
    assert blind.dialogue.turns == []
    (folder / "receipt.png").unlink()
    chat(seeing(), "/load talk.json")
    told = capsys.readouterr().err
    assert NO_EYES in told and f"talk.json: {folder}/receipt.png: there is no such file" in told


def test_what_is_said_while_pictures_are_encoded() -> None:
    assert looking("picture", 0.354, 1) == "Looking at the picture: 35 %"
    assert looking("picture or crop", 2.0, 5) == "Looking at picture or crop 3 of 5: 0 %"


def test_show_draws_the_crops(folder: Path, run: Run) -> None:
    code, out, err = run("show", "--image", "receipt.png", "-o", "crops.png")
    assert (code, err) == (0, "")
    facts = {line[:14].strip(): line[14:].strip() for line in out.splitlines()}
    assert facts["picture"] == "600 x 1,300, seen as 896 x 896"
    assert facts["crop 2"] == "600 x 650 pixels at 0, 650"
    assert facts["tokens"].startswith("768: 256 for each of 3 pictures")
    drawn = np.asarray(Image.open(folder / "crops.png")).astype(int)
    assert drawn.shape == (1300, 600, 3)
    plain = np.asarray(Image.open(folder / "receipt.png")) * 0.75 + 255 / 4
    changed = np.abs(drawn - plain).max(2) > 3
    assert changed[0].all() and changed[649:651].all() and changed[-1].all() and changed[:, [0, -1]].all()
    assert not changed[300:600, 100:500].any() and changed[:60, :60].sum() > 500 > 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--image", "my photo.jpg"), "none: the picture is about square"),
        (("--image", "my photo.jpg", "--tiles", "2", "--min-crop", "100"), "crop 4         200 x 150 pixels"),
        (("--image", "receipt.png", "--ratio", "3"), "crops          none"),
        (("--image", "receipt.png", "--max-crops", "1"), "crops          1, each"),
    ],
)
def test_show_takes_the_parameters_of_pan_and_scan(
    folder: Path, run: Run, words: tuple[str, ...], told: str
) -> None:
    code, out, _ = run("show", *words)
    assert code == 0 and told in out


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--image", "gone.png"), 1, "gone.png: there is no such file"),
        (("--image", "receipt.png", "-o", "crops.pdf"), 1, "name a file that ends with .png"),
        (("--image", "receipt.png", "--tiles", "1"), 1, "tiles must be a whole number from 2 to 8"),
        (("4b", "--image", "receipt.png"), 2, "leave MODEL out"),
        (("-o", "crops.png"), 2, "add --image FILE"),
    ],
)
def test_show_says_what_is_wrong(
    folder: Path, run: Run, words: tuple[str, ...], code: int, told: str
) -> None:
    ended, out, err = run("show", *words)
    assert (ended, out) == (code, "") and told in err and not (folder / "crops.pdf").exists()


def test_show_says_whether_a_model_sees(folder: Path, run: Run) -> None:
    from tests.weights.towers import mmproj_file, text_file

    text_file(folder / "t.gguf")
    assert "pictures       none: it reads text only" in run("show", "t.gguf")[1]
    mmproj_file(folder / "mmproj-t.gguf")
    out = run("show", "t.gguf")[1]
    for line in (
        "pictures       24 x 24 pixels in patches of 4, 9 tokens each",
        "tower          2 layers, 32 wide, 19,872 parameters",
        "mmproj         mmproj-t.gguf",
        "picture half   F16",
    ):
        assert line in out
    assert run("show", "t.gguf", "--mmproj", "gone.gguf")[0] == 1


def test_tab_completes_pictures_and_escapes_their_names(folder: Path) -> None:
    (folder / "my notes.txt").touch()
    with Terminal(FAKE, "chat", home=folder) as talk:
        talk.expect(">>>")
        talk.type("/image gone.png my\t")
        talk.expect(r"\ photo.jpg")
        talk.type("\r")
        talk.expect(NO_EYES)


@pytest.mark.long
def test_a_real_model_in_a_real_terminal(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.engine.seeing import build

    model = tmp_path_factory.mktemp("model")
    build(model)
    words = (
        "-c",
        GEMMARY,
        "chat",
        str(model),
        "--threads",
        "1",
        "--max-tokens",
        "4",
        "--image",
        "receipt.png",
    )
    once = shell(*words, "-p", "the total?", "--pan-and-scan", "--json", "--seed", "1")
    assert once.returncode == 0, once.stderr
    reply = json.loads(once.stdout)
    assert once.stderr.startswith(b"receipt.png  600 x 1,300, 2 crops, ")
    assert reply["usage"]["prompt_tokens"] > 3 * 16
    cache = {"XDG_CACHE_HOME": str(Path.home() / ".cache"), "GEMMARY_PICTURES": "kitty"}
    with Terminal(*words, home=folder, **cache) as talk:
        talk.expect(f"{WAITS}receipt.png")
        assert "\x1b_Ga=T,f=100,q=2,r=8," in talk.text
        talk.expect(">>>")
        talk.type("the total?\r")
        talk.expect("tokens (")
        talk.expect(">>>")
        talk.type("/image my\t")
        talk.expect(r"\ photo.jpg")
        talk.type("\r")
        talk.expect(f"{WAITS}my photo.jpg")
        talk.expect(">>>")
        talk.type("\x04")
        assert talk.ended() == 0
    assert "Traceback" not in talk.plain
