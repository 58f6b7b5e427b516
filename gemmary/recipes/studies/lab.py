"""Where toys are trained: a small vocabulary, books as rows, and one way to train and to measure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from safetensors.numpy import load_file

from ...config import Config
from ...errors import GemmaryError
from ...inputs.tokenizer import Tokenizer
from ...train.loop import Plan, Trainer
from ...train.loss import mean_loss
from ...train.optimizer import Learning
from ...train.packing import Rows, pack_rows
from ...train.teacher import Teacher
from ...train.text_task import TextTask
from ...train.vocabulary import train_vocabulary
from ..corpus import HELD_BOOKS
from ..long import books, whole_pieces
from ..network import decoder, new_decoder
from ..results import Weights, leave, leave_arrays


@dataclass(frozen=True)
class Scale:
    """How large the toys of a lab are: pieces, characters of each book, tokens of a step, held-out tokens."""

    vocabulary: int = 1024
    characters: int = 60_000
    step_tokens: int = 1024
    held: int = 65_536


QUICK = Scale(vocabulary=640, characters=6_000, step_tokens=128, held=512)


@dataclass(frozen=True)
class Schedule:
    """A toy's training: `steps`, after `warmup` of them at rate `peak`; `level`: it stays up until the end.

    Without `level` the rate falls to 0 over the second half.
    """

    steps: int
    level: bool = False
    peak: float = 1e-2
    warmup: int = 20

    def learning(self) -> Learning:
        """As the loop wants it."""
        return Learning(peak=self.peak, warmup=self.warmup, cooldown=0 if self.level else self.steps // 2)


class Lab:
    """Toys from the books below `data`; what they share lies in `folder`, whatever study made it first."""

    def __init__(self, data: Path, folder: Path, scale: Scale) -> None:
        self.data, self.folder, self.scale = data, folder, scale
        if not (data / "books").is_dir():
            raise GemmaryError(f"{data} has no folder books/: say with --data where the training data is")
        folder.mkdir(parents=True, exist_ok=True)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """tokenizer.model, from the training books."""
        path = self.folder / "tokenizer.model"
        if not path.exists():
            lines = (line for text in self._texts() for line in text.split("\n") if line)
            leave(path, train_vocabulary(lines, self.scale.vocabulary))
        return Tokenizer.from_model(path)

    def _texts(self) -> Iterator[str]:
        """The middle of each book that is trained on: neither title pages nor licences."""
        for path in sorted((self.data / "books").glob("*.txt")):
            if path.name not in HELD_BOOKS:
                text = path.read_text(encoding="utf-8")
                first = max(0, len(text) - self.scale.characters) // 2
                yield text[first : first + self.scale.characters]

    @cached_property
    def _books(self) -> list[list[int]]:
        return [self.tokenizer.encode(text) for text in self._texts()]

    def rows(self, row: int) -> Rows:
        """Training rows of `row` tokens, each a consecutive piece of one book behind <bos>."""
        return pack_rows([piece for book in self._books for piece in whole_pieces(book, row)], row)

    def held(self, row: int) -> Rows:
        """Rows from the two books that nothing is trained on, as many from each."""
        return books(self.data, self.tokenizer, row, HELD_BOOKS, max(2, self.scale.held // row))

    def train(
        self, folder: Path, config: Config, row: int, schedule: Schedule, seed: int,
        start: Weights | None = None, teacher: Teacher | None = None,
    ) -> Weights:  # fmt: skip
        """Weights after `schedule`, from `start` or first ones; from where `folder` has got to."""
        path = folder / f"weights-{schedule.steps}.safetensors"
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            return load_file(path)
        model = new_decoder(config, seed, row) if start is None else decoder(config, start, row)
        plan = Plan(
            steps=schedule.steps, rows=max(1, self.scale.step_tokens // row), parts=1, workers=1, low=False,
            fuse=False, checkpoint_every=100, keep=1, seed=seed, learning=schedule.learning(),
            distill=None if teacher is None else teacher.how,
        )  # fmt: skip
        task = TextTask(model, self.rows(row), plan, teacher)
        if not Trainer(task, plan, folder / "training").run():
            raise KeyboardInterrupt
        leave_arrays(path, model.arrays())
        return model.arrays()

    def loss(self, config: Config, row: int, weights: Weights) -> float:
        """Nats a token of the held-out books."""
        return mean_loss(decoder(config, weights, row), self.held(row))


def toy(name: str, layers: int, width: int, window: int, context: int, vocabulary: int) -> Config:
    """A Gemma 3 of toy size: two query heads of 32 share one key/value head; a global layer after five."""
    return Config(
        name=name, vocab=vocabulary, width=width, layers=layers, heads=2, kv_heads=1, head_dim=32,
        ffn=3 * width, window=window, context=context, query_scalar=32,
    )  # fmt: skip
