"""The stored form of documents: packed, compressed if large, and sealed for one row of one tenant."""

import hmac
from dataclasses import dataclass
from uuid import UUID

import zstandard

from parley.common.v1 import identity_pb2

from services.context.domain import documents
from services.context.domain.documents import Contact, Conversation
from services.runtime.crypto import Sealer

COMPRESS_FROM = 4096
"""The size, in bytes, from which compression pays."""
_PLAIN, _ZSTD = b"\x00", b"\x01"


@dataclass(frozen=True)
class Sealing:
    """Turns documents into stored bytes and back. `index_key` makes the hashes by which identities are found."""

    sealer: Sealer
    index_key: bytes

    def conversation(self, tenant_id: str, conversation_id: UUID, document: Conversation) -> bytes:
        """Returns the stored bytes of a conversation."""
        packed = documents.pack_conversation(document)
        return self._seal(packed, f"{tenant_id}/{conversation_id}/conversation")

    def open_conversation(self, tenant_id: str, conversation_id: UUID, data: bytes) -> Conversation:
        """Returns the conversation that stored bytes hold."""
        return documents.unpack_conversation(self._open(data, f"{tenant_id}/{conversation_id}/conversation"))

    def contact(self, tenant_id: str, contact_id: UUID, document: Contact) -> bytes:
        """Returns the stored bytes of a contact."""
        return self._seal(documents.pack_contact(document), f"{tenant_id}/{contact_id}/contact")

    def open_contact(self, tenant_id: str, contact_id: UUID, data: bytes) -> Contact:
        """Returns the contact that stored bytes hold."""
        return documents.unpack_contact(self._open(data, f"{tenant_id}/{contact_id}/contact"))

    def digest(self, tenant_id: str, identity: identity_pb2.Identity) -> bytes:
        """Returns the hash by which a tenant's identity is found. It reveals nothing without the key."""
        text = f"{tenant_id}\x00{identity.kind}\x00{identity.value}"
        return hmac.digest(self.index_key, text.encode(), "sha256")

    def identity(self, tenant_id: str, identity: identity_pb2.Identity) -> bytes:
        """Returns the sealed value of an identity."""
        return self.sealer.seal(identity.value.encode(), bound_to=f"{tenant_id}/identity")

    def _seal(self, packed: bytes, bound_to: str) -> bytes:
        if len(packed) < COMPRESS_FROM:
            return self.sealer.seal(_PLAIN + packed, bound_to=bound_to)
        return self.sealer.seal(_ZSTD + zstandard.compress(packed), bound_to=bound_to)

    def _open(self, data: bytes, bound_to: str) -> bytes:
        packed = self.sealer.open(data, bound_to=bound_to)
        if packed[:1] == _ZSTD:
            return zstandard.decompress(packed[1:], max_output_size=2 * documents.MAX_DOCUMENT_BYTES)
        return packed[1:]
