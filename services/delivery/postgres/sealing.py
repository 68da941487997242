"""The texts of deliveries as they are stored: sealed, and bound to their tenant and delivery."""

from uuid import UUID

from services.runtime.crypto import Sealer


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


def _place(tenant_id: str, delivery_id: UUID) -> str:
    return f"delivery/text/{tenant_id}/{delivery_id}"
