"""Reservations and their ids. An id is opaque to callers, and all that a Commit needs, even if every store has
forgotten the Reserve.

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


class Hold(msgspec.Struct, array_like=True, frozen=True):
    """What a reservation holds under one rule. Times and durations are milliseconds.

    Ids outlive an upgrade: new fields come last and have a default that fits the ids of before.
    """

    rule_id: str
    value: str
    limit: int
    shadow: bool
    period: str
    """The first date (ISO) of the calendar period that is counted; empty where none is."""
    ends: int
    """When that period ends."""
    length: int
    """The length of a window, or the time in which a bucket is refilled with its limit."""
    own_expiry: bool = False
    """Whether a hold on a window expires before the window itself forgets the units."""
    lasts: int = 0
    """For how long after the grant the units may be used; rates count them for so much longer."""
    counter: str = ""
    """The part of the Redis scripts that counts."""
    units: int = -1
    unit: str = ""
    """What a budget counts; empty for units."""
    parameters: tuple[int, ...] = ()
    """What else the counter needs: the refill of a bucket, the `Period` of a quota."""

    @property
    def is_counted_in_postgres(self) -> bool:
        return bool(self.period)

    @property
    def is_daily_quota(self) -> bool:
        return self.counter == "q" and not self.unit and self.parameters == (1,)

    @property
    def counter_name(self) -> str:
        """Tells its counter from others of the same rule. Windows of different lengths share nothing, as the numbers of
        their buckets mean different times.
        """
        return self.period or f"{self.counter}{self.length}"


MOST_EXACT = 1000
"""Windows of at most so many units keep the time of each; larger ones count by sixtieths of the window.

The scripts note one unit more of a reservation (`MOST`), so that a million under a rule that only watches cost no more.
"""


def window_counter(limit: int, shadow: bool) -> str:
    """Each unit's time, or buckets: a shadow rule lets everything through, so its times could grow without end."""
    return "e" if limit <= MOST_EXACT and not shadow else "b"


class Body(msgspec.Struct, array_like=True, frozen=True):
    """What is reserved. `digest` tells requests with the same id but another content apart."""

    tenant_id: str
    key: str
    digest: bytes
    units: int
    holds: tuple[Hold, ...]


class Reservation(msgspec.Struct, frozen=True):
    """A reservation as its id tells it; times in milliseconds since 1970."""

    body: Body
    origin: Origin
    granted_at: int
    expires_at: int

    @property
    def is_counted_in_postgres(self) -> bool:
        return any(hold.is_counted_in_postgres for hold in self.body.holds)


_decoder = msgspec.msgpack.Decoder(Body)
encode_body = msgspec.msgpack.Encoder().encode


def decode_body(content: bytes) -> Body:
    body = _decoder.decode(content)
    if all(hold.counter for hold in body.holds):
        return body
    return msgspec.structs.replace(body, holds=tuple(_completed(hold, body.units) for hold in body.holds))


def _completed(hold: Hold, units: int) -> Hold:
    """A hold as the version before wrote it, which knew daily quotas and windows only."""
    counter = "q" if hold.period else window_counter(hold.limit, hold.shadow)
    return msgspec.structs.replace(hold, counter=counter, units=units, parameters=(1,) if hold.period else ())


def reservation_key(tenant_id: str, request_id: str) -> str:
    """The same for the same request, so that whatever is repeated is one reservation: 128 bits as 22 characters."""
    digest = hashlib.blake2b(f"{tenant_id}\0{request_id}".encode(), digest_size=16).digest()
    return base64.urlsafe_b64encode(digest)[:22].decode()


def key_bytes(key: str) -> bytes:
    """The 16 bytes of a reservation key."""
    return base64.urlsafe_b64decode(key + "==")


def request_digest(content: str) -> bytes:
    return hashlib.blake2b(content.encode(), digest_size=8).digest()


class ReservationIds:
    """Makes reservation ids and believes only its own."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, body: bytes, origin: Origin, granted_at: int, expires_at: int) -> str:
        """`body` is an encoded `Body`."""
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
