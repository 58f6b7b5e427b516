"""From raw text to the bundled model, in one command:

    python -m gemmary.recipes.nano --data ../shared/data --out runs/nano

Vocabulary, data, training, export, examination, model card. Every stage leaves its result in the folder and
is skipped where that is already there; training goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from ..config import NANO, Config
from ..engine.load import load
from ..formats import FORMATS
from ..inputs.sentencepiece_model import read_model
from ..inputs.tokenizer import Tokenizer
from ..model.modules import TextModule
from ..ops.trainable import Trainable
from ..train.initial import initialise
from ..train.loop import Plan, Trainer
from ..train.loss import mean_loss
from ..train.optimizer import Learning
from ..train.packing import Rows, pack_rows
from ..train.text_task import TextTask
from ..train.vocabulary import BOS, EOS, PAD, UNK, train_vocabulary
from ..weights.assemble import module_text
from ..weights.checkpoint import open_checkpoint
from ..weights.save import write_gguf
from ..weights.tensor import Tensor
from ..weights.vocabulary import Vocabulary
from .card import card
from .conversation import FAMILIAR, FOCUS, KNOWN, OTHER, Mixture
from .corpus import Corpus, Part
from .everyday import everyday_tasks
from .exam import Question, examine, generated, rephrased
from .lookup import lookup

WEIGHTS = "weights.safetensors"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>'"
    " + ('model' if message['role'] == 'assistant' else 'user')"
    " + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)


# First everything at a constant rate; then, while the rate falls to zero, what most people ask.
LEVEL = Plan(steps=1600, learning=Learning(cooldown=0))
DECAY = Plan(steps=1000, learning=Learning(warmup=20, cooldown=1000))


@dataclass(frozen=True)
class Phase:
    """One run of the loop: its folder's name, its data, its plan."""

    name: str
    part: Part
    plan: Plan


@dataclass(frozen=True)
class Settings:
    """Everything that the result depends on, besides the data itself."""

    config: Config = NANO
    row: int = 512
    phases: tuple[Phase, ...] = (
        Phase("level", Part("conversations", 12_288_000, 0.08, Mixture()), LEVEL),
        Phase("focus", Part("focus", 4_096_000, 0.02, FOCUS), DECAY),
    )
    held_pages: int = 80
    vocabulary_conversations: int = 30_000
    exam_questions: int = 160  # of each kind
    held_rows: int = 40  # for each perplexity
    format: str = "Q8_0"
    seed: int = 3


class Nano:
    """The stages. `data` is the folder with books/ and multilingual/; `out` receives every result."""

    def __init__(self, data: Path, out: Path, settings: Settings) -> None:
        self.out, self.settings = out, settings
        self.corpus = Corpus(data, settings.seed, settings.held_pages)
        self.ops = Trainable(settings.row, (None, settings.config.window))
        out.mkdir(parents=True, exist_ok=True)

    def run(self) -> bool:
        """All stages; False if training was interrupted."""
        if not self.train():
            return False
        self.export()
        self.examine()
        logs = [self.out / phase.name / "log.jsonl" for phase in self.settings.phases]
        text = card(self.settings.config, self.out / "scores.json", logs)
        (self.out / "README.md").write_text(text, encoding="utf-8")
        return True

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """tokenizer.model: the vocabulary."""
        path = self.out / "tokenizer.model"
        if not path.exists():
            texts = self.corpus.vocabulary_texts(self.settings.vocabulary_conversations)
            path.write_bytes(train_vocabulary(texts, self.settings.config.vocab))
        return Tokenizer.from_model(path)

    def rows(self, phase: Phase) -> Rows:
        """rows.npz: the packed rows of a phase."""
        path = self.out / phase.name / "rows.npz"
        if not path.exists():
            documents = self.corpus.documents(self.tokenizer, phase.part, self.settings.row)
            rows = pack_rows(documents, self.settings.row)
            path.parent.mkdir(exist_ok=True)
            np.savez(path, ids=rows.ids, document=rows.document, pos=rows.pos, weights=rows.weights)
        with np.load(path, allow_pickle=False) as arrays:
            return Rows(arrays["ids"], arrays["document"], arrays["pos"], arrays["weights"])

    def train(self) -> bool:
        """weights.safetensors of each phase: float32 by canonical name, norms without their 1.

        False if interrupted.
        """
        model = TextModule(self.settings.config, self.ops)
        initialise(model, self.settings.seed)
        for phase in self.settings.phases:
            path = self.out / phase.name / WEIGHTS
            if path.exists():
                model.load_arrays(load_file(path))
                continue
            if not Trainer(TextTask(model, self.rows(phase), phase.plan), phase.plan, path.parent).run():
                return False
            save_file(model.arrays(), path)
        return True

    @property
    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """What the last phase left."""
        return load_file(self.out / self.settings.phases[-1].name / WEIGHTS)

    def export(self) -> None:
        """nano.gguf: matrices in the settings' format, norms in float32, the vocabulary inside."""
        path = self.out / "nano.gguf"
        if path.exists():
            return
        matrix, vector = FORMATS[self.settings.format], FORMATS["F32"]
        tensors = {
            name: Tensor.pack(name, a, matrix)
            if a.ndim == 2
            else Tensor.pack(name, a, vector, gain_offset=1.0)
            for name, a in self.weights.items()
        }
        pieces = read_model((self.out / "tokenizer.model").read_bytes(), "tokenizer.model")
        kinds = np.array(pieces.kinds, np.int32)
        metadata = {
            "general.name": "Gemmary nano",
            "general.license": "apache-2.0",
            "general.description": "An offline helper for the command line, from tldr pages (CC BY 4.0)",
            "tokenizer.chat_template": TEMPLATE,
        }
        vocabulary = Vocabulary(list(pieces.pieces), pieces.scores, kinds, BOS, EOS, UNK, PAD)
        write_gguf(path, self.settings.config, tensors, vocabulary, metadata)

    def examine(self) -> None:
        """scores.json: perplexities, and accuracies of greedy answers beside BM25 over the same pages."""
        path = self.out / "scores.json"
        if path.exists():
            return
        search = lookup(self.corpus.pages, everyday_tasks())
        scores: dict[str, object] = {"perplexity": self._perplexities()}
        with load(self.out / "nano.gguf") as model:

            def greedy(asked: str) -> str:
                return model.chat([{"role": "user", "content": asked}], temperature=0.0, max_tokens=120).text

            for name, questions in self._questions().items():
                given = {"model": examine(greedy, questions), "BM25": examine(search.answer, questions)}
                scores[name] = {who: asdict(score) for who, score in given.items()}
        path.write_text(json.dumps(scores, indent=1), encoding="utf-8")

    def _questions(self) -> dict[str, list[Question]]:
        classes, dice = self.corpus.writer("exam").classes, self.corpus.dice("questions")
        held = [(page, example) for page in self.corpus.held for example in page.examples]
        groups = {
            "familiar commands": classes[FAMILIAR], "known commands": classes[KNOWN],
            "obscure commands": classes[OTHER], "commands never seen": held,
        }  # fmt: skip
        count = self.settings.exam_questions
        of_groups = {name: generated(pairs, count, dice) for name, pairs in groups.items()}
        return {"reworded by hand": rephrased(), **of_groups}

    def _perplexities(self) -> dict[str, dict[str, float]]:
        """Held-out text under the float32 weights and under the exported file."""
        row, count = self.settings.row, self.settings.held_rows
        slices = {
            "conversations": self.corpus.held_chats(self.tokenizer, count * row // 60, row),
            "books": self.corpus.held_books(self.tokenizer, count, row // 2),
        }
        exact = TextModule(self.settings.config, self.ops)
        exact.load_arrays(self.weights)
        packed = module_text(open_checkpoint(self.out / "nano.gguf"), self.ops)
        models = {"float32": exact, self.settings.format: packed}
        return {
            name: {kind: math.exp(mean_loss(model, pack_rows(held, row))) for kind, model in models.items()}
            for name, held in slices.items()
        }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the bundled model from raw text.")
    parser.add_argument("--data", type=Path, required=True, help="folder with books/ and multilingual/")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is made")
    arguments = parser.parse_args()
    if not Nano(arguments.data, arguments.out, Settings()).run():
        sys.exit("Interrupted. The same command goes on from here.")


if __name__ == "__main__":
    main()
