"""What people wrote and were told, as it is stored: sealed, and bound to its tenant and row.

Rows that the version before has written in clear are read as they are: no protobuf and no array of MessagePack begins
with the byte that sealed bytes begin with.
"""

from uuid import UUID

from parley.dialog.v1.dialog_pb2 import SubmitMessageRequest

from services.runtime.crypto import Sealer, is_sealed


class Sealing:
    """Turns bodies, plans, frozen inputs and results into stored bytes and back. Opening raises `CannotOpen`."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def message(self, tenant_id: str, message_id: UUID, request: bytes) -> bytes:
        """The stored body of a message."""
        return self._sealer.seal(request, bound_to=_place("message", tenant_id, message_id))

    def open_message(self, tenant_id: str, message_id: UUID, stored: bytes) -> bytes:
        return self._open(stored, _place("message", tenant_id, message_id))

    def chat(self, request: SubmitMessageRequest, conversation_id: UUID) -> bytes:
        """The stored id of a conversation's chat."""
        return self._sealer.seal(request.chat_id.encode(), bound_to=_place("chat", request.tenant_id, conversation_id))

    def open_chat(self, tenant_id: str, conversation_id: UUID, stored: bytes) -> str:
        return self._sealer.open(stored, bound_to=_place("chat", tenant_id, conversation_id)).decode()

    def plan(self, tenant_id: str, turn_id: UUID, packed: bytes) -> bytes:
        """The stored plan of a turn."""
        return self._sealer.seal(packed, bound_to=_place("plan", tenant_id, turn_id))

    def open_plan(self, tenant_id: str, turn_id: UUID, stored: bytes) -> bytes:
        return self._open(stored, _place("plan", tenant_id, turn_id))

    def inputs(self, tenant_id: str, turn_id: UUID, packed: bytes) -> bytes:
        """The stored inputs of a turn."""
        return self._sealer.seal(packed, bound_to=_place("inputs", tenant_id, turn_id))

    def open_inputs(self, tenant_id: str, turn_id: UUID, stored: bytes) -> bytes:
        return self._open(stored, _place("inputs", tenant_id, turn_id))

    def result(self, tenant_id: str, turn_id: UUID, step: str, result: str) -> bytes:
        """The stored result of a journaled call, which is JSON."""
        return self._sealer.seal(result.encode(), bound_to=_place("result", tenant_id, turn_id, step))

    def open_result(self, tenant_id: str, turn_id: UUID, step: str, stored: bytes) -> str:
        return self._sealer.open(stored, bound_to=_place("result", tenant_id, turn_id, step)).decode()

    def _open(self, stored: bytes, place: str) -> bytes:
        return self._sealer.open(stored, bound_to=place) if is_sealed(stored) else stored


def _place(what: str, tenant_id: str, row: UUID, step: str = "") -> str:
    return f"dialog/{what}/{tenant_id}/{row}/{step}" if step else f"dialog/{what}/{tenant_id}/{row}"
