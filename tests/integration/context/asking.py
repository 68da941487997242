"""What tests ask of the context service."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from parley.common.v1 import identity_pb2
from parley.context.v1 import context_pb2

from deploy.local.embedded import EmbeddedRedis
from parley_client.context import ContextClient

Start = Callable[..., Any]


def sender(value: str = "551", phone: str = "") -> identity_pb2.Sender:
    kinds = identity_pb2
    result = identity_pb2.Sender(identity=identity_pb2.Identity(kind=kinds.IDENTITY_KIND_CHAT2DESK, value=value))
    if phone:
        result.also_known_as.add(kind=kinds.IDENTITY_KIND_PHONE, value=phone)
    return result


def read(conversation: str, who: identity_pb2.Sender | None = None, **more: Any) -> context_pb2.GetContextRequest:
    return context_pb2.GetContextRequest(tenant_id="demo", conversation_id=conversation, sender=who, **more)


def step(conversation: str, contact: str, name: str, **more: Any) -> context_pb2.SaveContextRequest:
    return context_pb2.SaveContextRequest(
        tenant_id="demo",
        conversation_id=conversation,
        contact_id=contact,
        request_id=more.pop("request_id", str(uuid4())),
        changes=context_pb2.Snapshot(dialog=context_pb2.DialogData(step=name)),
        update_mask=FieldMask(paths=["dialog"]),
        **more,
    )


async def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


async def client_data(name: str, client: ContextClient) -> str:
    """Saves a contact's name; a conversation of the contact."""
    conversation = str(uuid4())
    contact = (await client.get_context(read(conversation, sender()))).contact_id
    request = step(conversation, contact, "one")
    request.update_mask.paths.append("client.name")
    request.changes.client.name = name
    await client.save_context(request)
    return conversation


@asynccontextmanager
async def own_redis(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedRedis]:
    server = EmbeddedRedis(tmp_path_factory.mktemp("own-redis") / "data")
    await asyncio.to_thread(server.start)
    try:
        yield server
    finally:
        await asyncio.to_thread(server.stop)
