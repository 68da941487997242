"""Where a caller's tokens come from."""

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
