"""Takes out of providers' words what must not be kept."""

import re
from collections.abc import Iterable, Sequence

import msgspec

ERROR_LENGTH = 300

_LONG_NUMBER = re.compile(r"\+?\d(?:[\s()-]*\d){6,}")
_encode = msgspec.json.Encoder().encode


def scrub(words: object, secrets: Iterable[str]) -> str:
    """The provider's words without what we sent, tokens and anything like a phone.

    What is no string becomes JSON, after its strings have been looked at: in JSON a line break is not itself.
    """
    known = [secret for secret in secrets if secret]
    text = words if isinstance(words, str) else _encode(_cleaned(words, known)).decode()
    return without_phones(_without(text, known).replace("\x00", ""))[:ERROR_LENGTH]


def without_phones(words: str) -> str:
    """Long numbers are cut out, however they are written."""
    return _LONG_NUMBER.sub("***", words)


def _cleaned(value: object, secrets: Sequence[str]) -> object:
    if isinstance(value, str):
        return _without(value, secrets)
    if isinstance(value, list):
        return [_cleaned(item, secrets) for item in value]
    if isinstance(value, dict):
        return {_without(str(key), secrets): _cleaned(item, secrets) for key, item in value.items()}
    return value


def _without(words: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        words = words.replace(secret, "***")
    return words
