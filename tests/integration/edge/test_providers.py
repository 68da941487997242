"""A provider unlike those there are: it signs bodies, checks the address by a GET, and says many things at once."""

import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from parley.common.v1 import content_pb2, identity_pb2
from parley.delivery.v1 import channel_pb2, delivery_pb2
from parley.dialog.v1 import dialog_pb2

from services.edge.providers import registry
from services.edge.providers.base import Documentation, Event, Head, Provider, Secrets, Stored
from services.edge.providers.proofs import secret_matches, signature_matches
from services.kernel.errors import invalid_field, storage_unavailable
from tests.integration.edge.conftest import SECRET, Edge


class Body(msgspec.Struct):
    events: list[dict[str, str]]


def signature(body: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def authenticate(head: Head, body: bytes, secrets: Secrets) -> bool:
    return signature_matches(secrets.get("webhook_secret", ""), body, *head.header(b"x-signature"))


def handshake(head: Head, secrets: Secrets) -> str | None:
    proven = secret_matches(secrets.get("webhook_secret", ""), *head.query("verify"))
    return head.query("challenge")[0] if proven else None


def translate(channel: channel_pb2.Channel, body: bytes) -> Sequence[Event]:
    place: dict[str, Any] = {"tenant_id": channel.tenant_id, "channel_id": channel.channel_id}
    events: list[Event] = []
    for said in msgspec.json.decode(body, type=Body).events:
        if "status" in said:
            status = delivery_pb2.ReportStatusRequest(**place, provider_message_id=said["status"], dedupe_key="9/sent")
            status.status = delivery_pb2.PROVIDER_STATUS_SENT
            status.at.GetCurrentTime()
            events.append(status)
            continue
        identity = identity_pb2.Identity(kind=identity_pb2.IDENTITY_KIND_EXTERNAL, value="p")
        message = dialog_pb2.SubmitMessageRequest(**place, bot_id=channel.bot_id, chat_id="p", dedupe_key=said["id"])
        message.sender.identity.CopyFrom(identity)
        message.content.CopyFrom(content_pb2.InboundContent(text=said["text"]))
        events.append(message)
    return events


def answer(stored: Sequence[Stored]) -> bytes:
    return msgspec.json.encode({"stored": len(stored)})


PARROT = Provider(
    name="parrot",
    kind=channel_pb2.PROVIDER_CHAT2DESK,
    authenticate=authenticate,
    translate=translate,
    unproven="The signature is missing or wrong.",
    documentation=Documentation("", "", Body, {}, {}, "curl {url}", ""),
    signs_body=True,
    handshake=handshake,
    answer=answer,
)


@pytest.fixture
def with_parrot(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line: what the registry has is served."""
    monkeypatch.setattr("services.edge.wiring.PROVIDERS", {**registry.PROVIDERS, PARROT.name: PARROT})


@pytest.fixture
def parrots_edge(with_parrot: None, edge: Edge) -> Edge:
    return edge


async def post(edge: Edge, events: list[dict[str, str]], secret: str = SECRET) -> tuple[int, Any]:
    body = json.dumps({"events": events}).encode()
    headers = {"X-Signature": signature(body, secret)}
    async with edge.http.post(f"{edge.url}/webhooks/parrot/c2d", data=body, headers=headers) as response:
        return response.status, await response.json(content_type=None)


SAID = [{"id": "1", "text": "one"}, {"status": "9"}, {"id": "2", "text": "two"}]


async def test_all_events_of_a_signed_body_are_stored_in_order_before_the_answer(parrots_edge: Edge) -> None:
    assert await post(parrots_edge, SAID) == (200, {"stored": 3})
    assert [one.content.text for one in parrots_edge.dialog.submitted] == ["one", "two"]
    assert [one.provider_message_id for one in parrots_edge.delivery.statuses] == ["9"]
    assert await post(parrots_edge, SAID) == (200, {"stored": 3})
    assert len(parrots_edge.dialog.submitted) == 2


async def test_a_body_that_is_not_signed_by_the_provider_is_not_translated(parrots_edge: Edge) -> None:
    status, problem = await post(parrots_edge, SAID, secret="another")
    assert (status, problem["reason"]) == (401, "INVALID_SIGNATURE")
    assert not parrots_edge.dialog.submitted and not parrots_edge.delivery.statuses


async def test_the_address_is_checked_by_echoing_a_challenge(parrots_edge: Edge) -> None:
    url = f"{parrots_edge.url}/webhooks/parrot/c2d"
    async with parrots_edge.http.get(url, params={"verify": SECRET, "challenge": "12<34"}) as response:
        assert (response.status, await response.text(), response.content_type) == (200, "12<34", "text/plain")
    async with parrots_edge.http.get(url, params={"verify": "wrong", "challenge": "1"}) as response:
        assert response.status == 401
    async with parrots_edge.http.put(url) as response:
        assert response.status == 405


async def test_one_event_that_is_refused_stops_none_of_the_others(parrots_edge: Edge) -> None:
    parrots_edge.dialog.refused = {"1": invalid_field("content.text", "is wrong")}
    status, problem = await post(parrots_edge, SAID)
    assert (status, problem["field"]) == (422, "content.text")
    assert [one.content.text for one in parrots_edge.dialog.submitted] == ["two"]
    assert len(parrots_edge.delivery.statuses) == 1


async def test_nothing_is_acknowledged_while_storage_is_away(parrots_edge: Edge) -> None:
    parrots_edge.dialog.error = storage_unavailable("Postgres")
    assert (await post(parrots_edge, SAID))[0] == 503
    parrots_edge.dialog.error = None
    assert (await post(parrots_edge, SAID))[0] == 200
    assert [one.content.text for one in parrots_edge.dialog.submitted] == ["one", "two"]
