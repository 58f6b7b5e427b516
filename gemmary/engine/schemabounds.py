"""How hard a JSON schema may be to follow: what a compiler of grammars would take seconds or gigabytes for.

llguidance bounds its own work, but not all of it: a remainder needs a state for each number below the
divisor, and a long literal or pattern one for each of its characters, gone through for every token of an
answer. Both are refused here before anything is compiled.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

from ..errors import PromptError

MAX_SCHEMA = 1 << 17  # characters
MAX_STRING = 1 << 12  # characters of a literal, a name or a pattern: 3 ms to compile, 1 ms for each token
MAX_REMAINDERS = 10_000  # of all divisors together: 0.05 s
WORDS = ("title", "description", "$comment")  # nothing is made of what they say
DIGITS = 30  # of a divisor, behind and in front of the point


class SchemaError(PromptError):
    """A JSON schema that cannot be followed."""


def check(text: str) -> None:
    """SchemaError where a schema, as JSON, is too hard. What else is wrong with it, the compiler says."""
    if len(text) > MAX_SCHEMA:
        raise SchemaError(f"the schema must be an object, or JSON text of at most {MAX_SCHEMA:,} characters")
    try:
        left: list[Any] = [json.loads(text)]
    except (ValueError, RecursionError):
        raise SchemaError("the schema is no JSON that can be read") from None
    divisors: set[Decimal] = set()
    while left:
        value = left.pop()
        if isinstance(value, str) and len(value) > MAX_STRING:
            raise SchemaError(f"a string in a schema may have {MAX_STRING:,} characters: shorten it")
        if isinstance(value, dict):
            left += [inner for key, inner in value.items() if key not in WORDS]
            left += value
            divisors |= _divisors(value)
        elif isinstance(value, list):
            left += value
    _check_remainders(divisors)


def _divisors(schema: dict[str, Any]) -> set[Decimal]:
    number = schema.get("multipleOf")
    if isinstance(number, bool) or not isinstance(number, int | float) or not number:
        return set()  # the name of a property, or the compiler refuses it
    return {abs(Decimal(str(number)))}


def _check_remainders(divisors: set[Decimal]) -> None:
    """Those of a number that has to be a multiple of all: of the smallest common one, in its last digit."""
    wide = any(not number.is_finite() or abs(number.adjusted()) > DIGITS for number in divisors)
    if not wide:
        exponents = (int(number.normalize().as_tuple().exponent) for number in divisors)
        last = min(exponents, default=0)
        wide = math.lcm(*(int(number.scaleb(-last)) for number in divisors)) > MAX_REMAINDERS
    if wide:
        raise SchemaError(
            f"multipleOf: the numbers of this schema have a common multiple above {MAX_REMAINDERS:,} of "
            "their last digits: leave some out"
        )
