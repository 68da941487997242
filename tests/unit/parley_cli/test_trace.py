"""`parley trace`: the waterfall, and the stored states in its place."""

import grpc
import pytest

from parley.delivery.v1 import delivery_pb2
from parley.dialog.v1 import dialog_pb2
from parley.telemetry.v1 import telemetry_pb2

from parley_cli import stages, waterfall
from parley_cli.trace_view import length
from tests.unit.parley_cli.conftest import Scripted, document, failure, message, parley

KINDS = {
    "S": telemetry_pb2.SPAN_KIND_SERVER,
    "P": telemetry_pb2.SPAN_KIND_PRODUCER,
    "C": telemetry_pb2.SPAN_KIND_CONSUMER,
    "I": telemetry_pb2.SPAN_KIND_INTERNAL,
}


def span(span_id: str, parent: str, kind: str, name: str, start: int, took: int, **more: object) -> telemetry_pb2.Span:
    """A span; times in milliseconds."""
    made = telemetry_pb2.Span(span_id=span_id, parent_id=parent, name=name, service="dialog", kind=KINDS[kind], **more)  # type: ignore[arg-type]
    made.started_at.FromMilliseconds(1_000_000 + start)
    made.duration.FromMilliseconds(took)
    return made


TRACE = [
    span("a", "", "S", "POST /webhooks/chat2desk/{channel_id}", 0, 10),
    span("b", "a", "P", "send inbox", 4, 2),
    span("c", "b", "C", "process inbox", 36, 20),
    span("d", "c", "I", "decide form", 40, 5),
    span("e", "c", "P", "send outbox", 50, 1),
    span("f", "e", "C", "process outbox", 71, 29),
]


def delivery() -> delivery_pb2.Delivery:
    made = delivery_pb2.Delivery(delivery_id="d1")
    made.created_at.FromMilliseconds(1_000_110)
    part = made.parts.add(state=delivery_pb2.PART_STATE_SENT)
    for number, (start, status) in enumerate(((1_000_130, 500), (1_001_150, 200)), 1):
        attempt = part.attempts.add(number=number, http_status=status)
        attempt.started_at.FromMilliseconds(start)
        attempt.ended_at.FromMilliseconds(start + 20)
    return made


def test_spans_stand_under_their_parents_with_waiting_apart() -> None:
    shown = waterfall.lines(list(reversed(TRACE)))
    assert [(line.depth, line.name, line.start, line.duration) for line in shown] == [
        (0, "POST /webhooks/chat2desk/{channel_id}", 0, 10),
        (1, "send inbox", 4, 2),
        (2, "waiting for inbox", 6, 30),
        (2, "process inbox", 36, 20),
        (3, "decide form", 40, 5),
        (3, "send outbox", 50, 1),
        (4, "waiting for outbox", 51, 20),
        (4, "process outbox", 71, 29),
    ]
    assert waterfall.total(shown) == 100
    assert waterfall.waiting(shown) == 50


def test_work_that_was_taken_twice_waited_from_the_end_of_the_first_time() -> None:
    first = span("g", "b", "C", "process inbox", 26, 1)
    shown = waterfall.lines([*TRACE, first])
    waits = [(line.start, line.duration) for line in shown if line.waiting and "inbox" in line.name]
    assert waits == [(6, 20), (27, 9)]


def test_waits_that_overlap_count_once() -> None:
    waits = [waterfall.Line(0, start, 10, "waiting", waiting=True) for start in (0, 5, 30)]
    assert waterfall.waiting(waits) == 25


def test_a_span_whose_parent_was_not_kept_is_shown_all_the_same() -> None:
    shown = waterfall.lines(TRACE[2:])
    assert (shown[0].depth, shown[0].name) == (0, "process inbox")


def test_a_failed_span_says_why() -> None:
    failed = span(
        "x", "", "I", "chat gpt", 0, 1, status=telemetry_pb2.SPAN_STATUS_ERROR, status_message="refused",
        attributes={"http.response.status_code": "401"},
    )  # fmt: skip
    (line,) = waterfall.lines([failed])
    assert line.failed
    assert line.detail == "401 refused"


def test_stored_states_tell_the_way_with_retries() -> None:
    told = [(one.name, round(one.duration or 0, 6), one.waiting) for one in stages.stages(message(), [delivery()])]
    assert told == [
        ("waiting for inbox", 0.04, True),
        ("decide", 0.06, False),
        ("effects", 0.02, False),
        ("waiting for outbox (reply)", 0.02, True),
        ("send reply, try 1", 0.02, False),
        ("waiting for outbox (reply)", 1.0, True),
        ("send reply, try 2", 0.02, False),
    ]


def test_a_message_that_still_waits_is_not_given_an_end() -> None:
    waiting = dialog_pb2.Message(state=dialog_pb2.MESSAGE_STATE_RECEIVED)
    waiting.received_at.FromMilliseconds(1_000_000)
    (one,) = stages.stages(waiting, [])
    assert (one.name, one.duration) == ("waiting for inbox", None)


def test_the_document_has_the_agreed_keys(stack: Scripted) -> None:
    stack.answers |= {
        "GetMessage": dialog_pb2.GetMessageResponse(message=message()),
        "ListDeliveries": delivery_pb2.ListDeliveriesResponse(deliveries=[delivery()]),
        "GetTrace": telemetry_pb2.GetTraceResponse(spans=TRACE),
    }
    shown = document("trace", message().message_id)
    assert shown["trace_id"] == message().trace_id
    root = shown["spans"][0]
    assert {"name", "service", "start", "duration_ms", "parent_id", "status"} <= root.keys()
    assert (root["duration_ms"], root["parent_id"], root["status"]) == (10, "", "UNSET")
    text = parley("trace", message().message_id).stdout
    assert "process inbox" in text
    assert "100 ms in all, 50 ms of it waiting in queues" in text


def test_without_spans_the_stored_states_are_shown(stack: Scripted) -> None:
    stack.answers |= {
        "GetMessage": dialog_pb2.GetMessageResponse(message=message()),
        "ListDeliveries": delivery_pb2.ListDeliveriesResponse(deliveries=[delivery()]),
        "GetTrace": failure(grpc.StatusCode.NOT_FOUND, "TRACE_NOT_FOUND", "No spans."),
    }
    text = parley("trace", message().message_id).stdout
    assert "No spans of it are kept" in text
    assert "send reply, try 2" in text
    assert document("trace", message().message_id)["spans"] == []


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.0004, "0.4 ms"), (0.0123, "12 ms"), (3.14, "3.1 s"), (245.0, "4 min 5 s")]
)
def test_lengths_are_told_as_people_do(seconds: float, words: str) -> None:
    assert length(seconds) == words
