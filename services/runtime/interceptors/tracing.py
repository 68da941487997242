"""A SERVER span for each RPC, by OpenTelemetry's conventions."""

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanKind, StatusCode

from parley_client.tracing import ERROR_TYPE, RPC_METHOD, RPC_STATUS, RPC_SYSTEM, context_from
from services.runtime.auth import Caller, known_caller
from services.runtime.interceptors.base import Context, Interceptor, Proceed
from services.runtime.methods import Method
from services.runtime.tracing.sampling import UNKNOWN_CALLER

SERVER_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""The codes that are errors of the server; the others are the client's business."""

EARLIER, EARLIER_SHARE = 0.25, 0.25
"""How much before our deadline a caller's may be, in seconds and as a share of the call's time, whichever is less: its
time began before the call's way to us, and the wire rounds timeouts up (gRPC sends three digits)."""

_OF_UNKNOWN = otel_context.set_value(UNKNOWN_CALLER, True, otel_context.Context())
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class Tracing(Interceptor):
    """Continues the trace of a service of ours; everybody else begins one, which is linked to theirs.

    What our service does not record is only passed on. A batch without a trace of its own gets no span: its items carry
    their own traces. Those who are not known are recorded within a small cap of their own, and for no tenant.
    """

    def __init__(self, methods: Mapping[str, Method]) -> None:
        super().__init__(methods)
        self._tracer = trace.get_tracer("parley.server")

    async def around(self, method: Method, request: Any, context: Context, proceed: Proceed) -> Any:
        who = known_caller()
        parent = incoming(context)
        remote = trace.get_current_span(parent).get_span_context()
        if not remote.is_valid and method.is_batch:
            return await proceed(request, context)
        parent, links = trusted(parent, who)
        if not links and remote.is_valid and not remote.trace_flags.sampled:
            otel_context.attach(parent)
            return await proceed(request, context)
        attributes = {RPC_SYSTEM: "grpc", RPC_METHOD: method.name}
        span = self._tracer.start_span(method.name, parent, SpanKind.SERVER, attributes, links)
        otel_context.attach(trace.set_span_in_context(span, parent))
        if not span.is_recording():
            return await proceed(request, context)
        return await self._record(span, method, request, context, proceed)

    async def _record(self, span: Span, method: Method, request: Any, context: Context, proceed: Proceed) -> Any:
        if method.has_tenant and not method.is_batch:
            tenant_id, who = getattr(request, "tenant_id", ""), known_caller()
            if tenant_id and who is not None and who.allows(tenant_id):
                span.set_attribute("parley.tenant_id", tenant_id)
        code = "UNKNOWN"
        given = context.time_remaining()
        try:
            response = await proceed(request, context)
            code = code_of(context)
            return response
        except asyncio.CancelledError:
            code = "DEADLINE_EXCEEDED" if given is not None and _is_over(given, context) else "CANCELLED"
            raise
        except BaseException:
            set_by_abort = code_of(context)
            code = "UNKNOWN" if set_by_abort == "OK" else set_by_abort
            raise
        finally:
            end(span, code, context.details() or "")


def _is_over(given: float, context: Context) -> bool:
    """Whether a call that had so many seconds was given up at its deadline: the caller's comes before ours."""
    return (context.time_remaining() or 0.0) <= min(EARLIER, EARLIER_SHARE * given)


def trusted(parent: otel_context.Context, who: Caller | None) -> tuple[otel_context.Context, list[Link]]:
    """The context in which a call is served, and what its span is linked to: the carried one for a service of ours, a
    new one with a link to the carried one for others. Whoever comes from outside decides neither where a span is
    written nor whether."""
    if who is not None and who.is_service:
        return parent, []
    remote = trace.get_current_span(parent).get_span_context()
    new = otel_context.Context() if who else _OF_UNKNOWN
    return new, [Link(remote)] if remote.is_valid else []


def incoming(context: Context) -> otel_context.Context:
    """The trace context that a call carries; an empty one when it carries none."""
    traceparent = tracestate = ""
    for key, value in context.invocation_metadata() or ():
        if key == "traceparent":
            traceparent = str(value)
        elif key == "tracestate":
            tracestate = str(value)
    return context_from(traceparent, tracestate)


def code_of(context: Context) -> str:
    """The name of the status that an RPC has set so far."""
    code: Any = context.code()
    return code.name if isinstance(code, grpc.StatusCode) else _CODES.get(code or 0, "UNKNOWN")


def end(span: Span, code: str, message: str) -> None:
    """End a server's span with the status of its call."""
    span.set_attribute(RPC_STATUS, code)
    if code in SERVER_FAULTS:
        span.set_attribute(ERROR_TYPE, code)
        span.set_status(StatusCode.ERROR, message)
    span.end()
