"""OPS-3: a message's trace goes on through the inbox to all that its turn does."""

from collections.abc import Sequence

import pytest
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from parley.dialog.v1 import dialog_pb2

from parley_client.dialog import DialogClient
from services.dialog.domain.failures import DecisionError, FailureKind
from tests.integration.dialog.conftest import TENANT, World, submission, until
from tests.support.spans import recording

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> list[Span]:
    recorded: list[Span] = []
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", recording(recorded))
    return recorded


async def submit(world: World, text: str, flags: str = "01") -> str:
    batch = dialog_pb2.BatchSubmitMessageRequest()
    item = batch.items.add(request=submission(text))
    item.context.traceparent = f"00-{TRACE}-{PARENT}-{flags}"
    results = (await DialogClient(world.connection("edge")).batch_submit_message(batch)).results
    return results[0].response.message_id


def of_trace(spans: Sequence[Span], name: str, trace_id: str = TRACE) -> list[Span]:
    return [span for span in spans if span.name == name and span.trace_id.hex() == trace_id]


async def one(spans: Sequence[Span], name: str, trace_id: str = TRACE) -> Span:
    async def ended() -> list[Span]:
        return of_trace(spans, name, trace_id)

    spans = await until(ended)
    assert len(spans) == 1
    return spans[0]


@pytest.mark.parametrize("on", [False, True])
async def test_ops_5_text_is_in_logs_and_spans_only_when_switched_on(
    world: World, spans: list[Span], capsys: pytest.CaptureFixture[str], on: bool
) -> None:
    await world.start(log_message_text=on)
    await world.prepare()
    world.flow.model = True
    await world.ends(await submit(world, "my secret wish"))
    await one(spans, "process inbox")
    told, recorded = capsys.readouterr().out, "".join(map(str, spans))
    for text in ("my secret wish", "model says my secret wish"):
        assert (text in told, text in recorded) == (on, on)


async def test_one_trace_from_submission_to_effects(spans: list[Span], dialog: World) -> None:
    dialog.flow.model = True
    message_id = await submit(dialog, "a text that no span may hold")
    message = await dialog.ends(message_id)
    assert message.trace_id == TRACE
    server = await one(spans, "parley.dialog.v1.DialogService/SubmitMessage")
    sent = await one(spans, "send inbox")
    processed = await one(spans, "process inbox")
    assert server.parent_span_id.hex() == PARENT
    assert (sent.parent_span_id, sent.kind) == (server.span_id, Span.SPAN_KIND_PRODUCER)
    assert (processed.parent_span_id, processed.kind) == (sent.span_id, Span.SPAN_KIND_CONSUMER)
    assert processed.links[0].span_id == sent.span_id
    attributes = {each.key: each.value.string_value for each in processed.attributes}
    assert (attributes["parley.tenant_id"], attributes["parley.message_id"]) == (TENANT, message_id)
    below = (
        "parley.context.v1.ContextService/GetContext",
        "parley.limits.v1.LimitsService/Reserve",
        "decide assistant",
        "commit plan",
        "parley.context.v1.ContextService/SaveContext",
        "parley.delivery.v1.DeliveryService/SendMessage",
        "parley.limits.v1.LimitsService/Commit",
    )
    for name in below:
        made = [span for span in of_trace(spans, name) if span.parent_span_id == processed.span_id]
        assert len(made) == 1, name
    assert b"no span may hold" not in b"".join(span.SerializeToString() for span in spans)


async def test_what_is_not_sampled_makes_no_span_and_keeps_its_trace_id(spans: list[Span], dialog: World) -> None:
    message_id = await submit(dialog, "hello", flags="00")
    message = await dialog.ends(message_id)
    assert message.trace_id == TRACE
    assert not [span.name for span in spans if span.trace_id.hex() == TRACE]


async def test_a_failed_turn_is_marked_and_a_retry_is_a_new_trace_with_a_link(spans: list[Span], dialog: World) -> None:
    dialog.flow.script = [DecisionError(FailureKind.TERMINAL, "MODEL_REJECTED", "no")]
    message_id = await submit(dialog, "hello")
    await dialog.ends(message_id, dialog_pb2.MESSAGE_STATE_TERMINAL)
    sent, failed = await one(spans, "send inbox"), await one(spans, "process inbox")
    assert failed.status.code == 2
    assert failed.status.message == "MODEL_REJECTED"
    request = dialog_pb2.RetryMessageRequest(tenant_id=TENANT, message_id=message_id, request_id="r")
    await dialog.dialog.retry_message(request)
    again = await dialog.ends(message_id)
    assert again.trace_id != TRACE
    producer = await one(spans, "send inbox", again.trace_id)
    assert sent.span_id in [link.span_id for link in producer.links]
    assert (await one(spans, "process inbox", again.trace_id)).parent_span_id == producer.span_id
