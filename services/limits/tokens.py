"""Reservation ids: opaque to callers, and all that a Commit needs, even if every store has forgotten the Reserve.

An id is version (1 byte), origin (1), when it was granted and when it expires (8 each, milliseconds since 1970), the
body in MessagePack, and the first 16 bytes of an HMAC-SHA256 over all of that, in base64url without padding.
"""

import base64
import binascii
import hashlib
import hmac
import struct
from enum import IntEnum

import msgspec

from services.kernel.errors import ParleyError, invalid_field

_VERSION = 1
_HEADER = struct.Struct(">BBQQ")
_MAC = 16


class Origin(IntEnum):
    """Who holds the units."""

    REDIS = 0
    POSTGRES = 1
    NOBODY = 2


class Line(msgspec.Struct, array_like=True, frozen=True):
    """What one rule counts. `day` (ISO date) is empty for a window; times are milliseconds, `window` too.

    `own_expiry` says that a hold on a window ends before the window itself forgets the units. `lasts` is for how long
    after the grant the units may be used: a window counts them for so much longer.
    """

    rule_id: str
    value: str
    limit: int
    shadow: bool
    day: str
    ends: int
    window: int
    own_expiry: bool = False
    lasts: int = 0

    @property
    def is_quota(self) -> bool:
        return bool(self.day)


class Body(msgspec.Struct, array_like=True, frozen=True):
    """What is reserved. `digest` tells requests with the same id but another content apart."""

    tenant_id: str
    key: str
    digest: bytes
    units: int
    lines: tuple[Line, ...]


class Reservation(msgspec.Struct, frozen=True):
    """A reservation as its id tells it; times in milliseconds since 1970."""

    body: Body
    origin: Origin
    granted_at: int
    expires_at: int


_decoder = msgspec.msgpack.Decoder(Body)
encode_body = msgspec.msgpack.Encoder().encode


def decode_body(content: bytes) -> Body:
    return _decoder.decode(content)


def reservation_key(tenant_id: str, request_id: str) -> str:
    """The same for the same request, so that whatever is repeated is one reservation: 128 bits as 22 characters."""
    digest = hashlib.blake2b(f"{tenant_id}\0{request_id}".encode(), digest_size=16).digest()
    return base64.urlsafe_b64encode(digest)[:22].decode()


def key_bytes(key: str) -> bytes:
    """The 16 bytes of a reservation key."""
    return base64.urlsafe_b64decode(key + "==")


def request_digest(*content: object) -> bytes:
    return hashlib.blake2b(repr(content).encode(), digest_size=8).digest()


class Tokens:
    """Makes reservation ids and believes only its own."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, body: bytes, origin: Origin, granted_at: int, expires_at: int) -> str:
        content = _HEADER.pack(_VERSION, origin, granted_at, expires_at) + body
        return base64.urlsafe_b64encode(content + self._mac(content)).rstrip(b"=").decode()

    def read(self, reservation_id: str, tenant_id: str) -> Reservation:
        """Raises INVALID_FIELD for an id that was not made here, or made for another tenant."""
        try:
            raw = base64.b64decode(reservation_id + "=" * (-len(reservation_id) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _invalid() from None
        content, mac = raw[:-_MAC], raw[-_MAC:]
        if len(content) <= _HEADER.size or not hmac.compare_digest(mac, self._mac(content)):
            raise _invalid()
        version, origin, granted_at, expires_at = _HEADER.unpack_from(content)
        if version != _VERSION:
            raise _invalid()
        body = decode_body(content[_HEADER.size :])
        if body.tenant_id != tenant_id:
            raise _invalid()
        return Reservation(body, Origin(origin), granted_at, expires_at)

    def _mac(self, content: bytes) -> bytes:
        return hmac.digest(self._secret, content, "sha256")[:_MAC]


def _invalid() -> ParleyError:
    return invalid_field("reservation_id", "is not one that Reserve gave to this tenant")
