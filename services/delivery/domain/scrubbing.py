"""Takes out of providers' words what must not be kept."""

import re
from collections.abc import Iterable

ERROR_LENGTH = 300

_LONG_NUMBER = re.compile(r"\+?\d(?:[\s()-]*\d){6,}")


def scrub(words: str, secrets: Iterable[str]) -> str:
    """The provider's words without what we sent, tokens and anything like a phone."""
    for secret in secrets:
        if secret:
            words = words.replace(secret, "***")
    return without_phones(words.replace("\x00", ""))[:ERROR_LENGTH]


def without_phones(words: str) -> str:
    """Long numbers are cut out, however they are written."""
    return _LONG_NUMBER.sub("***", words)
