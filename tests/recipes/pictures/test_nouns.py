"""Numbers and things agree in six languages."""

from __future__ import annotations

import pytest

from gemmary.recipes.pictures.nouns import LANGUAGES, NOUNS, TABLE, colour, listed, sentence

THING = {noun.name: noun for noun in NOUNS}


@pytest.mark.parametrize(
    ("thing", "number", "language", "said"),
    [
        ("dog", 2, "de", "zwei Hunde"),
        ("dog", 2, "pt", "dois cães"),
        ("house", 2, "pt", "duas casas"),
        ("dog", 0, "en", "no dogs"),
        ("dog", 0, "de", "keine Hunde"),
        ("car", 0, "fr", "aucune voiture"),
        ("dog", 0, "es", "ningún perro"),
        ("dog", 0, "it", "nessun cane"),
        ("bee", 0, "it", "nessun'ape"),
        ("house", 0, "pt", "nenhuma casa"),
        ("elephant", 1, "en", "an elephant"),
        ("apple", 6, "it", "sei mele"),
    ],
)
def test_counted(thing: str, number: int, language: str, said: str) -> None:
    assert THING[thing].counted(number, language) == said


@pytest.mark.parametrize(
    ("thing", "language", "asked"),
    [
        ("dog", "de", "Wie viele Hunde sind im Bild?"),
        ("bee", "fr", "Combien d'abeilles y a-t-il ?"),
        ("hen", "fr", "Combien de poules y a-t-il ?"),
        ("helicopter", "fr", "Combien d'hélicoptères y a-t-il ?"),
        ("house", "es", "¿Cuántas casas hay?"),
        ("dog", "it", "Quanti cani ci sono?"),
        ("apple", "it", "Quante mele ci sono?"),
        ("dog", "pt", "Quantos cães há na imagem?"),
    ],
)
def test_how_many(thing: str, language: str, asked: str) -> None:
    assert TABLE["asked"]["count"][language][0].format(**THING[thing].blanks(language)) == asked


def test_sentences() -> None:
    said = [THING[name].counted(1, "fr") for name in ("cat", "star", "key")]
    assert sentence(listed(said, "fr")) == "Un chat, une étoile et une clé."
    assert colour("red", "de") == "rot"


def test_no_two_things_share_a_name() -> None:
    assert len(NOUNS) >= 60
    for language in LANGUAGES:
        names = [(noun.one[language], noun.many[language]) for noun in NOUNS]
        assert len(set(names)) == len(NOUNS), language
