"""Stages of nano that need pictures (report, section 2.2): a tower learns what belongs to what, then with the
decoder to answer, then it is frozen; what it makes of pictures is kept on disk, and the decoder goes on.

Pictures are drawn when they are asked for (recipes/pictures): a number is a picture, so nothing is stored.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from ..config import Config, VisionConfig
from ..inputs.crops import PanAndScan
from ..inputs.tokenizer import Tokenizer
from ..inputs.turns import chat_prompt
from ..model.modules import TextModule
from ..model.vision_modules import ProjectorModule, TowerModule
from ..ops.contract import Ints
from ..train.data.shards import vocabulary_digest
from ..train.feature_cache import CachedFeatures, write_features
from ..train.loop import Plan, Trainer
from ..train.packing import Document, pack_rows
from ..train.pictures import Pictures, decoded
from ..train.sight_task import SightTask
from ..train.sigmoid_task import Pairs, SigmoidTask
from ..train.vocabulary import END_OF_TURN, START_OF_TURN
from .collage import Collages, Tiles, drawn_tiles, truths
from .language import WEIGHTS
from .network import new_pairing
from .pictures import Drawn, Gallery, fonts
from .pictures.drawn import Plan as Known
from .results import Weights, leave_arrays

DESCRIBE = (
    "Describe the picture.", "describe this picture", "What does the picture show? Say everything.",
    "Read everything in the picture.", "Tell me all about this picture.",
)  # fmt: skip
READ = ("Read the tiles.", "What is on the tiles?", "Name the tiles, row by row.")
CROPS = (2, 3, 4)  # that pan & scan may make of a picture
DESCRIBED = 0.5  # share of pictures that are also described as a whole


class Drawings:
    """Pictures of a gallery from number `first` on, as `train/` wants them: squares of `side` pixels."""

    def __init__(self, gallery: Gallery, first: int, count: int, side: int) -> None:
        self.gallery, self.first, self._count, self._side = gallery, first, count, side

    def __len__(self) -> int:
        return self._count

    @property
    def digest(self) -> str:
        """Of what decides how pictures look: numbers, and the fonts that are installed."""
        what = [self.gallery.seed, self.gallery.held, self.first, self._count, self._side, fonts.report()]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def drawn(self, number: int) -> Drawn:
        """A picture and what is known about it."""
        return self.gallery.draw(self.first + number)

    def known(self, number: int) -> Known:
        """What is known about a picture, which need not be painted for it."""
        number += self.first
        return self.gallery.plan(number, self.gallery.kind(number))

    def read(self, numbers: Ints) -> npt.NDArray[np.uint8]:
        """Pixels uint8 [n, 3, S, S]."""
        return self.pixels([self.drawn(int(number)) for number in numbers])

    def pixels(self, drawn: Sequence[Drawn]) -> npt.NDArray[np.uint8]:
        """Those of pictures that are drawn already."""
        found: npt.NDArray[np.uint8] = decoded([each.picture for each in drawn], self._side)[0].pixels
        return found


class Talk:
    """Conversations about pictures as token documents, in the very ids that the engine makes of them."""

    def __init__(self, tokenizer: Tokenizer, vision: VisionConfig) -> None:
        self.tokenizer, self.vision = tokenizer, vision
        self._openings = {1: self._opening(0)} | {crops + 1: self._opening(crops) for crops in CROPS}
        self._tokens = vision.tokens

    def _opening(self, crops: int) -> list[int]:
        """Ids up to the end of the last view of a picture in so many crops, which no question changes."""
        scan = PanAndScan()
        blank = np.zeros((scan.min_crop, scan.min_crop * max(1, crops), 3), np.uint8)
        content = [{"type": "image", "image": blank}, {"type": "text", "text": "?"}]
        message = {"role": "user", "content": content}
        ids = chat_prompt(self.tokenizer, [message], self.vision, pan_and_scan=scan).ids
        last = max(place for place, token in enumerate(ids) if token == self.tokenizer.end_of_image)
        return ids[: last + 1]

    def document(self, exchanges: Sequence[tuple[str, str]], views: Sequence[int], longest: int) -> Document:
        """Questions and answers about one picture; what no longer fits is left out.

        `views`: the number of the picture, and those of its crops where pan & scan makes any.
        """
        encode, opening = self.tokenizer.encode, self._openings[len(views)]
        ids, weights = list(opening), [0.0] * len(opening)
        shown = iter(np.repeat(views, self._tokens).tolist())
        newline = encode("\n")
        for number, (asked, answered) in enumerate(exchanges):
            begin = encode(f"\n\n{asked}") if not number else [START_OF_TURN, *encode(f"user\n{asked}")]
            prompt = [*begin, END_OF_TURN, *newline, START_OF_TURN, *encode("model\n")]
            reply = [*encode(answered), END_OF_TURN]
            if len(ids) + len(prompt) + len(reply) + len(newline) > longest:
                break
            ids += [*prompt, *reply, *newline]
            weights += [0.0] * len(prompt) + [1.0] * len(reply) + [0.0] * len(newline)
        soft = self.tokenizer.soft
        return Document(ids, weights, [next(shown) if token == soft else -1 for token in ids])


def asked_of(known: Known, dice: random.Random, described: float = DESCRIBED) -> list[tuple[str, str]]:
    """The questions about a picture in random order, and for a share `described` of pictures all of it."""
    exchanges = list(known.exchanges)
    dice.shuffle(exchanges)
    if dice.random() < described:
        exchanges.insert(0, (dice.choice(DESCRIBE), known.caption))
    return exchanges


class Look(NamedTuple):
    """What a step of pairs shows from step `begin` on: collages of tiles of a kind, or the gallery."""

    kind: str | None
    across: int  # tiles a side; 1: whole pictures
    begin: int


LOOKS = (  # what is easy first: few patches, few characters
    Look("thing", 4, 0),
    Look("letters", 4, 0),
    Look("sign", 4, 250),
    Look("label", 2, 500),
    Look(None, 1, 750),
    Look(None, 1, 1000),
)


@dataclass(frozen=True)
class Pairing:
    """How a tower learns from pictures and phrases: `batch` pictures a step; the reader of phrases, thrown
    away afterwards.
    """

    plan: Plan
    reader: Config
    batch: int = 64
    longest: int = 12  # tokens of a phrase; what is behind is cut
    size: int = 192  # of the vectors that are compared
    bias: float = -3.5  # about minus the logarithm of the wrong phrases to a right one
    phrases: int = 384  # most of them a step
    tiles: int = 24_000  # of each kind, for collages
    looks: tuple[Look, ...] = LOOKS  # those that have begun come equally often

    def digest(self, drawings: Drawings, tokenizer: Tokenizer, seed: int) -> str:
        """Of all that decides what a step shows and asks. Plan and reader are checked by themselves."""
        own = {name: value for name, value in asdict(self).items() if name not in ("plan", "reader")}
        what = [own, drawings.digest, vocabulary_digest(tokenizer), seed]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


NAMED = (("thing", 2), ("thing", 4), ("letters", 2), ("letters", 4), ("sign", 4), ("label", 2))
SPELLED = (("thing", 4), ("letters", 4), ("sign", 2), ("sign", 4), ("label", 1), ("label", 2))


@dataclass(frozen=True)
class Naming:
    """How the decoder learns the names of what the tower sees: collages read aloud, tile after tile.

    Sixteen names for 64 soft tokens: conversations, which have two or three, teach them a tenth as fast.
    """

    plan: Plan
    collages: int  # of each kind of tiles
    tiles: int = 8_000  # of each kind
    kinds: tuple[tuple[str, int], ...] = NAMED


@dataclass(frozen=True)
class Showing:
    """Conversations about `pictures` pictures, `text_share` of the tokens being conversations without any."""

    plan: Plan
    pictures: int
    text_share: float = 0.35


class Seeing:
    """Picture stages in the folder `out`; each result is made once and found again."""

    def __init__(self, gallery: Gallery, config: Config, tokenizer: Tokenizer, out: Path, row: int) -> None:
        if config.vision is None:
            raise ValueError("the config has no vision tower")
        self.gallery, self.config, self.vision = gallery, config, config.vision
        self.tokenizer, self.out, self.row = tokenizer, out, row
        self._next = 0  # number of the first picture that no stage has used

    def pair(self, tower: TowerModule, how: Pairing, name: str, seed: int) -> bool:
        """Train the tower to tell which phrases are true of which pictures; False if interrupted."""
        drawings = self.unseen(how.plan.steps * how.batch)
        path = self.out / name / WEIGHTS
        if path.exists():
            tower.load_arrays(load_file(path))
            return True

        tiles = {look.kind: self._tiles(look.kind, look.across, how.tiles) for look in how.looks if look.kind}

        def pairs(step: int) -> Pairs:
            dice = np.random.default_rng((seed, step))
            begun = [look for look in how.looks if look.begin <= step]
            kind, across, _ = begun[dice.integers(len(begun))]
            if kind:
                shown = tiles[kind].collages(how.batch, across, dice)
            else:
                drawn = [drawings.drawn(step * how.batch + each) for each in range(how.batch)]
                shown = Tiles(drawings.pixels(drawn), [each.phrases for each in drawn])
            said = sorted({phrase for phrases in shown.phrases for phrase in phrases})
            chosen = [said[n] for n in dice.permutation(len(said))[: how.phrases]]
            texts = [self.tokenizer.encode(phrase)[: how.longest] for phrase in chosen]
            return Pairs(shown.pixels, texts, truths(shown.phrases, chosen), across)

        model = new_pairing(tower, how.reader, how.longest, how.size, how.bias, seed)
        digest = how.digest(drawings, self.tokenizer, seed)
        done = Trainer(SigmoidTask(model, pairs, digest, how.plan), how.plan, path.parent).run()
        if done:
            leave_arrays(path, tower.arrays())
        return done

    def name(self, text: TextModule, tower: TowerModule, how: Naming, stage: str, seed: int) -> bool:
        """Train both to read collages aloud; False if interrupted."""
        folder = self.out / stage
        if taken(text, tower, folder):
            return True
        pictures = self.collages(how.kinds, how.tiles, how.collages, seed)
        dice = random.Random(f"{seed} collages")
        order = list(range(len(pictures)))
        dice.shuffle(order)
        rows = pack_rows(self.readings(pictures, order, dice), self.row)
        task = SightTask(text, tower, rows, pictures, how.plan)
        return learnt(text, tower, task, how.plan, folder)

    def show(
        self,
        text: TextModule,
        tower: TowerModule,
        how: Showing,
        talk: Iterator[Document],
        name: str,
        frozen: bool,
    ) -> bool:
        """Train on conversations about pictures; `talk` gives those without. False if interrupted.

        `frozen`: the tower stays as it is, and what it makes of the pictures is computed once.
        """
        drawings = self.unseen(how.pictures)
        folder = self.out / name
        if taken(text, tower, folder):
            return True
        pictures: Pictures = drawings
        eyes: TowerModule | ProjectorModule = tower
        if frozen:
            write_features(folder / "features", tower, drawings, low=how.plan.low)
            pictures = CachedFeatures(folder / "features", tower, drawings.digest)
            eyes = ProjectorModule(tower)
        rows = pack_rows(self._documents(drawings, how, talk), self.row)
        task = SightTask(text, eyes, rows, pictures, how.plan)
        return learnt(text, tower, task, how.plan, folder)

    def collages(self, kinds: Sequence[tuple[str, int]], tiles: int, count: int, seed: int) -> Collages:
        """`count` collages of each of `kinds`, with how many tiles a side, out of `tiles` tiles."""
        sets = [(self._tiles(kind, across, tiles), across) for kind, across in kinds]
        return Collages(sets, count, seed)

    def readings(
        self, collages: Collages, order: Iterable[int], dice: random.Random, first: int = 0
    ) -> Iterator[Document]:
        """Collages read aloud, tile after tile; in the documents their numbers begin at `first`."""
        writer = Talk(self.tokenizer, self.vision)
        for number in order:
            exchange = dice.choice(READ), f"{', '.join(collages.names(number))}."
            yield writer.document([exchange], [first + number], self.row)

    def _tiles(self, kind: str, across: int, number: int) -> Tiles:
        """`number` tiles of which across x across fill a picture."""
        return drawn_tiles(self.gallery, kind, number, self.vision.image // across)

    def unseen(self, count: int) -> Drawings:
        """Pictures that nobody has seen."""
        first, self._next = self._next, self._next + count
        return Drawings(self.gallery, first, count, self.vision.image)

    def _documents(self, drawings: Drawings, how: Showing, talk: Iterator[Document]) -> Iterator[Document]:
        """Conversations about each picture, and between them those about none."""
        writer, dice = (
            Talk(self.tokenizer, self.vision),
            random.Random(f"{self.gallery.seed} {drawings.first}"),
        )
        about = (
            writer.document(asked_of(drawings.known(number), dice), [number], self.row)
            for number in range(len(drawings))
        )
        return mixed(about, talk, how.text_share)


def mixed(shown: Iterable[Document], talk: Iterator[Document], share: float) -> Iterator[Document]:
    """Documents with pictures, and conversations without between them: `share` of the tokens."""
    counts = [0, 0]
    for document in shown:
        counts[0] += len(document.ids)
        yield document
        while counts[1] < share * sum(counts):
            document = next(talk)
            counts[1] += len(document.ids)
            yield document


def taken(text: TextModule, tower: TowerModule, folder: Path) -> bool:
    """Whether a stage has its result in the folder; then both have it."""
    if found := (folder / WEIGHTS).exists():
        take(text, tower, load_file(folder / WEIGHTS))
    return found


def learnt(text: TextModule, tower: TowerModule, task: SightTask, plan: Plan, folder: Path) -> bool:
    """Train, and leave the result in the folder; False if interrupted."""
    done = Trainer(task, plan, folder).run()
    if done:
        leave_arrays(folder / WEIGHTS, given(text, tower))
    return done


def given(text: TextModule, tower: TowerModule) -> Weights:
    """All weights by name; those of the tower begin with "eyes."."""
    return text.arrays() | {f"eyes.{name}": array for name, array in tower.arrays().items()}


def take(text: TextModule, tower: TowerModule, weights: Weights) -> None:
    """Put back what `given` gave."""
    text.load_arrays({name: array for name, array in weights.items() if not name.startswith("eyes.")})
    tower.load_arrays(
        {name.removeprefix("eyes."): a for name, a in weights.items() if name.startswith("eyes.")}
    )
