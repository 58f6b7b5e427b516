"""Raw files to shards, stage by stage:

read and clean -> drop what evaluations ask -> drop duplicates -> draw the mixture -> vocabulary -> shards.

Every result is a function of the files and the plan. The folder of shards appears whole or not at all: a
preparation that was killed left nothing that could be taken for one, and is simply started again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ...errors import GemmaryError
from ...inputs.tokenizer import Tokenizer
from ...weights.atomic import replacing_folder
from ..tables import PlanError
from ..vocabulary import train_vocabulary
from .cleaning import clean, fault
from .contamination import Evaluation, evaluation_texts
from .density import embedding
from .duplicates import exact_duplicates, near_duplicates
from .mixture import Numbers, draw
from .page import page
from .plan import DataPlan, Source
from .reasons import Reason
from .report import Report, SourceCount
from .shards import ShardWriter
from .sources import Fault, Record, read_file, source_files
from .spool import Spool, SpoolWriter
from .words import word_hashes, words

TOKENIZER = "tokenizer.model"
LINE = 4096  # characters of a line for the vocabulary; SentencePiece leaves out lines above 16 KiB

Tell = Callable[[str], None]


def prepare(plan: DataPlan, folder: Path, out: Path, tell: Tell = print) -> Report:
    """Make the folder `out`: shards, manifest.json, tokenizer.model, report.html and report.json.

    folder: where the plan's paths begin. tell: is given a line as each stage begins. GemmaryError: a pattern
    without files, an evaluation that cannot be read, `out` is there already, nothing is left, a full disk.
    """
    if out.exists():
        raise GemmaryError(f"{out} is there already: remove it, or name another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(out) as unfinished, TemporaryDirectory(dir=unfinished, prefix="spool.") as spool:
        return _Preparation(plan, folder, unfinished, Path(spool), tell).run()


class _Preparation:
    def __init__(self, plan: DataPlan, folder: Path, out: Path, scratch: Path, tell: Tell) -> None:
        self.plan, self.folder, self.out, self.scratch, self.tell = plan, folder, out, scratch, tell
        self.report = Report(settings=asdict(plan))

    def run(self) -> Report:
        stage = self.report.stage
        with stage("Reading the evaluations", self.tell):
            evaluation = self._evaluation()
        with stage("Reading and cleaning the sources", self.tell):
            self._collect(evaluation)
            spool = Spool(self.scratch)
        with stage("Finding documents that say the same", self.tell):
            kept = self._distinct(spool)
        with stage("Drawing the mixture", self.tell):
            mixture = self._draw(spool, kept)
        with stage("Making the vocabulary", self.tell):
            tokenizer = self._tokenizer(spool, mixture)
        with stage("Writing the shards", self.tell):
            self._write(spool, mixture, tokenizer)
        (self.out / "report.json").write_text(self.report.json(), encoding="utf-8")
        (self.out / "report.html").write_text(page(self.report), encoding="utf-8")
        return self.report

    def _evaluation(self) -> Evaluation:
        paths = [path for pattern in self.plan.evaluation for path in sorted(self.folder.glob(pattern))]
        for pattern in self.plan.evaluation:
            if not any(self.folder.glob(pattern)):
                raise PlanError(f"evaluation: {self.folder} has no file {pattern}; correct the plan's paths")
        evaluation = Evaluation(evaluation_texts(paths))
        self.report.evaluation = (evaluation.texts, len(evaluation), evaluation.unchecked)
        return evaluation

    # Reading

    def _collect(self, evaluation: Evaluation) -> None:
        numbers: dict[str, int] = {}
        with SpoolWriter(self.scratch) as spool:
            for source in self.plan.sources:
                for name, path in source_files(source, self.folder):
                    if name not in numbers:
                        numbers[name] = len(numbers)
                        self.report.sources.append(SourceCount(name))
                    self._read(path, source, numbers[name], evaluation, spool)

    def _read(
        self, path: Path, source: Source, number: int, evaluation: Evaluation, spool: SpoolWriter
    ) -> None:
        count = self.report.sources[number]
        for found in read_file(path, source, self.plan.longest):
            if isinstance(found, Fault):
                self.report.drop(count, found.reason, found.place, found.seen)
                continue
            count.read += 1
            text = clean(found.text)
            record = Record(found.place, text, found.last, found.quality, found.picture)
            listed = words(text)
            hashes = word_hashes(listed)
            shared = evaluation.first_shared(hashes)
            # a caption may be short: what is learned from it is in the picture
            reason = fault(text, 1 if found.picture else self.plan.shortest)
            if reason is None and shared is not None:
                reason, text = Reason.CONTAMINATED, " ".join(listed[shared : shared + 13])
            if reason is not None:
                self.report.drop(count, reason, found.place, text)
            else:
                spool.add(record, number, embedding(hashes))

    # Choosing

    def _distinct(self, spool: Spool) -> Numbers:
        """Numbers of the documents that are left."""
        again = exact_duplicates(spool.entries["digest"])
        self._drop(spool, again, Reason.DUPLICATE)
        kept = np.setdiff1d(np.arange(len(spool)), again)
        if self.plan.near_duplicates:
            compared = kept[~spool.entries["picture"][kept]]  # captions are alike, pictures are not
            near = compared[near_duplicates((spool.text(n) for n in compared), self.scratch)]
            self._drop(spool, near, Reason.NEAR_DUPLICATE)
            kept = np.setdiff1d(kept, near)
        for number in kept:
            entry = spool.entries[number]
            count = self.report.sources[int(entry["source"])]
            count.kept += 1
            count.characters += int(entry["chars"])
        if not len(kept):
            raise GemmaryError(f"nothing is left to train on: {self._reasons()}")
        return kept

    def _reasons(self) -> str:
        return (
            ", ".join(f"{count:,} x {reason}" for reason, count in self.report.dropped.items()) or "no text"
        )

    def _drop(self, spool: Spool, numbers: Numbers, reason: Reason) -> None:
        for number in map(int, numbers):
            count = self.report.sources[int(spool.entries["source"][number])]
            self.report.drop(count, reason, spool.place(number), spool.text(number))

    def _draw(self, spool: Spool, kept: Numbers) -> Numbers:
        names = [count.name for count in self.report.sources]
        mixture = draw(self.plan, names, spool.entries, kept)
        copies = np.bincount(mixture, minlength=len(spool))
        for number in map(int, kept):
            entry, times = spool.entries[number], int(copies[number])
            count = self.report.sources[int(entry["source"])]
            count.drawn += times > 0
            count.copies += times
            count.drawn_characters += times * int(entry["chars"])
        self._drop(spool, kept[copies[kept] == 0], Reason.NOT_SAMPLED)
        if not len(mixture):
            raise GemmaryError(f"the plan's {self.plan.characters} characters are less than any document has")
        return mixture

    # Writing

    def _tokenizer(self, spool: Spool, mixture: Numbers) -> Tokenizer:
        wanted = self.plan.vocabulary
        path = self.out / TOKENIZER
        if isinstance(wanted, str):
            content = _read_model(self.folder / wanted)
        else:
            content = train_vocabulary(_lines(spool, mixture, self.plan.vocabulary_characters), wanted)
        path.write_bytes(content)
        tokenizer = Tokenizer.from_model(path)
        if tokenizer.bos is None or tokenizer.eos is None:
            raise PlanError(f"the vocabulary {wanted} has no <bos> or no <eos>; documents need both")
        self.report.vocabulary = tokenizer.vocab
        return tokenizer

    def _write(self, spool: Spool, mixture: Numbers, tokenizer: Tokenizer) -> None:
        writer = ShardWriter(self.out, tokenizer, self.plan.shard_tokens)
        sources = spool.entries["source"]
        for number in mixture:
            count = self.report.sources[int(sources[number])]
            picture = spool.picture(int(number))
            text = spool.text(int(number))
            if picture is None:
                ids = _text_ids(text, bool(spool.entries["last"][number]), tokenizer)
                writer.add(ids, int(sources[number]))
            else:
                ids, column = _picture_ids(text, tokenizer, self.plan.picture_tokens)
                writer.add(ids, int(sources[number]), (column, picture))
            count.tokens += len(ids)
        origin = {"plan": self.plan.digest, "sources": [count.name for count in self.report.sources]}
        self.report.shards = writer.finish(origin)


def _read_model(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PlanError(f"{path}: the vocabulary cannot be read: {error.strerror}") from error


def _lines(spool: Spool, mixture: Numbers, characters: int) -> Iterator[str]:
    """Lines of the first documents of the mixture, which is shuffled."""
    given = 0
    for number in mixture:
        if given >= characters:
            return
        text = spool.text(int(number))
        given += len(text)
        for line in text.split("\n"):
            yield from (line[first : first + LINE] for first in range(0, len(line), LINE))


def _text_ids(text: str, last: bool, tokenizer: Tokenizer) -> list[int]:
    """<bos>, the text, and <eos> where it ends."""
    ids = [tokenizer.bos, *tokenizer.encode(text), tokenizer.eos if last else None]
    return [token for token in ids if token is not None]


def _picture_ids(text: str, tokenizer: Tokenizer, soft: int) -> tuple[list[int], int]:
    """A picture as Gemma's processor writes it, then its text; and the column of the first soft token."""
    if tokenizer.start_of_image is None or tokenizer.end_of_image is None or tokenizer.soft is None:
        raise PlanError("the vocabulary has no marks for pictures; take one that has <start_of_image>")
    before = [*_text_ids("\n\n", False, tokenizer), tokenizer.start_of_image]
    after = [tokenizer.end_of_image, *tokenizer.encode("\n\n"), *_text_ids(text, True, tokenizer)[1:]]
    return [*before, *[tokenizer.soft] * soft, *after], len(before)
