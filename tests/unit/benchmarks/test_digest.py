import pytest

from parley.telemetry.v1 import telemetry_pb2 as pb

from services.runtime.batches import BATCH_ITEMS
from tests.benchmarks.profile import summarize
from tests.benchmarks.stages import digest


def span(
    service: str, name: str, kind: "pb.SpanKind.ValueType", start_ms: int, length_ms: int, items: int = 0
) -> pb.Span:
    made = pb.Span(service=service, name=name, kind=kind)
    made.started_at.FromMilliseconds(start_ms)
    made.duration.FromMilliseconds(length_ms)
    if items:
        made.attributes[BATCH_ITEMS] = str(items)
    return made


WAY = [
    span("edge", "POST /webhooks/chat2desk/{channel_id}", pb.SPAN_KIND_SERVER, 0, 12),
    span("dialog", "parley.dialog.v1.DialogService/SubmitMessage", pb.SPAN_KIND_SERVER, 2, 8, items=4),
    span("dialog", "send inbox", pb.SPAN_KIND_PRODUCER, 2, 8),
    span("dialog", "process inbox", pb.SPAN_KIND_CONSUMER, 15, 40),
    span("delivery", "parley.delivery.v1.DeliveryService/SendMessage", pb.SPAN_KIND_SERVER, 30, 10),
    span("delivery", "send outbox", pb.SPAN_KIND_PRODUCER, 30, 10),
    span("delivery", "process outbox", pb.SPAN_KIND_CONSUMER, 45, 30),
    span("delivery", "POST", pb.SPAN_KIND_CLIENT, 50, 20),
]


def test_the_stages_of_a_whole_trace_add_up_to_its_way() -> None:
    found = digest([WAY])
    assert [stage.mean_ms for stage in found.stages] == [10, 5, 15, 10, 5, 5, 20]
    assert sum(stage.share for stage in found.stages) == pytest.approx(1)


def test_a_batch_is_shared_by_its_items() -> None:
    assert digest([WAY]).rpcs_per_message == 0.25 + 1


def test_a_trace_that_lacks_a_stage_is_left_out() -> None:
    assert digest([WAY[:-1]]).traces == 0
    assert digest([WAY, WAY[:-1]]).traces == 1


def test_a_profile_tells_own_time_from_that_of_callees() -> None:
    found = summarize(["main (a.py:1);outer (a.py:2);inner (b.py:3) 3", "main (a.py:1);outer (a.py:9) 1"])
    assert found.samples == 4
    assert found.own == {"inner b.py": 3, "outer a.py": 1}
    assert found.total["outer a.py"] == 4
