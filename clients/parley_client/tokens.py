"""Where a caller's tokens come from."""

from collections.abc import Callable
from typing import Protocol


class TokenSource(Protocol):
    """Gives calls their bearer tokens."""

    def token(self, audience: str) -> str:
        """Returns a token that `audience` (a service) accepts now. It must be cheap, as every call asks for one."""


class StaticToken:
    """The same token for every service, such as one from `parley keys create --scope service`."""

    def __init__(self, value: str) -> None:
        self._value = value

    def token(self, audience: str) -> str:
        return self._value


class RenewedToken:
    """The token that a function returns at the time of the call, for example from a file."""

    def __init__(self, current: Callable[[], str]) -> None:
        self._current = current

    def token(self, audience: str) -> str:
        return self._current()


Tokens = str | Callable[[], str] | TokenSource
"""What `connect` takes: a token, a function that returns the current token, or a source with a token per service."""


def source_of(tokens: Tokens) -> TokenSource:
    if isinstance(tokens, str):
        return StaticToken(tokens)
    return RenewedToken(tokens) if callable(tokens) else tokens
