"""The trace of a message goes on from its sender through the outbox to the provider."""

from collections.abc import Callable, Sequence

import pytest
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from parley.delivery.v1 import delivery_pb2

from tests.integration.delivery.conftest import DEAD, SENT, TENANT, TOKEN, Delivery, World, message, until
from tests.support.spans import recording

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> list[Span]:
    recorded: list[Span] = []
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", recording(recorded))
    return recorded


async def send(delivery: Delivery, text: str, flags: str = "01") -> str:
    request = delivery_pb2.BatchSendMessageRequest()
    item = request.items.add(request=message(text))
    item.context.traceparent = f"00-{TRACE}-{PARENT}-{flags}"
    response = await delivery.client.batch_send_message(request)
    return response.results[0].response.delivery_id


def of_trace(spans: Sequence[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name == name and span.trace_id.hex() == TRACE]


async def one(spans: Sequence[Span], name: str) -> Span:
    await until(lambda: of_trace(spans, name))
    (span,) = of_trace(spans, name)
    return span


def attributes(span: Span) -> dict[str, object]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


async def test_one_trace_from_sender_to_provider(delivery: Delivery, world: World, spans: list[Span]) -> None:
    world.receiver.fail(500)
    delivery_id = await send(delivery, "a text that no span may hold")
    sent = await delivery.until_state(delivery_id, SENT)
    assert sent.trace_id == TRACE
    server = await one(spans, "parley.delivery.v1.DeliveryService/SendMessage")
    stored = await one(spans, "send outbox")
    await until(lambda: len(of_trace(spans, "process outbox")) == 2)
    processed = of_trace(spans, "process outbox")
    calls = of_trace(spans, "POST")
    assert server.parent_span_id.hex() == PARENT
    assert stored.parent_span_id == server.span_id
    assert (stored.kind, processed[0].kind, calls[0].kind) == (
        Span.SPAN_KIND_PRODUCER,
        Span.SPAN_KIND_CONSUMER,
        Span.SPAN_KIND_CLIENT,
    )
    assert all(span.parent_span_id == stored.span_id for span in processed)
    assert all(span.links[0].span_id == stored.span_id for span in processed)
    assert [span.parent_span_id for span in calls] == [span.span_id for span in processed]
    assert [attributes(span)["http.response.status_code"] for span in calls] == [500, 200]
    assert attributes(calls[0])["error.type"] == "500"
    assert attributes(processed[0])["parley.tenant_id"] == TENANT
    assert attributes(processed[0])["parley.message_id"] == "00000000-0000-0000-0000-000000000007"
    reserve = of_trace(spans, "parley.limits.v1.LimitsService/Reserve")
    assert [span.parent_span_id for span in reserve] == [span.span_id for span in processed]
    everything = b"".join(span.SerializeToString() for span in spans)
    assert b"no span may hold" not in everything
    assert TOKEN.encode() not in everything


async def test_an_unsampled_trace_is_passed_on_and_makes_no_spans(delivery: Delivery, spans: list[Span]) -> None:
    delivery_id = await send(delivery, "text", flags="00")
    sent = await delivery.until_state(delivery_id, SENT)
    assert sent.trace_id == TRACE
    assert not [span for span in spans if span.trace_id.hex() == TRACE]


async def test_an_operators_retry_is_a_new_trace_with_a_link(
    delivery: Delivery, world: World, spans: list[Span]
) -> None:
    world.receiver.fail(400)
    delivery_id = await send(delivery, "text")
    await delivery.until_state(delivery_id, DEAD)
    await delivery.as_("operator")[0].retry_delivery(
        delivery_pb2.RetryDeliveryRequest(tenant_id=TENANT, delivery_id=delivery_id, request_id="1")
    )
    sent = await delivery.until_state(delivery_id, SENT)
    assert sent.trace_id != TRACE
    (again,) = [span for span in spans if span.name == "send outbox" and span.trace_id.hex() == sent.trace_id]
    assert not again.parent_span_id
    assert TRACE in {link.trace_id.hex() for link in again.links}


async def test_no_log_line_holds_a_text_a_token_or_a_phone(
    delivery: Delivery, world: World, capfd: pytest.CaptureFixture[str], make_logs: Callable[[], None]
) -> None:
    make_logs()
    world.receiver.fail(400)
    answer = await delivery.client.send_message(message("the secret text", chat="+996555123456"))
    await delivery.until_state(answer.delivery_id, DEAD)
    world.receiver.fail(401, times=2)
    await delivery.client.send_message(message("another secret text"))
    written = ""

    def all_is_written() -> bool:
        nonlocal written
        written += capfd.readouterr().out
        return "a delivery is dead" in written and "nothing is sent by it" in written

    await until(all_is_written)
    for secret in ("secret text", TOKEN, "996555123456"):
        assert secret not in written


@pytest.fixture
def make_logs() -> Callable[[], None]:
    from services.runtime import logs

    return lambda: logs.configure("delivery")
