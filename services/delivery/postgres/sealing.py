"""What people are told is stored sealed, and bound to its tenant and row."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from parley.common.v1.content_pb2 import OutboundContent

from services.runtime.content import is_text, of_text, pack, unpack
from services.runtime.crypto import CannotOpen, Sealer
from services.runtime.logs import describe, get_logger

log = get_logger(__name__)

CONTENT_COLUMNS = "text, sealed_text, cuts, sealed_content"
_VERSION = 1


class _Packed(msgspec.Struct, array_like=True, frozen=True):
    """A content, and what each of its parts says; no parts when its one part says all of it, unchanged. Each is as
    `pack` makes it.
    """

    version: int
    content: Any
    rendered: Sequence[Any]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Packed).decode


class Contents(NamedTuple):
    """What a delivery says, and what each of its parts does."""

    content: OutboundContent
    rendered: tuple[OutboundContent, ...]


class Sealed(NamedTuple):
    """Contents as they are stored: a plain text of one part, or anything else."""

    text: bytes | None
    content: bytes | None


EarlyPlace = tuple[str, int, str]
"""Tenant, key of the channel and dedupe key of a status."""


class Sealing:
    """Turns contents and errors into stored bytes and back."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def contents(self, tenant_id: str, delivery_id: UUID, contents: Contents) -> Sealed:
        """Contents as they are to be stored."""
        content, rendered = contents
        unchanged = rendered == (content,)
        if unchanged and is_text(content):
            return Sealed(
                self._sealer.seal(content.text.encode(), bound_to=_place("text", tenant_id, delivery_id)), None
            )
        packed = _encode(_Packed(_VERSION, pack(content), () if unchanged else list(map(pack, rendered))))
        return Sealed(None, self._sealer.seal(packed, bound_to=_place("content", tenant_id, delivery_id)))

    def open_contents(self, tenant_id: str, delivery_id: UUID, stored: Sequence[Any]) -> Contents:
        """Contents from their CONTENT_COLUMNS. Raises `CannotOpen`, and ValueError for one of a newer version."""
        clear, sealed_text, cuts, sealed_content = stored
        if sealed_content is None:
            text = clear
            if sealed_text is not None:
                text = self._sealer.open(sealed_text, bound_to=_place("text", tenant_id, delivery_id)).decode()
            return _sliced(text, cuts)
        packed = _decode(self._sealer.open(sealed_content, bound_to=_place("content", tenant_id, delivery_id)))
        if packed.version != _VERSION:
            raise ValueError(f"contents of version {packed.version}")
        content = unpack(packed.content)
        return Contents(content, tuple(map(unpack, packed.rendered)) or (content,))

    def early_error(self, place: EarlyPlace, error: str) -> bytes | None:
        """What a provider has said of a message that nobody knows yet: it may hold the message's text."""
        return self._sealer.seal(error.encode(), bound_to=_early(place)) if error else None

    def open_early_error(self, place: EarlyPlace, clear: str, sealed: bytes | None) -> str:
        """The words; empty if they do not open, since the status counts all the same."""
        if sealed is None:
            return clear
        try:
            return self._sealer.open(sealed, bound_to=_early(place)).decode()
        except CannotOpen as error:
            log.error("a stored error cannot be opened", dedupe_key=place[2], error=describe(error), alert=True)
            return ""


def _early(place: EarlyPlace) -> str:
    tenant_id, channel_key, dedupe_key = place
    return f"delivery/status/{tenant_id}/{channel_key}/{dedupe_key}"


def _place(what: str, tenant_id: str, delivery_id: UUID) -> str:
    return f"delivery/{what}/{tenant_id}/{delivery_id}"


def _sliced(text: str, cuts: Sequence[int] | None) -> Contents:
    """A text whose parts, if they are several, are slices of it: `cuts` has start and end of each."""
    content = of_text(text)
    if cuts is None:
        return Contents(content, (content,))
    return Contents(content, tuple(of_text(text[start:end]) for start, end in zip(cuts[::2], cuts[1::2], strict=True)))
