"""SEC: what a request may hold is looked at before anything walks it, and what is said of it is short."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from time import process_time
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from parley.context.v1 import context_pb2
from parley.dialog.v1 import bot_pb2, dialog_pb2

from parley_client.channel import Connection, connect
from services.runtime.keys import tokens_of
from services.runtime.service import Running
from services.runtime.validation import MOST_TOLD, check
from tests.integration.runtime.conftest import MESSAGE_ID, SERVICE, Scripted
from tests.integration.runtime.test_trust import fill

LARGEST_METADATA = 8 * 1024


@pytest.fixture
async def edge(service: Running, keys_dir: Path) -> AsyncIterator[Connection]:
    async with connect(service.address, audience="dialog", tokens=tokens_of(keys_dir, "edge")) as connection:
        yield connection


class Refused:
    """A call's failure."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code()
        trailing = dict(error.trailing_metadata() or ())
        raw: Any = trailing.get("grpc-status-details-bin", b"")
        status = Status.FromString(raw)
        self.size = len(raw) + 3 * len((error.details() or "").encode())
        self.info, self.bad = ErrorInfo(), BadRequest()
        for detail in status.details:
            detail.Unpack(self.info)
            detail.Unpack(self.bad)


async def refused(connection: Connection, method: str, request: bytes, token: bool = True) -> Refused:
    call: Any = connection.channel.unary_unary(f"/{SERVICE}/{method}")
    metadata = connection.authorization() if token else ()
    begun = process_time()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(request, metadata=metadata, timeout=60)
    assert process_time() - begun < 1
    found = Refused(caught.value)
    assert found.size <= LARGEST_METADATA
    return found


def submission(names: int = 0) -> dialog_pb2.SubmitMessageRequest:
    request = dialog_pb2.SubmitMessageRequest()
    fill(request)
    for _ in range(names):
        request.sender.also_known_as.add()
    return request


async def test_a_long_list_is_counted_and_not_walked(edge: Connection) -> None:
    """Of 200,000 names each was looked at, for 4.2 s, and told, in 13 MB."""
    found = await refused(edge, "SubmitMessage", submission(200_000).SerializeToString())
    assert (found.code, found.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    (violation,) = found.bad.field_violations
    assert violation.field == "sender.also_known_as"
    assert violation.description == "has 200000 items; there may be 4"


@pytest.mark.parametrize("method", ["SubmitMessage", "GetMessage"])
async def test_a_request_that_is_too_large_is_not_read(edge: Connection, method: str) -> None:
    found = await refused(edge, method, b"\xff" * 600_000)
    assert (found.code, found.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "TOO_LARGE")
    assert found.info.metadata["limit_bytes"] == {"SubmitMessage": "524288", "GetMessage": "65536"}[method]


async def test_a_request_that_cannot_be_read_is_invalid(edge: Connection) -> None:
    found = await refused(edge, "GetMessage", b"\xff\xff")
    assert (found.code, found.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


async def test_without_a_token_nothing_is_said_of_a_request(edge: Connection) -> None:
    for request in (b"\xff" * 600_000, b"\xff\xff"):
        assert (await refused(edge, "GetMessage", request, token=False)).code is grpc.StatusCode.UNAUTHENTICATED


async def test_what_is_quoted_is_cut(edge: Connection, keys_dir: Path, service: Running) -> None:
    long = dialog_pb2.GetMessageRequest(tenant_id="ы" * 20_000, message_id="x")
    found = await refused(edge, "GetMessage", long.SerializeToString())
    assert found.code is grpc.StatusCode.INVALID_ARGUMENT
    tokens = tokens_of(keys_dir, "integration", tenants=("acme",))
    async with connect(service.address, audience="dialog", tokens=tokens) as shop:
        found = await refused(shop, "GetMessage", long.SerializeToString())
    assert found.code is grpc.StatusCode.PERMISSION_DENIED


async def test_a_large_item_fails_alone(edge: Connection, servicer: Scripted) -> None:
    async def handle(requests: Any, contexts: Any) -> list[Any]:
        return [dialog_pb2.SubmitMessageResponse() for _ in requests]

    servicer.submit = handle
    batch = dialog_pb2.BatchSubmitMessageRequest()
    batch.items.add(request=submission())
    batch.items.add(request=submission(200_000))
    batch.items.add(request=submission()).request.content.text = "x" * 600_000
    call: Any = edge.channel.unary_unary(
        f"/{SERVICE}/BatchSubmitMessage",
        request_serializer=dialog_pb2.BatchSubmitMessageRequest.SerializeToString,
        response_deserializer=dialog_pb2.BatchSubmitMessageResponse.FromString,
    )
    begun = process_time()
    good, many, large = (await call(batch, metadata=edge.authorization())).results
    assert process_time() - begun < 1
    assert good.HasField("response")
    assert (many.error.code, large.error.code) == (3, 3)


async def test_a_batch_of_empty_items_is_counted(edge: Connection) -> None:
    await refused(edge, "BatchSubmitMessage", b"\x0a\x00" * 1_000_000)


async def test_other_calls_are_answered_meanwhile(edge: Connection) -> None:
    large = submission(200_000).SerializeToString()
    flood = [asyncio.ensure_future(refused(edge, "SubmitMessage", large)) for _ in range(5)]
    stub: Any = edge.channel.unary_unary(f"/{SERVICE}/GetMessage")
    small = dialog_pb2.GetMessageRequest(tenant_id="acme", message_id=MESSAGE_ID).SerializeToString()
    begun = process_time()
    await stub(small, metadata=edge.authorization())
    assert process_time() - begun < 1
    await asyncio.gather(*flood)


def save(**slots: Any) -> context_pb2.SaveContextRequest:
    request = context_pb2.SaveContextRequest(
        tenant_id="acme", conversation_id=MESSAGE_ID, contact_id=MESSAGE_ID, request_id="r"
    )
    request.changes.dialog.slots.update(slots)
    return request


def test_structs_and_masks_are_counted_at_all_levels() -> None:
    deep: Any = "x"
    for _ in range(20):
        deep = {"a": deep}
    wide = {"a": [{"b": list(range(1000))}, {"c": list(range(1000))}]}
    mask = save()
    mask.update_mask.paths.extend(["client.name"] * 100)
    for request, field in (
        (save(deep=deep), "changes.dialog.slots"),
        (save(wide=wide), "changes.dialog.slots"),
        (mask, "update_mask"),
    ):
        error = check(request)
        assert error is not None
        assert error.fields[0].field == field
    assert check(save(some={"a": list(range(1000)), "b": {"c": "x" * 1000}})) is None


def test_only_the_first_violations_are_told() -> None:
    request = dialog_pb2.ListMessagesRequest(tenant_id="acme", states=[dialog_pb2.MESSAGE_STATE_UNSPECIFIED] * 5)
    error = check(request)
    assert error is not None
    assert len(error.fields) == 5
    append = save()
    for _ in range(50):
        append.append_messages.add(role=9)
    error = check(append)
    assert error is not None
    assert len(error.fields) == MOST_TOLD + 1
    assert error.fields[-1].description == "and 30 more violations"


def test_a_bots_new_form_is_not_counted_twice() -> None:
    """What the contract leaves to the use case is left alone."""
    bot = bot_pb2.Bot(bot_id="b", form=bot_pb2.FormFlow(definition_yaml="x" * 60_000))
    request = bot_pb2.UpdateBotRequest(tenant_id="acme", bot=bot, request_id="r")
    request.update_mask.paths.append("form")
    assert check(request) is None
