"""The quick way to read a trace context gives what OpenTelemetry's propagator gives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from parley_client.tracing import context_from, inject

hexadecimal = st.text("0123456789abcdef", min_size=1, max_size=40)


def by_propagator(traceparent: str) -> trace.SpanContext:
    context = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    return trace.get_current_span(context).get_span_context()


def read(traceparent: str, tracestate: str = "") -> trace.SpanContext:
    return trace.get_current_span(context_from(traceparent, tracestate)).get_span_context()


@given(trace_id=st.integers(1, 2**128 - 1), span_id=st.integers(1, 2**64 - 1), flags=st.integers(0, 255))
def test_what_is_well_formed_is_read_alike(trace_id: int, span_id: int, flags: int) -> None:
    traceparent = f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}"
    assert read(traceparent) == by_propagator(traceparent)
    assert read(traceparent).is_remote


@given(st.one_of(st.text(max_size=60), st.tuples(hexadecimal, hexadecimal, hexadecimal).map("-".join)))
def test_what_is_malformed_is_no_trace(text: str) -> None:
    assert not read(text).is_valid


@pytest.mark.parametrize(
    "traceparent",
    [
        f"00-{0:032x}-{1:016x}-01",
        f"00-{1:032x}-{0:016x}-01",
        f"ff-{1:032x}-{1:016x}-01",
        f"00-{1:030x}  -{1:016x}-01",
        f"00-{1:032x}-{1:016x}- 1",
        f"00_{1:032x}-{1:016x}-01",
        f"00-{1:032x}-{1:016x}-01-more",
    ],
)
def test_what_only_looks_like_one_is_no_trace(traceparent: str) -> None:
    assert not read(traceparent).is_valid


def test_a_later_version_and_a_trace_state_are_left_to_the_propagator() -> None:
    assert read(f"01-{1:032x}-{2:016x}-01-more").trace_id == 1
    assert read(f"00-{1:032x}-{2:016x}-01", "vendor=x").trace_state.to_header() == "vendor=x"


def test_what_is_read_is_written_again() -> None:
    traceparent = f"00-{0xABC:032x}-{0xDEF:016x}-01"
    with trace.use_span(trace.get_current_span(context_from(traceparent, "vendor=x"))):
        assert inject() == (traceparent, "vendor=x")


@pytest.mark.parametrize(
    "tracestate",
    ["a=1" + " " * 8000 + "x", "," * 500, "a=" + "x" * 8000, "@" * 100, "A=1", "a=1,a=", "a=b=c", "a=\x00", "a=1\n"],
)
def test_a_trace_state_that_is_none_is_left_out_without_a_word(
    tracestate: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It comes from outside, and each filled a line of the log with what its sender wanted."""
    traceparent = f"00-{0xABC:032x}-{0xDEF:016x}-01"
    found = read(traceparent, tracestate)
    assert (found.trace_id, found.trace_state.to_header()) == (0xABC, "")
    assert not read("0" * 8000).is_valid
    assert not caplog.records


@pytest.mark.parametrize("tracestate", ["vendor=x", "a=1,b=2", "t1@v=x y", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"])
def test_a_trace_state_that_is_one_is_kept(tracestate: str) -> None:
    assert read(f"00-{1:032x}-{2:016x}-01", tracestate).trace_state.to_header() == tracestate
