"""Each item of a batch keeps its own check, deadline, trace and result."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry import trace

from parley.dialog.v1 import dialog_pb2, dialog_pb2_grpc

from parley_client.channel import Connection, connect
from parley_client.tokens import StaticToken
from services.kernel.errors import not_found, storage_unavailable
from services.runtime.keys import Keys, make_token, tokens_of
from services.runtime.service import Running
from tests.integration.runtime.conftest import MESSAGE_ID, SERVICE, Scripted, Spans

RECORD = f"{SERVICE}/RecordOutcome"
TRACEPARENT = f"00-{0xABC:032x}-{0xDEF:016x}-01"


@pytest.fixture
async def delivery(service: Running, keys_dir: Path) -> AsyncIterator[Connection]:
    async with connect(service.address, audience="dialog", tokens=tokens_of(keys_dir, "delivery")) as connection:
        yield connection


def item(error: str = "", tenant_id: str = "acme", **context: object) -> Any:
    request = dialog_pb2.RecordOutcomeRequest(
        tenant_id=tenant_id, delivery_id=MESSAGE_ID, state=dialog_pb2.REPLY_STATE_SENT, error=error
    )
    request.at.GetCurrentTime()
    made: Any = dialog_pb2.BatchRecordOutcomeRequest.Item(request=request)
    made.context.SetInParent()
    for name, value in context.items():
        if name == "timeout":
            made.context.timeout.FromMilliseconds(int(str(value)))
        else:
            setattr(made.context, name, value)
    return made


async def record(connection: Connection, *items: Any, metadata: Sequence[tuple[str, str]] = ()) -> list[str]:
    """What became of each item: `OK`, or its status code."""
    stub: Any = dialog_pb2_grpc.DialogServiceStub(connection.channel)
    batch = dialog_pb2.BatchRecordOutcomeRequest(items=items)
    response = await stub.BatchRecordOutcome(batch, metadata=(*connection.authorization(), *metadata))
    codes = {code.value[0]: code.name for code in grpc.StatusCode}
    return ["OK" if each.HasField("response") else codes[each.error.code] for each in response.results]


async def accept(requests: Sequence[Any]) -> list[Any]:
    return [
        not_found("MESSAGE_NOT_FOUND", "message", "message_id", "x")
        if each.error == "missing"
        else RuntimeError("odd")
        if each.error == "odd"
        else dialog_pb2.RecordOutcomeResponse()
        for each in requests
    ]


async def test_good_and_bad_items_do_not_disturb_one_another(delivery: Connection, servicer: Scripted) -> None:
    handled: list[Any] = []

    async def handle(requests: Sequence[Any]) -> list[Any]:
        handled.extend(requests)
        return await accept(requests)

    servicer.record = handle
    outcomes = await record(
        delivery, item(), item(tenant_id="BAD"), item("missing"), item("odd"), item(timeout=0), item(timeout=60_000)
    )
    assert outcomes == ["OK", "INVALID_ARGUMENT", "NOT_FOUND", "INTERNAL", "DEADLINE_EXCEEDED", "OK"]
    assert len(handled) == 4


async def test_another_tenants_item_is_denied_and_the_rest_is_done(
    service: Running, servicer: Scripted, keys_dir: Path
) -> None:
    servicer.record = accept
    key = Keys(keys_dir).private("delivery")
    token = make_token(key, issuer="delivery", audience="dialog", tenants=["acme"], expires_at=4e9)
    async with connect(service.address, audience="dialog", tokens=StaticToken(token)) as connection:
        outcomes = await record(connection, item(), item(tenant_id="other"))
    assert outcomes == ["OK", "PERMISSION_DENIED"]


async def test_a_batch_of_bad_items_is_not_handled_at_all(delivery: Connection, servicer: Scripted) -> None:
    async def never(requests: Sequence[Any]) -> list[Any]:
        raise AssertionError

    servicer.record = never
    assert await record(delivery, item(tenant_id="BAD")) == ["INVALID_ARGUMENT"]


async def test_when_the_batch_fails_all_its_items_fail(delivery: Connection, servicer: Scripted) -> None:
    async def handle(requests: Sequence[Any]) -> list[Any]:
        raise ConnectionResetError("not asyncpg's")

    servicer.record = handle
    assert await record(delivery, item(), item(tenant_id="BAD")) == ["INTERNAL", "INVALID_ARGUMENT"]


async def test_a_batch_that_fails_as_a_whole_is_handled_item_by_item(delivery: Connection, servicer: Scripted) -> None:
    """One row that does not open, one text that cannot be stored: it fails alone."""
    sizes: list[int] = []

    async def handle(requests: Sequence[Any]) -> list[Any]:
        sizes.append(len(requests))
        if any(each.error == "poison" for each in requests):
            raise ValueError("does not open")
        return await accept(requests)

    servicer.record = handle
    assert await record(delivery, item(), item("poison"), item("missing")) == ["OK", "INTERNAL", "NOT_FOUND"]
    assert sizes == [3, 1, 1, 1]


async def test_a_batch_whose_store_is_away_is_not_handled_again(delivery: Connection, servicer: Scripted) -> None:
    sizes: list[int] = []

    async def handle(requests: Sequence[Any]) -> list[Any]:
        sizes.append(len(requests))
        raise storage_unavailable("Postgres")

    servicer.record = handle
    assert await record(delivery, item(), item()) == ["UNAVAILABLE", "UNAVAILABLE"]
    assert sizes == [2]


async def test_each_recorded_item_has_its_own_span_in_its_own_trace(
    delivery: Connection, servicer: Scripted, spans: Spans
) -> None:
    servicer.record = accept
    batch = ("traceparent", f"00-{0x123:032x}-{0x456:016x}-01")
    other = f"00-{0xABD:032x}-{0xDEF:016x}-01"
    await record(
        delivery,
        item(traceparent=TRACEPARENT),
        item("missing", traceparent=other),
        item(traceparent=TRACEPARENT.replace("-01", "-00")),
        item(),
        metadata=[batch],
    )
    around = await spans.first(f"{SERVICE}/BatchRecordOutcome")
    good, bad = spans.named(RECORD)
    assert (good.trace_id, bad.trace_id) == ((0xABC).to_bytes(16), (0xABD).to_bytes(16))
    assert good.parent_span_id == (0xDEF).to_bytes(8)
    assert [(link.trace_id, link.span_id) for link in good.links] == [(around.trace_id, around.span_id)]
    attributes = {each.key: each.value.string_value for each in bad.attributes}
    assert attributes["rpc.response.status_code"] == "NOT_FOUND"
    assert attributes["parley.tenant_id"] == "acme"


async def test_a_batch_without_a_trace_makes_no_span_of_its_own(
    delivery: Connection, servicer: Scripted, spans: Spans
) -> None:
    servicer.record = accept
    await record(delivery, item(), item(traceparent=TRACEPARENT))
    assert [span.name for span in spans] == [RECORD]
    assert not spans[0].links


async def test_a_handler_may_take_the_items_trace_contexts(
    delivery: Connection, servicer: Scripted, spans: Spans
) -> None:
    seen: list[Any] = []

    async def handle(requests: Sequence[Any], contexts: Sequence[Any]) -> list[Any]:
        seen.extend(trace.get_current_span(context).get_span_context() for context in contexts)
        return await accept(requests)

    servicer.record = handle
    await record(delivery, item(traceparent=TRACEPARENT), item(traceparent=TRACEPARENT.replace("-01", "-00")), item())
    recorded, passed_on, none = seen
    assert recorded.span_id.to_bytes(8) == (await spans.first(RECORD)).span_id
    assert (passed_on.trace_id, passed_on.span_id) == (0xABC, 0xDEF)
    assert not none.is_valid
