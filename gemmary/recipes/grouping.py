"""Multi-head attention becomes grouped-query attention: heads' keys and values are pooled (arXiv 2305.13245).

    python -m gemmary.recipes.grouping --out runs/grouping --data ../shared/data

Trains a toy with a key/value head for each query head on the bytes of books; pools them to fewer in three
ways (the paper's figure 4: mean of a group, its first head, random weights); trains each a little further.
Leaves grouping.json, grouping.svg and grouping.md: loss on held-out books over the share of training that
was added. Without --data texts are made up, and have to be copied. Two minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..config import Config
from ..errors import GemmaryError
from ..model.modules import TextModule
from ..train.loop import Plan, Trainer
from ..train.loss import mean_loss
from ..train.optimizer import Learning
from ..train.packing import Document, Rows, pack_rows
from ..train.text_task import TextTask
from .curves import Curve, drawn
from .network import decoder, new_decoder
from .results import in_a_sentence, leave_text

Arrays = dict[str, npt.NDArray[np.float32]]
HOW = ("mean", "first", "random")
NAMES = {"none": "all heads kept", "mean": "mean of a group", "first": "first of a group", "random": "random"}
TOY = Config(
    name="toy", vocab=260, width=96, layers=4, heads=8, kv_heads=8, head_dim=16, ffn=256, window=32,
    context=128, query_scalar=16, global_layers=(1, 3),
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """`steps`: updates of the multi-head model; `shares` of them are added after pooling to `kv_heads`."""

    config: Config = TOY
    kv_heads: int = 2
    row: int = 128
    steps: int = 400
    shares: tuple[float, ...] = (0.0, 0.01, 0.025, 0.05, 0.1)
    seeds: tuple[int, ...] = (0, 1, 2)
    held: int = 48  # rows that nothing is trained on


def grouped(
    arrays: Mapping[str, npt.NDArray[np.float32]],
    config: Config,
    kv_heads: int,
    how: str = "mean",
    seed: int = 0,
) -> tuple[Arrays, Config]:
    """The weights and config of a model with `kv_heads` key/value heads, each of a group of those before.

    `arrays` by canonical name; k and v of every layer are [heads * H, D], heads of a group stand together, as
    query heads that share one do. `how`: "mean" of the group, its "first", or "random" weights of the same
    size. Norms of keys are for all heads and stay. GemmaryError where groups would not be equal.
    """
    if kv_heads < 1 or config.kv_heads % kv_heads:
        raise GemmaryError(
            f"{config.kv_heads} key/value heads cannot be put into {kv_heads} equal groups; "
            "choose a number that divides them"
        )
    if how not in HOW:
        raise ValueError(f'"{how}" is no way to pool; choose one of {", ".join(HOW)}')
    dice = np.random.default_rng(seed)
    pooled = {
        name: _pooled(array, (kv_heads, config.kv_heads // kv_heads, config.head_dim), how, dice)
        if name.endswith((".k", ".v"))
        else array
        for name, array in arrays.items()
    }
    return pooled, replace(config, kv_heads=kv_heads)


def _pooled(
    array: npt.NDArray[np.float32], shape: tuple[int, int, int], how: str, dice: np.random.Generator
) -> npt.NDArray[np.float32]:
    heads_GEHD = array.reshape(*shape, array.shape[1])
    if how == "mean":
        chosen = heads_GEHD.mean(1, dtype=np.float64)
    elif how == "first":
        chosen = heads_GEHD[:, 0]
    else:
        chosen = dice.normal(0.0, array.std(), heads_GEHD[:, 0].shape)
    return chosen.reshape(-1, array.shape[1]).astype(array.dtype)


@dataclass(frozen=True)
class Texts:
    """What is trained on, and what is held out."""

    trained: Rows
    held: Rows


def book_texts(folder: Path, settings: Settings) -> Texts:
    """Pieces of books/*.txt as bytes, a row each; the last book is held out."""
    books = sorted((folder / "books").glob("*.txt"))
    if len(books) < 2:
        raise GemmaryError(f"{folder} has no books/*.txt, or only one; name another folder, or none")
    need = settings.row * settings.steps * 8
    trained = b"".join(book.read_bytes()[2000 : 2000 + need // (len(books) - 1)] for book in books[:-1])
    return _texts(trained, books[-1].read_bytes()[2000:], settings)


def made_up_texts(settings: Settings) -> Texts:
    """Words of random bytes, every one said twice: what is to be learnt is to look back."""
    dice = np.random.default_rng(0)

    def words(count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield bytes(dice.integers(97, 123, dice.integers(3, 12)).tolist()) * 2 + b" "

    return _texts(b"".join(words(settings.steps * 40)), b"".join(words(settings.held * 20)), settings)


def _texts(trained: bytes, held: bytes, settings: Settings) -> Texts:
    def rows(text: bytes) -> Rows:
        ids = np.frombuffer(text, np.uint8).astype(np.int32) + 4
        pieces = (ids[at : at + settings.row] for at in range(0, len(ids) - settings.row + 1, settings.row))
        return pack_rows((Document(piece.tolist(), [1.0] * len(piece)) for piece in pieces), settings.row)

    return Texts(rows(trained), rows(held[: settings.row * settings.held]))


class Study:
    """One seed: a multi-head model, and what becomes of it. Results are losses on the held texts, in nats."""

    def __init__(self, settings: Settings, texts: Texts, folder: Path, seed: int) -> None:
        self.settings, self.texts, self.folder, self.seed = settings, texts, folder / f"seed{seed}", seed

    def losses(self) -> dict[str, list[float]]:
        """By way of pooling ("none": all heads stay), at each of the settings' shares."""
        config, shares = self.settings.config, self.settings.shares
        whole = new_decoder(config, self.seed, self.settings.row)
        self._train(whole, self.settings.steps, "multi-head")
        found = {}
        for how in ("none", *HOW):
            arrays, smaller = whole.arrays(), config
            if how != "none":
                arrays, smaller = grouped(arrays, config, self.settings.kv_heads, how, self.seed)
            model = decoder(smaller, arrays, self.settings.row)
            found[how] = [self._after(model, share, how) for share in shares]
        return found

    def _after(self, model: TextModule, share: float, how: str) -> float:
        if steps := round(share * self.settings.steps):
            self._train(model, steps, how)
        return mean_loss(model, self.texts.held)

    def _train(self, model: TextModule, steps: int, name: str) -> None:
        """To `steps` updates; a longer run goes on where a shorter one in the folder ended."""
        plan = Plan(
            steps=steps, rows=4, learning=Learning(warmup=10, cooldown=0), low=False, fuse=False,
            checkpoint_every=10**6, seed=self.seed,
        )  # fmt: skip
        if not Trainer(TextTask(model, self.texts.trained, plan), plan, self.folder / name).run():
            sys.exit("Interrupted. The same command goes on from here.")


def study(settings: Settings, texts: Texts, folder: Path) -> dict[str, list[list[float]]]:
    """Losses by way of pooling, then share, then seed."""
    seeds = [Study(settings, texts, folder, seed).losses() for seed in settings.seeds]
    return {how: [list(of) for of in zip(*(s[how] for s in seeds), strict=True)] for how in ("none", *HOW)}


def verdict(found: Mapping[str, list[list[float]]], shares: tuple[float, ...]) -> str:
    """What the first and the last point of the curves say of the mean against the first head."""
    sentences = []
    for place in (0, -1):
        gaps = [f - m for f, m in zip(found["first"][place], found["mean"][place], strict=True)]
        gap, spread = statistics.mean(gaps), statistics.stdev(gaps) if len(gaps) > 1 else float("inf")
        seen = "no effect seen" if abs(gap) <= spread else f"{gap:+.3f} nats"
        sentences.append(f"after {shares[place]:.1%} more training, the first head against the mean: {seen}")
    return "; ".join(sentences)


def write(settings: Settings, found: Mapping[str, list[list[float]]], folder: Path) -> None:
    """grouping.json, grouping.svg, grouping.md."""
    percents = [100 * share for share in settings.shares]
    curves = [Curve(name, percents, _means(found[how])) for how, name in NAMES.items()]
    title = f"{settings.config.kv_heads} key/value heads become {settings.kv_heads}"
    said = verdict(found, settings.shares)
    record = {"settings": asdict(settings), "losses": found, "verdict": said}
    leave_text(folder / "grouping.json", json.dumps(record, indent=1))
    svg = drawn(title, "percent of training added", "loss on held-out text, nats a byte", curves)
    leave_text(folder / "grouping.svg", svg)
    leave_text(folder / "grouping.md", _page(title, said, settings, found))


def _means(losses: list[list[float]]) -> list[float]:
    return [statistics.mean(of_seeds) for of_seeds in losses]


def _page(title: str, said: str, settings: Settings, found: Mapping[str, list[list[float]]]) -> str:
    opening = f"{said[0].upper()}{said[1:]} (loss on held-out text, {len(settings.seeds)} seeds)."
    paper = "Ainslie et al. 2023 (arXiv 2305.13245, figure 4): the mean is best, then the first, then random."
    head = " | ".join(f"{share:.1%}" for share in settings.shares)
    lines = [
        f"| {name} | " + " | ".join(f"{loss:.3f}" for loss in _means(found[how])) + " |"
        for how, name in NAMES.items()
    ]
    return "\n".join([
        f"# {title}", "", opening, paper, "",
        f"| share of training added | {head} |", "| --- |" + " --- |" * len(settings.shares), *lines, "",
        "![loss over added training](grouping.svg)", "",
    ])  # fmt: skip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Pool key/value heads, then train a little further.")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--data", type=Path, help="folder with books/; without it texts are made up")
    parser.add_argument("--steps", type=int, default=Settings.steps, help="updates of the multi-head model")
    given = parser.parse_args()
    settings = Settings(steps=given.steps)
    with in_a_sentence():
        texts = book_texts(given.data, settings) if given.data else made_up_texts(settings)
        given.out.mkdir(parents=True, exist_ok=True)
        write(settings, study(settings, texts, given.out), given.out)


if __name__ == "__main__":
    main()
