"""EDGE-3, EDGE-9: webhooks are authentic, stored once, and answered by what became of them."""

import pytest

from parley.delivery.v1 import delivery_pb2
from parley.dialog.v1 import dialog_pb2

from services.kernel.errors import storage_unavailable
from tests.integration.edge.conftest import SECRET, Edge


async def test_a_webhook_is_stored_and_answered_with_its_id(edge: Edge) -> None:
    status, body, _ = await edge.hook()
    assert (status, body["duplicate"]) == (200, False)
    assert body["message_id"] == edge.dialog.seen["inbox:1"]
    assert edge.dialog.submitted[0].content.text == "hi"


async def test_a_duplicate_gets_the_first_ones_id(edge: Edge) -> None:
    _, first, _ = await edge.hook()
    status, second, _ = await edge.hook()
    assert (status, second) == (200, {"message_id": first["message_id"], "duplicate": True})
    assert len(edge.dialog.submitted) == 1


async def test_the_secret_may_stand_in_the_address(edge: Edge) -> None:
    status, _, _ = await edge.hook(secret=None, path=f"/webhooks/chat2desk/c2d?secret={SECRET}")
    assert status == 200


@pytest.mark.parametrize("secret", [None, "", "wrong"])
async def test_without_the_secret_nothing_is_read(edge: Edge, secret: str | None) -> None:
    status, body, headers = await edge.hook(b"not json", secret=secret)
    assert (status, body["reason"]) == (401, "INVALID_SIGNATURE")
    assert headers["content-type"] == "application/problem+json"
    assert not edge.dialog.submitted


async def test_an_unknown_channel_is_asked_for_before_it_is_a_404(edge: Edge) -> None:
    assert (await edge.hook(channel="late"))[0] == 200
    for _ in range(3):
        assert (await edge.hook(channel="nowhere"))[0] == 404
    assert edge.delivery.asked.count("nowhere") == 1


async def test_a_channel_of_another_kind_is_a_404(edge: Edge) -> None:
    assert (await edge.hook(channel="api"))[0] == 404


async def test_the_path_of_the_source_document_goes_to_the_channel_of_the_setting(edge: Edge) -> None:
    status, _, _ = await edge.hook(path="/webhook/chat2desk")
    assert (status, edge.dialog.submitted[0].channel_id) == (200, "c2d")


async def test_a_disabled_channels_message_is_stored_as_rejected(edge: Edge) -> None:
    assert (await edge.hook(channel="off"))[0] == 200
    assert edge.dialog.submitted[0].rejection == dialog_pb2.REJECTION_REASON_CHANNEL_DISABLED


async def test_bad_bodies_are_told_apart(edge: Edge) -> None:
    assert (await edge.hook(b"{"))[0] == 400
    assert (await edge.hook(b"x" * 1_000_001))[0] == 413
    status, body, _ = await edge.hook({"client_id": None})
    assert (status, body["field"]) == (422, "client_id")


async def test_storage_away_is_a_503_that_says_when_to_come_back(edge: Edge) -> None:
    edge.dialog.error = storage_unavailable("Postgres")
    status, body, headers = await edge.hook()
    assert (status, body["reason"], headers["retry-after"]) == (503, "STORAGE_UNAVAILABLE", "1")


async def test_our_own_echoes_are_ignored_and_statuses_go_to_delivery(edge: Edge) -> None:
    assert (await edge.hook({"hook_type": "outbox"}))[:2] == (200, {"message_id": None, "duplicate": False})
    assert (await edge.hook({"hook_type": "outbox_status", "message_id": 5, "status": "delivered"}))[0] == 200
    assert not edge.dialog.submitted
    assert edge.delivery.statuses[0].status == delivery_pb2.PROVIDER_STATUS_DELIVERED


async def test_other_methods_and_paths_are_problems_too(edge: Edge) -> None:
    async with edge.http.get(edge.url + "/webhooks/chat2desk/c2d") as response:
        assert (response.status, response.content_type) == (405, "application/problem+json")
    async with edge.http.get(edge.url + "/nothing") as response:
        assert (response.status, response.content_type) == (404, "application/problem+json")
