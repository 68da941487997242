"""Page tokens. They are opaque and signed, and hold for a day, for one method and the same filters."""

import base64
import binascii
import hashlib
import json
import struct
import time
from collections.abc import Iterable, Sequence
from contextvars import ContextVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.kernel.errors import FieldViolation, Kind, ParleyError
from services.runtime.keyfiles import PublicKey
from services.runtime.keys import LOOK_AGAIN, Keys, Time

Position = Sequence[str | int | float | None]
"""Where the next page begins, for example the sort key of the last row."""

KEPT = 86_400
"""Seconds for which a token holds."""
_SIGNATURE = 64
_EXPIRES = struct.Struct(">I")
_PURPOSE = b"parley page token\n"
"""The beginning of what is signed, so that nothing else that a service signs can pass for a page token."""


class Signer:
    """Signs the tokens of one service with its own key, and accepts those of its replicas.

    A page token holds as long as the public key that it was signed with, which is a few minutes after a rotation.
    """

    def __init__(self, keys: Keys, name: str, *, time: Time = time.time) -> None:
        """`name` is the service. Raises `KeyMissing` if it has no key."""
        self._keys = keys
        self._name = name
        self._time = time
        keys.private(name)

    def sign(self, method: str, filters: object, content: bytes) -> str:
        """Returns a token that holds the content."""
        body = _EXPIRES.pack(int(self._time()) + KEPT) + content
        signature = self._keys.private(self._name).sign(_signed(method, filters, body))
        return base64.urlsafe_b64encode(signature + body).decode().rstrip("=")

    def open(self, token: str, method: str, filters: object) -> bytes:
        """Returns the content of a token. Raises INVALID_PAGE_TOKEN."""
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _invalid("is not a page token") from None
        body = raw[_SIGNATURE:]
        if len(body) < _EXPIRES.size or not self._is_ours(raw[:_SIGNATURE], _signed(method, filters, body)):
            raise _invalid("was not made by this method with these filters")
        (expires,) = _EXPIRES.unpack_from(body)
        if expires < self._time():
            raise _invalid("has expired")
        return body[_EXPIRES.size :]

    def _is_ours(self, signature: bytes, content: bytes) -> bool:
        known = self._keys.public(self._name)
        if self._any(known.values(), signature, content):
            return True
        self._keys.look(LOOK_AGAIN)  # a replica may have got a new key this second
        found = self._keys.public(self._name)
        return found is not known and self._any(found.values(), signature, content)

    def _any(self, keys: Iterable[PublicKey], signature: bytes, content: bytes) -> bool:
        now = self._time()
        return any(until >= now and _verifies(key, signature, content) for key, until in keys)


def _verifies(key: Ed25519PublicKey, signature: bytes, content: bytes) -> bool:
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _signed(method: str, filters: object, body: bytes) -> bytes:
    return _PURPOSE + hashlib.sha256(f"{method}\n{filters!r}".encode()).digest() + body


_signer: ContextVar[Signer] = ContextVar("parley_page_signer")


def use(signer: Signer) -> None:
    """Sets who signs the tokens of this RPC. The interceptor calls it, and tests may."""
    _signer.set(signer)


def encode(method: str, filters: object, position: Position) -> str:
    """Returns the token of the page after `position`. `filters` includes the tenant and has a stable `repr`."""
    return _signer.get().sign(method, filters, json.dumps(position, ensure_ascii=False, separators=(",", ":")).encode())


def decode(token: str, method: str, filters: object) -> list[str | int | float | None] | None:
    """Returns the position in a token; None for the first page. Raises INVALID_PAGE_TOKEN."""
    if not token:
        return None
    position: list[str | int | float | None] = json.loads(_signer.get().open(token, method, filters))
    return position


def _invalid(description: str) -> ParleyError:
    return ParleyError(
        Kind.INVALID,
        "INVALID_PAGE_TOKEN",
        f"page_token: {description}; start again without one.",
        (FieldViolation("page_token", description),),
        {"field": "page_token"},
    )
