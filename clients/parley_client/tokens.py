"""Where a caller's tokens come from."""

from collections.abc import Callable
from typing import Protocol


class TokenSource(Protocol):
    """Gives the bearer tokens that calls carry."""

    def token(self, audience: str) -> str:
        """A token that `audience` (the name of a service) accepts now. Asked for before each call: keep it cheap."""


class StaticToken:
    """The same token for everybody, for example one from `parley keys create --scope service`."""

    def __init__(self, value: str) -> None:
        self._value = value

    def token(self, audience: str) -> str:
        return self._value


class RenewedToken:
    """Whatever token a function returns at the time of the call, for example one that it reads from a file."""

    def __init__(self, current: Callable[[], str]) -> None:
        self._current = current

    def token(self, audience: str) -> str:
        return self._current()


Tokens = str | Callable[[], str] | TokenSource
"""What `connect` takes: a token, a function that returns the current one, or a source that tells services apart."""


def source_of(tokens: Tokens) -> TokenSource:
    if isinstance(tokens, str):
        return StaticToken(tokens)
    return RenewedToken(tokens) if callable(tokens) else tokens
