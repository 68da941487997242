"""Page tokens: opaque to clients, good for one method with the same filters, for a day, and made by nobody else."""

import base64
import binascii
import hashlib
import hmac
import json
import struct
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.kernel.errors import FieldViolation, Kind, ParleyError

Position = Sequence[str | int | float | None]
"""Where the next page begins, for example the sort key of the last row."""

KEPT = 86_400
"""Seconds for which a token is good."""
_MAC = 16
_EXPIRES = struct.Struct(">I")


class Signer:
    """Signs the tokens of one service; its replicas have the same key."""

    def __init__(self, key: Ed25519PrivateKey, time: Callable[[], float] = time.time) -> None:
        """`key` is the service's own; what is signed with is derived from it."""
        self._key = HKDF(SHA256(), 32, salt=None, info=b"parley page tokens").derive(key.private_bytes_raw())
        self._time = time

    def sign(self, method: str, filters: object, content: bytes) -> str:
        """The token for a content."""
        body = _EXPIRES.pack(int(self._time()) + KEPT) + content
        return base64.urlsafe_b64encode(self._mac(method, filters, body) + body).decode().rstrip("=")

    def open(self, token: str, method: str, filters: object) -> bytes:
        """The content of a token. Raises INVALID_PAGE_TOKEN."""
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _invalid("is not a page token") from None
        body = raw[_MAC:]
        if len(body) < _EXPIRES.size or not hmac.compare_digest(raw[:_MAC], self._mac(method, filters, body)):
            raise _invalid("was not made by this method with these filters")
        (expires,) = _EXPIRES.unpack_from(body)
        if expires < self._time():
            raise _invalid("has expired")
        return body[_EXPIRES.size :]

    def _mac(self, method: str, filters: object, body: bytes) -> bytes:
        what = hashlib.sha256(f"{method}\n{filters!r}".encode()).digest()
        return hmac.digest(self._key, what + body, "sha256")[:_MAC]


_signer: ContextVar[Signer] = ContextVar("parley_page_signer")


def use(signer: Signer) -> None:
    """Say who signs the tokens of this RPC; the interceptor does so, and tests may."""
    _signer.set(signer)


def encode(method: str, filters: object, position: Position) -> str:
    """The token of the page after `position`. `filters` is anything with a stable `repr`, such as a tuple, and has the
    tenant in it."""
    return _signer.get().sign(method, filters, json.dumps(position, ensure_ascii=False, separators=(",", ":")).encode())


def decode(token: str, method: str, filters: object) -> list[str | int | float | None] | None:
    """The position in a token; None for the first page. Raises INVALID_PAGE_TOKEN."""
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
