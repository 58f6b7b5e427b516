"""From raw text and drawn pictures to the bundled model, in one command:

    python -m gemmary.recipes.nano --data ../shared/data --out runs/nano

Vocabulary; a teacher; the student that learns from it; longer texts; a tower that learns which phrases are
true of which picture; tower and decoder, on names, then on words, then on conversations; the tower frozen,
and the decoder on; then both on all of it together, thrice; the mean of the last two; the files; an exam; the
card. Every stage leaves its result in the folder and is skipped where that is there already; training goes on
from its last checkpoint.

    python -m gemmary.recipes.nano --data ../shared/data --out runs/again --repeat gemmary/bundled

trains the last two stages once more, from the two files that it left before.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.numpy import load_file

from ..config import NANO, Config, Rope, VisionConfig
from ..errors import ModelFileError
from ..model.modules import TextModule
from ..train.loop import Plan
from ..train.optimizer import Learning
from ..train.packing import Document
from ..train.sampling import Distillation
from ..weights.checkpoint import open_checkpoint
from .card import card
from .conversation import FOCUS, Mixture
from .corpus import HELD_BOOKS, Corpus, Part
from .language import VOCABULARY, WEIGHTS, Language, Phase
from .long import books, lengthened, train_long
from .network import decoder, new_tower, stored_decoder, stored_tower
from .pictures import Gallery
from .release import EYES_FILE, SCORES, TEXT_FILE, Exam, Release, stored_vocabulary
from .results import in_a_sentence, leave, leave_arrays, leave_text
from .sight import SPELLED, Naming, Pairing, Seeing, Showing, take
from .together import DRILLED, Mixing, learn_together, mean

SEEING = (  # folders of stages with pictures
    "pairs", "named", "spelled", "tuned", "shown", "together", "drilled", "settled",
)  # fmt: skip
# Before the long phase, and before it sees.
STUDENT = replace(NANO, context=1024, rope_global=Rope(NANO.rope_global.theta), vision=None)
TEACHER = replace(STUDENT, name="nano-teacher", width=384, heads=6, kv_heads=2, ffn=1056, global_layers=None)
READER = replace(
    STUDENT, name="nano-reader", width=128, layers=2, heads=2, kv_heads=2, ffn=384, window=64,
    global_layers=(0, 1),
)  # fmt: skip
# Unbiased, and the text's own next token beside it: the teacher is not much wiser than the text.
TAUGHT = Distillation(draws=256, reading="counts", replacement=True, share=0.7)
# First everything at a constant rate; then, while the rate falls to zero, what most people ask.
TEACHING = Plan(steps=1000, learning=Learning(cooldown=450))
LEVEL = Plan(steps=900, learning=Learning(cooldown=0), distill=TAUGHT)
DECAY = Plan(steps=700, learning=Learning(warmup=20, cooldown=700), distill=TAUGHT)
GENTLE = Learning(peak=6e-4, warmup=5, cooldown=30)
PAIRED = Learning(peak=2e-3, warmup=40, cooldown=700)
TUNED = Learning(peak=1.5e-3, warmup=30, cooldown=0)
SHOWN = Learning(peak=1.5e-3, warmup=20, cooldown=1000)
MIXED = Learning(peak=1.5e-3, warmup=20, cooldown=2700)
REPEATED = Learning(peak=1e-3, warmup=20, cooldown=5980)
SETTLED = Learning(peak=5e-4, warmup=20, cooldown=780)


@dataclass(frozen=True)
class Long:
    """Longer texts: rows of `row` tokens, positions of global layers divided by `factor`."""

    plan: Plan
    row: int = 2048
    rows: int = 60
    factor: float = 8.0


LONG = Long(Plan(steps=30, rows=1, parts=2, learning=GENTLE))
PAIRS = Pairing(Plan(steps=2400, rows=32, parts=2, learning=PAIRED), READER)
NAMING = Naming(Plan(steps=1000, learning=TUNED), collages=7_000)
SPELLING = Naming(Plan(steps=1400, learning=TUNED), collages=7_000, tiles=20_000, kinds=SPELLED)
TUNING = Showing(Plan(steps=500, learning=TUNED), pictures=12_000)
SHOWING = Showing(Plan(steps=1300, learning=SHOWN), pictures=14_000, text_share=0.6)
MIXING = Mixing(Plan(steps=3500, learning=MIXED), pictures=42_000, collages=6_000)
DRILLING = Mixing(
    Plan(steps=6000, learning=REPEATED),
    pictures=76_000,
    collages=2_500,
    shares=DRILLED,
    cut=1.0,
    text_share=0.2,
)
SETTLING = Mixing(  # what was asked less than before comes back: text
    Plan(steps=800, learning=SETTLED),
    pictures=5_500,
    collages=100,
    tiles=2_000,
    shares=DRILLED,
    cut=1.0,
    text_share=0.6,
)
EXAM = Exam()


@dataclass(frozen=True)
class Settings:
    """Everything that the result depends on, besides the data itself."""

    config: Config = STUDENT
    teacher: Config = TEACHER
    eyes: VisionConfig | None = NANO.vision
    row: int = 512
    teaching: tuple[Phase, ...] = (Phase("teacher", Part("teacher", 4_200_000, 0.08, Mixture()), TEACHING),)
    learning: tuple[Phase, ...] = (
        Phase("level", Part("conversations", 3_800_000, 0.08, Mixture()), LEVEL),
        Phase("focus", Part("focus", 3_000_000, 0.02, FOCUS), DECAY),
    )
    long: Long = LONG
    pairing: Pairing = PAIRS
    naming: Naming = NAMING
    spelling: Naming = SPELLING
    tuning: Showing = TUNING
    showing: Showing = SHOWING
    mixing: Mixing = MIXING
    drilling: Mixing = DRILLING
    settling: Mixing = SETTLING
    held_pages: int = 80
    vocabulary_conversations: int = 40_000
    exam: Exam = EXAM
    seed: int = 3

    @property
    def shown_before(self) -> int:
        """Pictures of the gallery that no longer are new to the last two stages."""
        paired = self.pairing.plan.steps * self.pairing.batch
        return paired + sum(how.pictures for how in (self.tuning, self.showing, self.mixing))


class Nano:
    """The stages. `data` is the folder with books/ and multilingual/; `out` receives every result."""

    def __init__(self, data: Path, out: Path, settings: Settings) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.data, self.out, self.settings = data, out, settings
        self.corpus = Corpus(data, settings.seed, settings.held_pages)
        self.language = Language(
            self.corpus, out, settings.row, settings.vocabulary_conversations, settings.seed
        )
        self.tokenizer = self.language.tokenizer(settings.config.vocab)

    def run(self) -> bool:
        """All stages; False if training was interrupted."""
        text = self.speak()
        text = None if text is None else self.lengthen(text)
        if text is None or not self.see(text):
            return False
        self.release(text)
        return True

    def speak(self) -> TextModule | None:
        """The teacher, and the student that learns from it."""
        settings = self.settings
        teacher = self.language.learn(settings.teacher, settings.teaching)
        return None if teacher is None else self.language.learn(settings.config, settings.learning, teacher)

    def lengthen(self, text: TextModule) -> TextModule | None:
        """The same weights for longer texts, and a while of training on such."""
        how, path = self.settings.long, self.out / "long" / WEIGHTS
        config = lengthened(text.config, how.factor, round(self.settings.row * how.factor))
        if not path.exists():
            names = sorted(p.name for p in (self.data / "books").glob("*.txt") if p.name not in HELD_BOOKS)
            rows = books(self.data, self.tokenizer, how.row, names, how.rows)
            longer = train_long(config, text.arrays(), rows, how.plan, path.parent)
            if longer is None:
                return None
            leave_arrays(path, longer.arrays())
        return decoder(replace(config, vision=self.settings.eyes), load_file(path), self.settings.row)

    def see(self, text: TextModule) -> bool:
        """Eyes: phrases; names of tiles; answers with the tower learning too, then with the tower frozen; all
        of it together, once more with more of what was still misread, and with more text.
        """
        settings, seeing = self.settings, self._seeing(text)
        pairs, named, spelled, tuned, shown, together, *_ = SEEING
        self.tower = new_tower(seeing.vision, text.config.width, settings.seed)

        def show(stage: str, how: Showing, frozen: bool) -> bool:
            return seeing.show(text, self.tower, how, self._talk(stage), stage, frozen)

        return (
            seeing.pair(self.tower, settings.pairing, pairs, settings.seed)
            and seeing.name(text, self.tower, settings.naming, named, settings.seed)
            and seeing.name(text, self.tower, settings.spelling, spelled, settings.seed)
            and show(tuned, settings.tuning, frozen=False)
            and show(shown, settings.showing, frozen=True)
            and self._mix(seeing, text, settings.mixing, together)
            and self._drill(seeing, text)
        )

    def repeat(self, files: Path) -> bool:
        """The last two stages alone, from the two files that an earlier run left; False if interrupted."""
        checkpoint, settings = open_checkpoint(files / TEXT_FILE), self.settings
        if checkpoint.vision is None:
            raise ModelFileError(files / TEXT_FILE, f"has no eyes: {EYES_FILE} is missing beside it")
        text, self.tower = stored_decoder(checkpoint, settings.row), stored_tower(checkpoint.vision)
        seeing = self._seeing(text)
        seeing.unseen(settings.shown_before)
        if not self._drill(seeing, text):
            return False
        self.release(text)
        return True

    def _seeing(self, text: TextModule) -> Seeing:
        settings = self.settings
        return Seeing(Gallery(settings.seed), text.config, self.tokenizer, self.out, settings.row)

    def _drill(self, seeing: Seeing, text: TextModule) -> bool:
        """What was still misread; then more text again; then halfway between both."""
        *_, drilled, settled = SEEING
        drilling, settling = self.settings.drilling, self.settings.settling
        if not (self._mix(seeing, text, drilling, drilled) and self._mix(seeing, text, settling, settled)):
            return False
        take(text, self.tower, mean(*(load_file(self.out / stage / WEIGHTS) for stage in (drilled, settled))))
        return True

    def _mix(self, seeing: Seeing, text: TextModule, how: Mixing, stage: str) -> bool:
        return learn_together(seeing, text, self.tower, how, self._talk(stage), stage)

    def release(self, text: TextModule) -> None:
        """Files, scores, and a card of the stages that were trained in this folder."""
        release = Release(self.out, text.config, self.tokenizer, self.corpus, self.settings.row)
        arrays = text.arrays()
        release.export(arrays, self.tower.arrays())
        release.examine(arrays, Gallery(self.settings.seed, held=True), self.settings.exam)
        folders = {name: self.out / name for name in self._stages() if (self.out / name).exists()}
        page = card(text.config, self.out / SCORES, folders)
        leave_text(self.out / "README.md", page)

    def _stages(self) -> list[str]:
        phases = (*self.settings.teaching, *self.settings.learning)
        return [*(phase.name for phase in phases), "long", *SEEING]

    def _talk(self, stage: str) -> Iterator[Document]:
        """Conversations without pictures, without end, so that what was learnt before is not forgotten.

        Each stage has its own: one that went on behind another's would begin elsewhere after a restart.
        """
        endless = Part(f"beside pictures, {stage}", 10**12, 0.03, FOCUS)
        return self.corpus.documents(self.tokenizer, endless, self.settings.row)


def made(data: Path, out: Path, settings: Settings, files: Path | None) -> bool:
    """All stages, or the last two from the files of an earlier run; False if interrupted."""
    if files is None:
        return Nano(data, out, settings).run()
    out.mkdir(parents=True, exist_ok=True)
    leave(out / VOCABULARY, stored_vocabulary(files))
    return Nano(data, out, settings).repeat(files)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the bundled model from raw text and drawn pictures.")
    parser.add_argument("--data", type=Path, required=True, help="folder with books/ and multilingual/")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument(
        "--repeat",
        type=Path,
        metavar="FOLDER",
        help="train the last two stages alone, from the files in this folder",
    )
    arguments = parser.parse_args()
    with in_a_sentence():
        done = made(arguments.data, arguments.out, Settings(), arguments.repeat)
    if not done:
        sys.exit("Interrupted. The same command goes on from here.")


if __name__ == "__main__":
    main()
