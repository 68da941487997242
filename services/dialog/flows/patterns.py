"""Patterns that a form may bring along, kept to those that cannot hang a worker."""

import re
from functools import lru_cache
from typing import Any

MANY = 16
"""A repeat of more than this counts as unbounded."""
MOST_UNBOUNDED = 2
"""Unbounded repeats in one pattern; each one multiplies the time by the length of the value."""


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile, or raise ValueError for what does not compile or may take exponential time."""
    if len(pattern) > 200:
        raise ValueError("is longer than 200 characters")
    try:
        parsed = re._parser.parse(pattern)  # type: ignore[attr-defined]
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is no regular expression: {error}") from error
    if _unbounded(parsed, inside=False) > MOST_UNBOUNDED:
        raise ValueError(f"has more than {MOST_UNBOUNDED} unbounded repeats")
    return compiled


def _unbounded(parsed: Any, *, inside: bool) -> int:
    """How many unbounded repeats there are. Raises ValueError for those with a repeat or a choice in them."""
    count = 0
    for operation, argument in parsed:
        name = str(operation)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            _, most, repeated = argument
            if inside:
                raise ValueError("has a repeat inside a repeat")
            many = most > MANY
            count += many + _unbounded(repeated, inside=most > 1)
        elif name == "SUBPATTERN":
            count += _unbounded(argument[-1], inside=inside)
        elif name == "BRANCH":
            if inside:
                raise ValueError("has a choice inside a repeat")
            count += sum(_unbounded(branch, inside=inside) for branch in argument[1])
        elif name in ("GROUPREF", "GROUPREF_EXISTS", "ASSERT", "ASSERT_NOT", "ATOMIC_GROUP"):
            raise ValueError("has a back reference or looks around")
    return count
