"""From files to shards: counted, the same every time, whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from gemmary.errors import GemmaryError
from gemmary.inputs.tokenizer import Tokenizer
from gemmary.train.data import prepare as preparing
from gemmary.train.data.plan import DataPlan, PlanError, Source, read_plan
from gemmary.train.data.prepare import prepare
from gemmary.train.data.reasons import Reason
from gemmary.train.data.report import Report
from gemmary.train.data.shards import open_shards
from tests.train.data.toyfiles import prose, write, write_jsonl

PLAN = DataPlan(
    sources=(
        Source("tale", ("tale.txt",)), Source("few", ("few.jsonl",)), Source("many", ("many.jsonl",)),
    ),
    vocabulary="tokenizer.model", longest=400, near_duplicates=False, shard_tokens=2000, picture_tokens=4,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "data")


def run(plan: DataPlan, folder: Path, name: str = "out") -> Report:
    return prepare(plan, folder, folder.parent / name, tell=lambda _: None)


def documents(out: Path) -> list[list[int]]:
    shards = open_shards(out, Tokenizer.from_model(out / "tokenizer.model"))
    return [shard.document(n).tolist() for shard in shards.shards for n in range(len(shard))]


def test_once_everything_is_every_document_once(folder: Path) -> None:
    """The budget is all there is and nothing may be repeated: nothing is lost, nothing is doubled."""
    report = run(dataclasses.replace(PLAN, epochs=1.0), folder)
    read = Counter(json.loads(line)["text"] for line in (folder / "many.jsonl").open())
    tokenizer = Tokenizer.from_model(folder / "tokenizer.model")
    texts = Counter(tokenizer.decode(ids) for ids in documents(folder.parent / "out"))
    assert all(texts[text] == 1 for text in read)
    assert "".join("".join(texts).split()).count(".") == 40 + 6 + 80  # of prose(): one a text
    assert report.total("copies") == report.total("kept") == report.total("read")
    assert not report.dropped


def test_ends_are_marked_where_texts_end(folder: Path) -> None:
    run(PLAN, folder)
    found = documents(folder.parent / "out")
    assert all(ids[0] == 2 for ids in found)
    tale = Counter(tuple(ids) for ids in found if ids[-1] != 1)
    assert len(tale) > 5  # the pieces of the tale but the last


def test_the_same_plan_gives_the_same_bytes(folder: Path) -> None:
    for name in ("one", "two"):
        run(dataclasses.replace(PLAN, vocabulary=600, characters=9000), folder, name)
    one, two = ({p.name: p.read_bytes() for p in (folder.parent / n).iterdir()} for n in ("one", "two"))
    assert one.keys() == two.keys() and len([name for name in one if name.endswith(".safetensors")]) > 1
    assert [name for name in one if one[name] != two[name] and not name.startswith("report")] == []
    run(dataclasses.replace(PLAN, vocabulary=600, characters=9000, seed=1), folder, "three")
    assert documents(folder.parent / "three") != documents(folder.parent / "one")


def test_unimax_repeats_the_small(folder: Path) -> None:
    report = run(dataclasses.replace(PLAN, characters=20_000, epochs=3.0), folder)
    few, many = report.sources[1], report.sources[2]
    assert few.epochs == pytest.approx(3.0)
    assert many.epochs < 2.5
    assert report.total("drawn_characters") == pytest.approx(20_000, rel=0.05)


def test_quality_weighs(folder: Path) -> None:
    dice = random.Random(5)
    scored: list[object] = [{"text": prose(dice, 30), "q": 3 if n < 50 else 1} for n in range(100)]
    write_jsonl(folder / "scored.jsonl", scored)
    source = Source("scored", ("scored.jsonl",), quality="q")
    run(dataclasses.replace(PLAN, sources=(source,), density=0.0, characters=6000), folder)
    found = Counter(ids[1:-1].__str__() for ids in documents(folder.parent / "out"))
    tokenizer = Tokenizer.from_model(folder / "tokenizer.model")
    best = sum(found[str(tokenizer.encode(entry["text"]))] for entry in scored[:50])  # type: ignore[index]
    assert best / found.total() == pytest.approx(0.75, abs=0.03)


def test_bad_input_is_counted_by_source_and_reason(folder: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    dice = random.Random(7)
    asked, copied = prose(dice, 20), prose(dice, 40)
    (folder / "empty.txt").touch()
    (folder / "program.txt").write_bytes(b"\0\1\2")
    good, latin = prose(dice, 30).encode() + b"\n\n", b"\xe9t\xe9 " * 60 + b"\n\n"
    (folder / "mixed.txt").write_bytes(b"".join([good, good[::-1].strip() + b"\n\n", latin, good]))
    texts = (copied, copied, f"A. {asked} B.", "hi", "ab " * 300)
    write_jsonl(folder / "more.jsonl", [{"text": text} for text in texts])
    with (folder / "more.jsonl").open("a") as file:
        file.write('{"text": \n')
    image.new("RGB", (4, 4), "red").save(folder / "red.png")
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    write_jsonl(folder / "pairs.jsonl", [{"text": "Red.", "image": f"{name}.png"} for name in ("red", "bad")])
    (folder / "test.txt").write_text(asked)
    plan = dataclasses.replace(
        PLAN,
        sources=(
            *PLAN.sources, Source("files", ("*e*.txt", "program.txt"), by_file=True),
            Source("more", ("more.jsonl",)), Source("pairs", ("pairs.jsonl",), picture="image"),
        ),
        evaluation=("test.txt",), longest=1000,
    )  # fmt: skip
    report = run(plan, folder)
    dropped = {source.name: source.dropped for source in report.sources}
    assert dropped["files/empty"] == {Reason.EMPTY: 1}
    assert dropped["files/program"] == {Reason.BINARY: 1}
    assert dropped["files/mixed"][Reason.NOT_UTF8] >= 1
    assert dropped["files/test"][Reason.CONTAMINATED] == 1
    assert dropped["more"] == {
        Reason.BROKEN_JSON: 1, Reason.SHORT: 1, Reason.REPETITIVE: 1, Reason.CONTAMINATED: 1,
        Reason.DUPLICATE: 1,
    }  # fmt: skip
    assert dropped["pairs"] == {Reason.BAD_PICTURE: 1}
    out = folder.parent / "out"
    page = (out / "report.html").read_text()
    assert all(reason in page for reason in report.dropped)
    assert "more.jsonl:6" in page and "<script" not in page and "http" not in page
    counts = json.loads((out / "report.json").read_text())
    assert counts["totals"]["read"] == sum(source.read for source in report.sources)
    tokenizer = Tokenizer.from_model(out / "tokenizer.model")
    shards = open_shards(out, tokenizer)
    assert [picture.path for picture in shards.pictures()] == ["red.png"]
    assert any(ids.count(tokenizer.soft) == 4 for ids in documents(out))


def test_near_duplicates_are_dropped_but_not_captions(folder: Path) -> None:
    pytest.importorskip("datatrove", reason="needs the extra `train`")
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    dice = random.Random(9)
    text = prose(dice, 60)
    write_jsonl(folder / "more.jsonl", [{"text": text}, {"text": text.upper()}, {"text": prose(dice, 60)}])
    for name in ("red", "blue"):
        image.new("RGB", (4, 4), name).save(folder / f"{name}.png")
    write_jsonl(folder / "pairs.jsonl", [{"text": text, "image": f"{name}.png"} for name in ("red", "blue")])
    pairs = Source("pairs", ("pairs.jsonl",), picture="image")
    sources = (Source("more", ("more.jsonl",)), pairs)
    report = run(dataclasses.replace(PLAN, sources=sources, near_duplicates=True, longest=1000), folder)
    assert [source.kept for source in report.sources] == [2, 2]
    assert report.dropped == {Reason.NEAR_DUPLICATE: 1}


def test_a_page_never_runs_what_it_shows(folder: Path) -> None:
    write_jsonl(
        folder / "few.jsonl",
        [{"text": "<script>alert(1)</script> & more"}],
    )
    run(dataclasses.replace(PLAN, shortest=60), folder)
    page = (folder.parent / "out" / "report.html").read_text()
    assert "&lt;script&gt;" in page and "<script" not in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shortest": 300, "longest": 300}, "nothing is left to train on: .* x too short"),
        ({"vocabulary": "none.model"}, "vocabulary cannot be read"),
        ({"vocabulary": "tale.txt"}, "tale.txt|tokenizer.model"),
        ({"vocabulary": 200_000}, "vocabulary of 200,000 pieces cannot be made"),
        ({"evaluation": ("none.json",)}, "no file none.json"),
        ({"characters": 1}, "less than any document"),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_nothing(
    folder: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(GemmaryError, match=message):
        run(dataclasses.replace(PLAN, **change), folder)  # type: ignore[arg-type]
    assert [path.name for path in folder.parent.iterdir()] == ["data"]


def test_nothing_is_written_over_and_a_full_disk_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(PLAN, folder)
    with pytest.raises(GemmaryError, match="is there already"):
        run(PLAN, folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(preparing.ShardWriter, "add", full)
    with pytest.raises(GemmaryError, match="No space left"):
        run(PLAN, folder, "other")
    assert {path.name for path in folder.parent.iterdir()} == {"data", "out"}


# The plan's file


def test_a_plan_is_read_from_toml(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(
        'vocabulary = 600\nepochs = 2\nevaluation = ["e.json"]\n'
        '[[source]]\nname = "a"\npaths = ["a/*.jsonl"]\ntext = ["q", "a"]\nby_file = true\n'
    )
    source = Source("a", ("a/*.jsonl",), ("q", "a"), by_file=True)
    plan = DataPlan((source,), ("e.json",), vocabulary=600, epochs=2.0)
    assert read_plan(tmp_path / "plan.toml") == plan
    assert plan.digest != dataclasses.replace(plan, seed=1).digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = ", "is not TOML"),
        ("seeds = 3", "line 1: seeds is not known; did you mean seed"),
        ("seed = true", "seed must be a whole number, not True"),
        ("seed = 3", "at least one source"),
        ('[[source]]\nname = "a"', "line 1: source.paths is missing"),
        ('[[source]]\nname = "a"\npaths = "a"', "line 3: source.paths must be a list of texts"),
        ('[[source]]\nname = "a"\npaths = [3]', "line 3: source.paths must be a list of texts"),
        ('[source]\nname = "a"', r"line 1: source is written as \[\[source\]\]"),
        ('epochs = nan\n[[source]]\nname = "a"\npaths = ["a"]', "line 1: epochs must be a number, not nan"),
        ('epochs = -1\n[[source]]\nname = "a"\npaths = ["a"]', "epochs is -1.0, which cannot be"),
        ("digest = 'x'", "digest is not known"),
    ],
)
def test_a_wrong_plan_is_explained(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(PlanError, match=message):
        read_plan(tmp_path / "plan.toml")
