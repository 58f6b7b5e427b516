"""The long phase: a model that was trained on short texts learns to read long ones.

    python -m gemmary.recipes.long nano.gguf --data ../shared/data --out runs/long

Gemma 3 (report, section 2) is trained at 32K tokens; at the end, the positions of its global layers are
divided by 8 and training goes on for a while (positional interpolation, arXiv 2306.15595). Local layers see
no further than their window and stay as they are. How long the phase is, the report does not say.

The folder gets positions.json, which is perplexity by position before, rescaled and not yet trained, and
after; and long.gguf, which says factor 8.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..config import Config
from ..engine.load import read_tokenizer
from ..errors import GemmaryError
from ..formats import FORMATS
from ..inputs.tokenizer import Tokenizer
from ..model.modules import TextModule
from ..train.loop import Plan, Trainer
from ..train.optimizer import Learning
from ..train.packing import Document, Rows, pack_rows
from ..train.positions import Bucket, doubling, loss_by_position
from ..train.text_task import TextTask
from ..train.vocabulary import BOS
from ..weights.checkpoint import Checkpoint, open_checkpoint
from ..weights.requantize import plan
from ..weights.save import write_gguf
from ..weights.tensor import Tensor
from ..weights.tokenizerfiles import TEMPLATE, chat_template, read_vocabulary
from .corpus import HELD_BOOKS
from .network import decoder, stored_decoder
from .results import Weights, in_a_sentence, leave_text

FACTOR = 8.0


def lengthened(config: Config, factor: float, context: int) -> Config:
    """`config` with the positions of its global layers divided by `factor` more, and for `context` tokens.

    The weights are the same ones. ValueError: a factor below 1, or a shorter context than before.
    """
    if factor < 1 or context < config.context:
        raise ValueError(
            f"{config.context:,} tokens cannot be lengthened to {context:,} by a factor of {factor:g}"
        )
    further = replace(config.rope_global, factor=config.rope_global.factor * factor)
    return replace(config, rope_global=further, context=context)


def whole_pieces(ids: Sequence[int], row: int) -> list[Document]:
    """Consecutive pieces of a text, each of exactly `row` tokens with its <bos>; the rest is left out."""
    starts = range(0, len(ids) - row + 2, row - 1)
    return [Document([BOS, *ids[at : at + row - 1]], [0.0] + [1.0] * (row - 1)) for at in starts]


def books(folder: Path, tokenizer: Tokenizer, row: int, names: Sequence[str], most: int) -> Rows:
    """At most `most` rows of `row` tokens from the books `names`, as many from each.

    GemmaryError: none of them is as long as a row.
    """
    share = max(1, most // len(names))
    texts = ((folder / "books" / name).read_text(encoding="utf-8") for name in names)
    found = [piece for text in texts for piece in whole_pieces(tokenizer.encode(text), row)[:share]]
    if not found:
        raise GemmaryError(f"no book of {folder} has {row:,} tokens: take shorter rows")
    return pack_rows(found, row)


def train_long(config: Config, weights: Weights, data: Rows, how: Plan, folder: Path) -> TextModule | None:
    """The phase itself: `config` as `lengthened` made it, `weights` as they were, `data` in long rows.

    None if it was interrupted; called again, it goes on. GemmaryError: as `Trainer.run`.
    """
    model = decoder(config, weights, data.row)
    return model if Trainer(TextTask(model, data, how), how, folder).run() else None


PLAN = Plan(
    steps=60, rows=1, parts=2, checkpoint_every=20, learning=Learning(peak=5e-4, warmup=5, cooldown=30)
)


@dataclass(frozen=True)
class Settings:
    """The recipe's: length of training rows and of what is measured, steps, and the format of long.gguf."""

    row: int = 4096
    measured: int = 16_384
    factor: float = FACTOR
    rows: int = 400  # for training
    held: int = 4
    format: str = "q8_0"
    plan: Plan = PLAN


class Long:
    """The stages, for the model at `source` with the books below `data`; `out` receives every result."""

    def __init__(self, source: Path, data: Path, out: Path, settings: Settings) -> None:
        self.data, self.out, self.settings = data, out, settings
        self.checkpoint: Checkpoint = open_checkpoint(source)
        self.tokenizer = read_tokenizer(self.checkpoint)
        self.short = self.checkpoint.config
        context = max(round(self.short.context * settings.factor), settings.row)
        self.config = lengthened(self.short, settings.factor, context)
        out.mkdir(parents=True, exist_ok=True)

    def run(self) -> bool:
        """Measure, train, measure, export; False if training was interrupted."""
        names = sorted(path.name for path in (self.data / "books").glob("*.txt"))
        trained = [name for name in names if name not in HELD_BOOKS]
        settings = self.settings
        weights = stored_decoder(self.checkpoint, settings.row).arrays()
        rows = books(self.data, self.tokenizer, settings.row, trained, settings.rows)
        model = train_long(self.config, weights, rows, settings.plan, self.out / "training")
        if model is None:
            return False
        after = model.arrays()
        measured = {
            "before": self.measure(self.short, weights),
            "rescaled": self.measure(self.config, weights),
            "after": self.measure(self.config, after),
        }
        text = json.dumps({name: [b._asdict() for b in found] for name, found in measured.items()}, indent=1)
        leave_text(self.out / "positions.json", text)
        print(said(measured))
        self.export(after)
        return True

    def measure(self, config: Config, weights: Weights) -> list[Bucket]:
        """Loss by position in books that nothing is trained on."""
        row = self.settings.measured
        held = books(self.data, self.tokenizer, row, HELD_BOOKS, self.settings.held)
        return loss_by_position(decoder(config, weights, row), held, doubling(128, row))

    def export(self, weights: Weights) -> None:
        """long.gguf: matrices in the settings' format, norms in float32."""
        exact = {
            name: Tensor.pack(name, array, FORMATS["F32"], gain_offset=0.0 if array.ndim == 2 else 1.0)
            for name, array in weights.items()
        }
        stored = plan(exact, self.settings.format, self.settings.format).tensors
        template = chat_template(self.checkpoint)
        metadata = {} if template is None else {TEMPLATE: template}
        write_gguf(self.out / "long.gguf", self.config, stored, read_vocabulary(self.checkpoint), metadata)


def said(measured: Mapping[str, list[Bucket]]) -> str:
    """Perplexities as lines of text, a column for each measurement."""
    head = f"{'positions':>16}" + "".join(f"{name:>12}" for name in measured)
    lines = [
        f"{buckets[0].first:>7,} - {buckets[0].last:>6,}"
        + "".join(f"{b.perplexity:>12,.1f}" for b in buckets)
        for buckets in zip(*measured.values(), strict=True)
    ]
    return "\n".join(["Perplexity by position", head, *lines])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Teach a model that was trained on short texts long ones.")
    parser.add_argument("model", type=Path, help="GGUF file or folder")
    parser.add_argument("--data", type=Path, required=True, help="folder with books/")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--row", type=int, default=Settings.row, help="tokens of a training row")
    parser.add_argument("--measured", type=int, default=Settings.measured, help="tokens of a measured text")
    parser.add_argument("--steps", type=int, default=Settings.plan.steps, help="length of the phase")
    given = parser.parse_args()
    steps = replace(Settings.plan, steps=given.steps)
    settings = Settings(row=given.row, measured=given.measured, plan=steps)
    with in_a_sentence():
        done = Long(given.model, given.data, given.out, settings).run()
    if not done:
        sys.exit("Interrupted. The same command goes on from here.")


if __name__ == "__main__":
    main()
