"""Notices: prohibitions, directions, doors of rooms, opening hours."""

from __future__ import annotations

import random

from .document import Document, shape
from .drawn import Plan, Topic
from .nouns import LANGUAGES
from .page import Row
from .wording import CITIES, DAYS, TABLE, label, time, tongue, wrapped

CASES = (str.upper, str.upper, lambda text: text[0].upper() + text[1:])


def plan(held: bool, dice: random.Random) -> Plan:
    """A notice of one of these sorts."""
    made = dice.choices((sentence, room, daily, weekly), (6, 2, 2, 2))[0](tongue(dice), dice)
    return made.plan(held, dice)


def sentence(language: str, dice: random.Random) -> Document:
    """A few words in two to four lines."""
    text = dice.choice(TABLE["notices"][language]).format(
        day=dice.choice(DAYS[language]),
        time=time(dice),
        n=dice.choice((dice.randint(1, 30), dice.randint(31, 999))),
        city=dice.choice(CITIES),
    )
    text = dice.choice(CASES)(text)
    lines = wrapped(text, dice.randint(8, 13))
    return Document(
        [Row((line,)) for line in lines],
        {("notice",): text},
        f'A notice: "{text}".',
        language,
        largest=0.3,
        shape=shape(dice),
    )


def room(language: str, dice: random.Random) -> Document:
    """The sign at a door."""
    number = str(dice.randint(1, 499))
    text = TABLE["rooms"][LANGUAGES.index(language)].format(n=number)
    name, _ = text.split()
    rows = [Row((name,)), Row((number,), 1.6, True)] if dice.random() < 0.6 else [Row((text,))]
    facts: dict[Topic, str] = {("room",): number, ("notice",): text}
    return Document(rows, facts, f'A sign: "{text}".', language, largest=0.3, shape=shape(dice))


def hours(dice: random.Random) -> tuple[str, str]:
    """Times at which something opens and closes."""
    half = (":00", ":30", ":15", ":45")
    return f"{dice.randint(6, 11)}{dice.choice(half)}", f"{dice.randint(12, 23)}{dice.choice(half)}"


def daily(language: str, dice: random.Random) -> Document:
    """Hours that are the same every day."""
    opens, closes = hours(dice)
    text = f"{label('open', language)} {opens} - {closes}"
    rows = [Row((label("open", language),), 1.0, True), Row((f"{opens} - {closes}",))]
    facts: dict[Topic, str] = {("opens",): opens, ("closes",): closes, ("notice",): text}
    return Document(rows, facts, f'A notice: "{text}".', language, largest=0.2, shape=shape(dice))


def weekly(language: str, dice: random.Random) -> Document:
    """Hours by day."""
    days = dice.sample(DAYS[language], dice.randint(2, 4))
    days.sort(key=DAYS[language].index)
    spans = ["-".join(hours(dice)) for _ in days]
    head = label("hours", language)
    rows = [Row((head,), 1.0, True), *(Row((day, span)) for day, span in zip(days, spans, strict=True))]
    facts: dict[Topic, str] = {("hours", day): span for day, span in zip(days, spans, strict=True)}
    told = ", ".join(f"{day} {span}" for day, span in zip(days, spans, strict=True))
    return Document(rows, facts, f"Opening hours: {told}.", language)
