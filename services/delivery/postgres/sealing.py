"""What people are told, as it is stored: sealed, and bound to its tenant and row."""

from uuid import UUID

from services.runtime.crypto import CannotOpen, Sealer
from services.runtime.logs import describe, get_logger

log = get_logger(__name__)

EarlyPlace = tuple[str, int, str]
"""Tenant, key of the channel and dedupe key of a status."""


class Sealing:
    """Turns texts into stored bytes and back."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def text(self, tenant_id: str, delivery_id: UUID, text: str) -> bytes:
        """The stored text of a delivery."""
        return self._sealer.seal(text.encode(), bound_to=_place(tenant_id, delivery_id))

    def open_text(self, tenant_id: str, delivery_id: UUID, clear: str, sealed: bytes | None) -> str:
        """The text; `clear` is what the version before has stored, without `sealed`. Raises `CannotOpen`."""
        if sealed is None:
            return clear
        return self._sealer.open(sealed, bound_to=_place(tenant_id, delivery_id)).decode()

    def early_error(self, place: EarlyPlace, error: str) -> bytes | None:
        """What a provider has said of a message that nobody knows yet: it may hold the message's text."""
        return self._sealer.seal(error.encode(), bound_to=_early(place)) if error else None

    def open_early_error(self, place: EarlyPlace, clear: str, sealed: bytes | None) -> str:
        """The words; none when they do not open, for the status counts all the same."""
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


def _place(tenant_id: str, delivery_id: UUID) -> str:
    return f"delivery/text/{tenant_id}/{delivery_id}"
