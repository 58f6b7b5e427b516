"""The training data of nano: conversations and books as token documents, and what is held out of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..inputs.tokenizer import Tokenizer
from ..train.packing import Document
from ..train.vocabulary import BOS, END_OF_TURN, START_OF_TURN
from .conversation import FAMILIAR, KNOWN, Exchange, Mixture, Writer
from .manual import Page, read_pages
from .translation import LANGUAGES, read_translations

HELD_BOOKS = ("h-g-wells_the-time-machine.txt", "kenneth-grahame_the-wind-in-the-willows.txt")


@dataclass(frozen=True)
class Part:
    """Data of one part of the training: how many tokens, what share of them from books, what about.

    `purpose` names the generator, so that parts do not repeat each other's wordings.
    """

    purpose: str
    tokens: int
    book_share: float
    mixture: Mixture


class Corpus:
    """Everything that is read from `folder` (books/ and multilingual/), in the order that `seed` gives it."""

    def __init__(self, folder: Path, seed: int, held_pages: int) -> None:
        self.folder, self.seed, self.held_pages = folder, seed, held_pages

    def dice(self, purpose: str) -> random.Random:
        """A generator of its own for each purpose, so that one use does not change another."""
        return random.Random(f"{self.seed} {purpose}")

    @cached_property
    def pages(self) -> list[Page]:
        """All pages, held out ones too."""
        return read_pages(self.folder / "multilingual")

    @cached_property
    def held(self) -> list[Page]:
        """Pages that are never trained on: half of them known, half obscure; no familiar command."""
        rank = Writer(self.pages, self.dice("rank")).rank
        rare = [page for page in self.pages if rank(page)[0] < FAMILIAR and not page.platform]
        known = [page for page in rare if rank(page)[0] == KNOWN]
        obscure = [page for page in rare if rank(page)[0] < KNOWN]
        dice, half = self.dice("held"), self.held_pages // 2
        return dice.sample(known, half) + dice.sample(obscure, half)

    @cached_property
    def trained(self) -> list[Page]:
        """Pages that are trained on."""
        held = {page.id for page in self.held}
        return [page for page in self.pages if page.id not in held]

    @cached_property
    def books(self) -> list[Path]:
        """Books that are trained on."""
        paths = sorted((self.folder / "books").glob("*.txt"))
        return [path for path in paths if path.name not in HELD_BOOKS]

    @cached_property
    def translations(self) -> dict[str, list[Page]]:
        """Trained pages in other languages, where the folder has them."""
        folder = self.folder / "multilingual"
        there = (language for language in LANGUAGES if (folder / f"tldr.{language}.jsonl").exists())
        return {language: read_translations(folder, language, self.trained) for language in there}

    def writer(self, purpose: str, mixture: Mixture | None = None) -> Writer:
        """A writer of conversations about the trained pages."""
        return Writer(self.trained, self.dice(purpose), mixture, self.translations)

    def vocabulary_texts(self, conversations: int) -> Iterator[str]:
        """Lines that the vocabulary is made from."""
        writer = self.writer("vocabulary")
        for _ in range(conversations):
            for asked, answered in writer.conversation():
                yield asked
                yield from answered.split("\n")
        for path in self.books[::12]:
            yield from (line for line in path.read_text(encoding="utf-8").splitlines() if line.strip())

    def documents(self, tokenizer: Tokenizer, part: Part, row: int) -> Iterator[Document]:
        """The documents of a part of the training, of at most `row` tokens each."""
        writer = self.writer(part.purpose, part.mixture)
        books = self._book_stream(tokenizer, row // 2)
        made = from_books = 0
        while made < part.tokens:
            is_book = from_books < part.book_share * made
            document = next(books) if is_book else chat_document(writer.conversation(), tokenizer, row)
            made += len(document.ids)
            from_books += len(document.ids) * is_book
            yield document

    def _book_stream(self, tokenizer: Tokenizer, length: int) -> Iterator[Document]:
        """Pieces of all books in random order, without end."""
        pieces = [piece for path in self.books for piece in book_documents(path, tokenizer, length)]
        dice = self.dice("books")
        while True:
            yield from dice.sample(pieces, len(pieces))

    def held_chats(self, tokenizer: Tokenizer, count: int, row: int) -> list[Document]:
        """Conversations about trained pages with wordings of their own."""
        writer = self.writer("held conversations")
        return [chat_document(writer.conversation(), tokenizer, row) for _ in range(count)]

    def held_books(self, tokenizer: Tokenizer, count: int, length: int) -> list[Document]:
        """The first `count` pieces of each book that is not trained on."""
        paths = [self.folder / "books" / name for name in HELD_BOOKS]
        return [piece for path in paths for piece in book_documents(path, tokenizer, length)[:count]]


def chat_document(exchanges: list[Exchange], tokenizer: Tokenizer, longest: int) -> Document:
    """Gemma's turns; only what the model says has weight. Exchanges that no longer fit are left out."""
    ids, weights = [BOS], [0.0]
    newline = tokenizer.encode("\n")
    for asked, answered in exchanges:
        prompt = [START_OF_TURN, *tokenizer.encode(f"user\n{asked}"), END_OF_TURN, *newline]
        prompt += [START_OF_TURN, *tokenizer.encode("model\n")]
        reply = [*tokenizer.encode(answered), END_OF_TURN]
        if len(ids) + len(prompt) + len(reply) + len(newline) > longest:
            break
        ids += [*prompt, *reply, *newline]
        weights += [0.0] * len(prompt) + [1.0] * len(reply) + [0.0] * len(newline)
    return Document(ids, weights)


def book_documents(path: Path, tokenizer: Tokenizer, length: int) -> list[Document]:
    """A book as consecutive pieces of `length` ids, each after <bos>."""
    ids = tokenizer.encode(path.read_text(encoding="utf-8"))
    pieces = (ids[first : first + length - 1] for first in range(0, len(ids), length - 1))
    return [Document([BOS, *piece], [0.0] + [1.0] * len(piece)) for piece in pieces]
