"""Context on the database of the version before: nothing of a person is lost, and what was emptied gets an end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

from parley.common.v1 import identity_pb2
from parley.context.v1 import context_pb2

import services.context
from services.context.sealing import Sealing
from services.runtime.crypto import Sealer
from services.runtime.keys import Keys
from tests.integration.context.conftest import start
from tests.integration.upgrade.before import restore

__all__ = ["start"]

MIGRATIONS = Path(next(iter(services.context.__path__))) / "migrations"


async def test_a_person_of_before_is_known_and_emptied_conversations_keep_their_version(
    start: Callable[..., Any], postgres_url: str, keys_dir: Path
) -> None:
    keys, contact, conversation = Keys(keys_dir), uuid4(), uuid4()
    sealing = Sealing(Sealer(keys), keys.derive("context identities"))
    phone = identity_pb2.Identity(kind=identity_pb2.IDENTITY_KIND_PHONE, value="+996555123456")
    connection = await asyncpg.connect(postgres_url)
    await restore(connection, "context", MIGRATIONS)
    await connection.execute(
        "INSERT INTO context.identities (tenant_id, digest, kind, value, contact_id) VALUES ('acme', $1, $2, $3, $4)",
        sealing.digest("acme", phone),
        phone.kind,
        sealing.identity("acme", phone),
        contact,
    )
    await connection.execute(
        "INSERT INTO context.conversations (tenant_id, conversation_id, contact_id, version, data, expires_at)"
        " VALUES ('acme', $1, $2, 7, '', 'infinity')",
        conversation,
        contact,
    )
    client = await start()
    for asked, version in ((conversation, 7), (uuid4(), 0)):
        request = context_pb2.GetContextRequest(tenant_id="acme", conversation_id=str(asked))
        request.sender.identity.CopyFrom(phone)
        found = await client.get_context(request)
        assert (found.contact_id, found.version) == (str(contact), version)
    await connection.close()
