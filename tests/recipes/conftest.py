"""What tests of recipes share: a small corpus, its vocabulary, and whether there are fonts to draw with."""

from __future__ import annotations

import pytest

from gemmary.inputs.tokenizer import Tokenizer
from gemmary.recipes.corpus import Corpus
from gemmary.recipes.pictures import fonts
from gemmary.train.vocabulary import train_vocabulary
from tests.recipes import toydata


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(toydata.write(tmp_path_factory.mktemp("data")), seed=1, held_pages=2)


@pytest.fixture(scope="session")
def tokenizer(corpus: Corpus) -> Tokenizer:
    return Tokenizer.from_model(train_vocabulary(corpus.vocabulary_texts(300), 700))


@pytest.fixture(scope="session")
def installed_fonts() -> dict[str, list[str]]:
    """The fonts of pictures; skips a test that draws where they are not installed."""
    try:
        return fonts.report()
    except fonts.FontError as missing:
        pytest.skip(str(missing))
