from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.telemetry.convert import spans_of
from services.telemetry.domain.gathering import MOST_SCOPES, MOST_SPANS, Gathering, is_too_much
from services.telemetry.domain.otlp import read, varint
from services.telemetry.domain.traces import Piece
from tests.support.otlp import SpanMade, export, new_trace_id


def gathering(**settings: float) -> Gathering:
    values = {"max_bytes": 1_000_000, "quiet": 2.0, "longest": 10.0} | settings
    return Gathering(max_bytes=int(values["max_bytes"]), quiet=values["quiet"], longest=values["longest"])


def taken(gathered: Gathering, now: float = 0.0, *, everything: bool = True) -> list[Piece]:
    taken = gathered.take(now, everything=everything)
    return [piece for (trace_id, _), each in taken.items() for piece in each.pieces(trace_id)]


def test_spans_of_several_services_become_one_piece() -> None:
    trace_id, here = new_trace_id(), gathering()
    root = SpanMade(trace_id, "POST /webhooks", started=100.0, seconds=0.5, tenant_id="demo")
    child = SpanMade(trace_id, "process inbox", parent_id=root.span_id, started=100.2, seconds=1.0, failed=True)
    assert here.add(export([child], "dialog"), 0.0, None) == 0
    assert here.add(export([root], "edge"), 0.0, None) == 0
    (piece,) = taken(here)
    assert (piece.trace_id, piece.tenant_id, piece.name) == (trace_id, "demo", "POST /webhooks")
    assert (piece.started_at.timestamp(), piece.ended_at.timestamp()) == (100.0, 101.2)
    assert (piece.span_count, piece.has_error, piece.services) == (2, True, ("dialog", "edge"))
    assert [(span.name, span.service) for span in spans_of([piece], "demo")] == [
        ("POST /webhooks", "edge"),
        ("process inbox", "dialog"),
    ]


def test_a_span_is_stored_byte_by_byte() -> None:
    request = export([SpanMade(new_trace_id(), "x" * 300, attributes={"long": "y" * 40_000})])
    here = gathering()
    here.add(request, 0.0, None)
    (piece,) = taken(here)
    (resource,) = read(piece.spans).resource_spans
    assert resource.scope_spans[0].spans[0] == request.resource_spans[0].scope_spans[0].spans[0]


def test_a_trace_leaves_when_it_is_quiet_or_has_taken_long() -> None:
    here = gathering(quiet=2.0, longest=10.0)
    quiet, busy = new_trace_id(), new_trace_id()
    for now in range(10):
        here.add(export([SpanMade(busy)] + [SpanMade(quiet)] * (now == 0)), float(now), None)
    assert [piece.trace_id for piece in taken(here, 9.0, everything=False)] == [quiet]
    assert taken(here, 9.5, everything=False) == []
    assert [piece.span_count for piece in taken(here, 10.0, everything=False)] == [10]
    assert (here.bytes, here.spans) == (0, 0)


def test_everything_leaves_when_half_the_room_is_taken() -> None:
    request = export([SpanMade(new_trace_id(), attributes={"long": "x" * 600})])
    here = gathering(max_bytes=2000)
    assert here.has_room(request.ByteSize())
    here.add(request, 0.0, None)
    assert not here.has_room(request.ByteSize())
    assert len(taken(here, 0.0, everything=False)) == 1
    assert here.has_room(request.ByteSize())


def test_tiny_spans_are_counted_with_the_memory_that_they_take() -> None:
    here = gathering(max_bytes=1_000_000)
    spans = 0
    while here.has_room(200):
        here.add(export([SpanMade(new_trace_id())]), 0.0, None)
        spans += 1
    assert spans < 1000  # about a kilobyte each
    assert len(taken(here)) == spans
    assert here.bytes == 0


def test_malformed_spans_are_refused_and_the_rest_is_kept() -> None:
    here = gathering()
    good = SpanMade(new_trace_id())
    bad = [SpanMade(b""), SpanMade(b"short"), SpanMade(new_trace_id(), span_id=b"")]
    assert here.add(export([*bad, good]), 0.0, None) == 3
    assert here.spans == 1
    assert here.add(ExportTraceServiceRequest(), 0.0, None) == 0


def test_an_export_of_more_than_exporters_send_is_too_much() -> None:
    assert not is_too_much(export([SpanMade(new_trace_id())] * MOST_SPANS))
    assert is_too_much(export([SpanMade(new_trace_id())] * (MOST_SPANS + 1)))
    scopes = ExportTraceServiceRequest()
    for _ in range(MOST_SCOPES + 1):
        scopes.resource_spans.add()
    assert is_too_much(scopes)


def test_what_postgres_cannot_store_is_left_out() -> None:
    here = gathering()
    here.add(export([SpanMade(new_trace_id(), "na\x00me", tenant_id="de\x00mo")], "se\x00rvice"), 0.0, None)
    (piece,) = taken(here)
    assert (piece.name, piece.tenant_id, piece.services) == ("name", "demo", ("service",))


def test_the_last_time_that_otlp_can_name_is_a_time() -> None:
    here = gathering()
    request = export([SpanMade(new_trace_id())])
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.start_time_unix_nano = (1 << 64) - 1
    span.end_time_unix_nano = 0
    here.add(request, 0.0, None)
    (piece,) = taken(here)
    assert piece.started_at.year == 2554
    assert piece.ended_at == piece.started_at


def test_a_tenants_own_service_speaks_for_that_tenant_only() -> None:
    here = gathering()
    trace_id = new_trace_id()
    spans = [SpanMade(trace_id), SpanMade(trace_id, tenant_id="acme"), SpanMade(trace_id, tenant_id="demo")]
    assert here.add(export(spans, "shop"), 0.0, frozenset({"acme"})) == 1
    here.add(export([SpanMade(trace_id, tenant_id="demo")]), 0.0, None)
    assert sorted((piece.tenant_id, piece.span_count) for piece in taken(here)) == [("acme", 2), ("demo", 1)]


def test_a_service_of_several_tenants_must_say_for_which() -> None:
    here = gathering()
    spans = [SpanMade(new_trace_id()), SpanMade(new_trace_id(), tenant_id="acme")]
    assert here.add(export(spans), 0.0, frozenset({"acme", "demo"})) == 1


def test_a_span_that_was_sent_twice_is_shown_once() -> None:
    here = gathering()
    span = SpanMade(new_trace_id(), tenant_id="demo")
    here.add(export([span]), 0.0, None)
    here.add(export([span]), 0.0, None)
    assert len(spans_of(taken(here), "demo")) == 1


def test_numbers_are_written_as_protobuf_does() -> None:
    assert [varint(number).hex() for number in (0, 127, 128, 300, 1 << 21)] == ["00", "7f", "8001", "ac02", "80808001"]


def shared(trace_id: bytes) -> tuple[dict[str, SpanMade], list[str]]:
    """A trace of two tenants: a batch around both, and below each a span that names nobody."""
    batch = SpanMade(trace_id, "batch")
    one = SpanMade(trace_id, "one", parent_id=batch.span_id, tenant_id="acme")
    two = SpanMade(trace_id, "two", parent_id=batch.span_id, tenant_id="demo", failed=True)
    below = [SpanMade(trace_id, f"below {each.name}", parent_id=each.span_id) for each in (one, two)]
    deeper = SpanMade(trace_id, "deeper", parent_id=below[1].span_id)
    return {each.name: each for each in (batch, one, two, *below, deeper)}, ["below one", "one"]


def names(pieces: list[Piece], tenant_id: str) -> list[str]:
    return sorted(span.name for span in spans_of(pieces, tenant_id))


def test_each_tenant_sees_its_own_part_of_a_shared_trace() -> None:
    trace_id = new_trace_id()
    spans, of_acme = shared(trace_id)
    whole, halves = gathering(), gathering()
    whole.add(export(spans.values()), 0.0, None)
    at_once = taken(whole)
    assert sorted((piece.tenant_id, piece.span_count, piece.has_error) for piece in at_once) == [
        ("", 4, False),
        ("acme", 1, False),
        ("demo", 1, True),
    ]
    apart = []
    for span in spans.values():
        halves.add(export([span]), 0.0, None)
        apart += taken(halves)
    for pieces in (at_once, apart):
        assert names(pieces, "acme") == of_acme
        assert names(pieces, "demo") == ["below two", "deeper", "two"]
        assert names(pieces, "other") == []


def test_a_tenants_own_spans_change_nothing_for_others() -> None:
    """Whoever knows another's trace id and span ids can write below and over them, and sees nothing but that."""
    trace_id = new_trace_id()
    root = SpanMade(trace_id, "root", tenant_id="demo")
    child = SpanMade(trace_id, "child", parent_id=root.span_id)
    here = gathering()
    here.add(export([root, child]), 0.0, None)
    forged = [
        SpanMade(trace_id, "over", span_id=root.span_id, tenant_id="acme"),
        SpanMade(trace_id, "over", span_id=child.span_id),
        SpanMade(trace_id, "below", parent_id=child.span_id),
    ]
    assert here.add(export(forged, "shop"), 0.0, frozenset({"acme"})) == 0
    pieces = taken(here)
    assert names(pieces, "demo") == ["child", "root"]
    assert names(pieces, "acme") == ["below", "over", "over"]


def test_spans_that_are_around_themselves_are_nobodys() -> None:
    trace_id, here = new_trace_id(), gathering()
    first = SpanMade(trace_id, "first", parent_id=b"22222222", span_id=b"11111111")
    second = SpanMade(trace_id, "second", parent_id=b"11111111", span_id=b"22222222")
    named = [SpanMade(trace_id, each, tenant_id=each) for each in ("acme", "demo")]
    here.add(export([first, second, *named]), 0.0, None)
    assert names(taken(here), "acme") == ["acme"]
