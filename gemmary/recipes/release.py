"""From trained weights to what is shipped: nano.gguf, its picture half mmproj-nano.gguf, scores, a card."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..config import Config
from ..engine.load import load
from ..engine.model import Model
from ..formats import FORMATS
from ..inputs.crops import PanAndScan
from ..inputs.sentencepiece_model import read_model, write_model
from ..inputs.tokenizer import Tokenizer
from ..train.loss import mean_loss
from ..train.packing import pack_rows
from ..train.vocabulary import BOS, EOS, PAD, UNK
from ..weights.checkpoint import open_checkpoint
from ..weights.save import write_gguf
from ..weights.savevision import pack_tower, write_mmproj
from ..weights.tensor import Tensor
from ..weights.tokenizerfiles import pieces_of, read_vocabulary
from ..weights.vocabulary import Vocabulary
from .conversation import FAMILIAR, KNOWN, OTHER
from .corpus import Corpus
from .everyday import everyday_tasks
from .exam import Question, examine, generated, rephrased
from .language import VOCABULARY
from .lookup import lookup
from .network import decoder, stored_decoder
from .pictures import Gallery
from .results import Weights, leave_text
from .sightexam import KINDS, LONG, examine_sight, sighted

TEXT_FILE, EYES_FILE, SCORES = "nano.gguf", "mmproj-nano.gguf", "scores.json"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>'"
    " + ('model' if message['role'] == 'assistant' else 'user')"
    " + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
ABOUT = {
    "general.name": "Gemmary nano",
    "general.license": "apache-2.0",
    "general.description": "An offline helper for the command line, from tldr pages (CC BY 4.0)",
}
FORMAT, EYES_FORMAT = "Q8_0", "F16"


@dataclass(frozen=True)
class Exam:
    """How much is asked: questions of each kind, rows for each perplexity, pictures of each kind."""

    questions: int = 160
    rows: int = 40
    pictures: int = 60


class Release:
    """What is made of the weights of text and tower, in the folder `out`; each result once."""

    def __init__(self, out: Path, config: Config, tokenizer: Tokenizer, corpus: Corpus, row: int) -> None:
        self.out, self.config, self.tokenizer, self.corpus, self.row = out, config, tokenizer, corpus, row

    def export(self, text: Weights, eyes: Weights) -> None:
        """Both files: matrices in 8 and 16 bits, norms in float32, the vocabulary inside."""
        if not (self.out / TEXT_FILE).exists():
            whole = read_model((self.out / VOCABULARY).read_bytes(), VOCABULARY)
            kinds = np.array(whole.kinds, np.int32)
            vocabulary = Vocabulary(list(whole.pieces), whole.scores, kinds, BOS, EOS, UNK, PAD)
            about = {**ABOUT, "tokenizer.chat_template": TEMPLATE}
            write_gguf(self.out / TEXT_FILE, self.config, packed(text), vocabulary, about)
        if self.config.vision is not None and not (self.out / EYES_FILE).exists():
            tower = pack_tower(eyes, FORMATS[EYES_FORMAT])
            write_mmproj(self.out / EYES_FILE, self.config.vision, tower, ABOUT)

    def examine(self, text: Weights, gallery: Gallery, exam: Exam) -> None:
        """scores.json: perplexities; commands beside BM25 over the same pages; pictures beside wrong ones."""
        path = self.out / SCORES
        if path.exists():
            return
        with load(self.out / TEXT_FILE) as model:
            scores = {
                "perplexity": self._perplexities(text, exam.rows),
                "commands": self._commands(model, exam.questions),
                "pictures": pictures_scores(model, gallery, exam.pictures),
                "pan and scan": scanned_scores(model, gallery, exam.pictures),
            }
        leave_text(path, json.dumps(scores, indent=1))

    def _commands(self, model: Model, count: int) -> dict[str, Any]:
        search = lookup(self.corpus.pages, everyday_tasks(), self.corpus.translations)
        return {
            name: {
                "model": asdict(examine(lambda asked: said(model, asked), questions)),
                "BM25": asdict(examine(search.answer, questions)),
            }
            for name, questions in self._questions(count).items()
        }

    def _questions(self, count: int) -> dict[str, Sequence[Question]]:
        writer, dice = self.corpus.writer("exam"), self.corpus.dice("questions")
        held = [(page, example) for page in self.corpus.held for example in page.examples]
        groups = {
            "familiar commands": writer.classes[FAMILIAR], "known commands": writer.classes[KNOWN],
            "obscure commands": writer.classes[OTHER], "commands never seen": held,
        }  # fmt: skip
        of_groups = {name: generated(pairs, count, dice) for name, pairs in groups.items()}
        abroad = writer.abroad.questions(count)
        return {
            "reworded by hand": rephrased(),
            **of_groups,
            **({"other languages": abroad} if abroad else {}),
        }

    def _perplexities(self, text: Weights, count: int) -> dict[str, dict[str, float]]:
        """Held-out text under the float32 weights and under the exported file."""
        row = self.row
        slices = {
            "conversations": self.corpus.held_chats(self.tokenizer, count * row // 60, row),
            "books": self.corpus.held_books(self.tokenizer, count, row // 2),
        }
        models = {
            "float32": decoder(self.config, text, row),
            FORMAT: stored_decoder(open_checkpoint(self.out / TEXT_FILE), row),
        }
        return {
            name: {kind: math.exp(mean_loss(model, pack_rows(held, row))) for kind, model in models.items()}
            for name, held in slices.items()
        }


def stored_vocabulary(files: Path) -> bytes:
    """The content of tokenizer.model, as the decoder's file in a folder has it. ModelFileError."""
    return write_model(pieces_of(read_vocabulary(open_checkpoint(files / TEXT_FILE))))


def packed(text: Weights) -> dict[str, Tensor]:
    """Float32 arrays of a decoder as they are shipped."""
    return {
        name: Tensor.pack(name, array, FORMATS[FORMAT])
        if array.ndim == 2
        else Tensor.pack(name, array, FORMATS["F32"], gain_offset=1.0)
        for name, array in text.items()
    }


def said(
    model: Model, asked: str, picture: Image.Image | None = None, scan: PanAndScan | bool = False
) -> str:
    """The greedy answer to one question."""
    parts = [{"type": "image", "image": picture}] if picture is not None else []
    message = {"role": "user", "content": [*parts, {"type": "text", "text": asked}]}
    return model.chat([message], temperature=0.0, max_tokens=120, pan_and_scan=scan).text


def pictures_scores(model: Model, gallery: Gallery, count: int) -> Mapping[str, Any]:
    """Each kind of picture, with the right picture and with a wrong one."""
    return {
        kind: asdict(examine_sight(lambda p, asked: said(model, asked, p), sighted(gallery, kind, count)))
        for kind in KINDS
    }


def scanned_scores(model: Model, gallery: Gallery, count: int) -> Mapping[str, Any]:
    """Wide and tall documents, in one piece and with pan & scan."""
    found: dict[str, Any] = {}
    for kind in LONG:
        questions = sighted(gallery, kind, count)
        for name, scan in (("whole", False), ("crops", True)):
            score = examine_sight(lambda p, asked, scan=scan: said(model, asked, p, scan), questions)  # type: ignore[misc]
            found[f"{kind}, {name}"] = asdict(score)
    return found
