"""Documents have Gemma's turns, weight only on answers, and nothing that is held out."""

from __future__ import annotations

from gemmary.inputs.tokenizer import Tokenizer
from gemmary.inputs.turns import chat_ids
from gemmary.recipes.conversation import Mixture
from gemmary.recipes.corpus import HELD_BOOKS, Corpus, Part, book_documents, chat_document

EXCHANGES = [("How do I list files?", "List files:\n\n```sh\nls\n```"), ("thanks", "You are welcome.")]


def part(book_share: float) -> Part:
    return Part("test", 20_000, book_share, Mixture())


def test_a_document_is_the_prompt_that_the_engine_makes_and_its_answer(tokenizer: Tokenizer) -> None:
    document = chat_document(EXCHANGES, tokenizer, 500)
    messages = [
        {"role": role, "content": text}
        for exchange in EXCHANGES
        for role, text in zip(("user", "assistant"), exchange, strict=True)
    ]
    prompt = chat_ids(tokenizer, messages[:-1])
    assert document.ids[: len(prompt)] == prompt
    answered = [*tokenizer.encode("You are welcome."), tokenizer.end_of_turn]
    assert document.ids[len(prompt) :] == [*answered, *tokenizer.encode("\n")]


def test_only_answers_have_weight(tokenizer: Tokenizer) -> None:
    document = chat_document(EXCHANGES, tokenizer, 500)
    weighted = [i for i, weight in zip(document.ids, document.weights, strict=True) if weight]
    end = tokenizer.end_of_turn
    assert weighted == [i for _, said in EXCHANGES for i in (*tokenizer.encode(said), end)]


def test_exchanges_that_do_not_fit_are_left_out_whole(tokenizer: Tokenizer) -> None:
    one = chat_document(EXCHANGES[:1], tokenizer, 500)
    assert chat_document(EXCHANGES, tokenizer, len(one.ids) + 3) == one


def test_books_are_cut_without_loss(corpus: Corpus, tokenizer: Tokenizer) -> None:
    pieces = book_documents(corpus.books[0], tokenizer, 32)
    ids = [i for piece in pieces for i in piece.ids[1:]]
    assert tokenizer.decode(ids) == corpus.books[0].read_text(encoding="utf-8")
    assert {piece.ids[0] for piece in pieces} == {tokenizer.bos}


def test_held_out_pages_and_books_are_not_trained_on(corpus: Corpus, tokenizer: Tokenizer) -> None:
    assert len(corpus.held) == 2 and not {p.id for p in corpus.held} & {p.id for p in corpus.trained}
    assert not {path.name for path in corpus.books} & set(HELD_BOOKS)
    text = " ".join(tokenizer.decode(d.ids) for d in corpus.documents(tokenizer, part(0.1), 128))
    assert not [page.tool for page in corpus.held if page.tool in text]
    assert all(page.tool in text for page in corpus.trained)


def test_books_have_their_share(corpus: Corpus, tokenizer: Tokenizer) -> None:
    documents = list(corpus.documents(tokenizer, part(0.25), 128))
    total = sum(len(document.ids) for document in documents)
    books = sum(len(d.ids) for d in documents if tokenizer.start_of_turn not in d.ids)
    assert total >= 20_000
    assert abs(books / total - 0.25) < 0.02
