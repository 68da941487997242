"""Serves the items of a Batch RPC. Each item has its own check, deadline, trace and result."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, TraceFlags

from parley_client.tracing import RPC_METHOD, RPC_SYSTEM, context_from
from services.kernel.errors import Kind, ParleyError
from services.runtime.auth import Caller, caller, tenant_not_allowed
from services.runtime.errors import status_code, to_parley_error, to_status
from services.runtime.interceptors.sizes import too_large
from services.runtime.interceptors.tracing import end, trusted
from services.runtime.logs import get_logger
from services.runtime.methods import max_request_bytes
from services.runtime.tracing.spans import tracer
from services.runtime.validation import check

Responses = TypeVar("Responses", bound=Message)
Handle = Callable[..., Awaitable[Sequence[Any]]]
"""Takes the valid requests and, if it has a second parameter, their trace contexts. Returns a response or an exception
for each, in their order."""

BATCH_ITEMS = "parley.batch.items"
"""The attribute of an item's span that says how many items its RPC carried."""

log = get_logger(__name__)
_SHARED = frozenset({Kind.UNAVAILABLE, Kind.DEADLINE, Kind.EXHAUSTED})
"""Failures that every item of a batch would meet as well."""
_EXPIRED = ParleyError(Kind.DEADLINE, "DEADLINE_EXCEEDED", "The call's deadline passed before it was begun.")


@dataclass(slots=True)
class _Item:
    index: int
    request: Any
    context: Context
    span: Span | None


async def run_items(
    request: Any, context: object, *, method: str, respond: type[Responses], handle: Handle
) -> Responses:
    """Handles the valid items of a batch together, and gives every item its result.

    `method` is the RPC that an item stands for, such as `/parley.limits.v1.LimitsService/Reserve`. If `handle` fails as
    a whole, it is called again item by item, so that one bad item fails alone; but not if a store is away or the time
    is up, as every item would fail in the same way.
    """
    who = caller()
    opening, most = _Opening(method, len(request.items), who), _most_bytes(method)
    outcomes: list[Any] = [None] * len(request.items)
    items = []
    for index, item in enumerate(request.items):
        refused = _refuse(item, who, most)
        if refused is None:
            items.append(opening.open(index, item))
        else:
            outcomes[index] = refused
    try:
        if items:
            for item, outcome in zip(items, await _outcomes(handle, items, method), strict=True):
                outcomes[item.index] = outcome
    finally:
        for item in items:
            if item.span is not None:
                _end(item.span, outcomes[item.index])
    return _respond(respond, outcomes)


@cache
def _most_bytes(path: str) -> int:
    """Returns the size of the largest request that the method of an item takes."""
    service, _, name = path.lstrip("/").partition("/")
    return max_request_bytes(Default().FindServiceByName(service).methods_by_name[name])


async def _outcomes(handle: Handle, items: list[_Item], method: str) -> Sequence[Any]:
    """Returns a response or an exception for each item."""
    try:
        outcomes = await _call(handle, items)
        if len(outcomes) != len(items):
            raise RuntimeError(f"{len(outcomes)} outcomes for {len(items)} items")
        return outcomes
    except Exception as error:
        failure = to_parley_error(error)
        if failure is not error:
            log.error("batch failed", method=method, reason=failure.reason, items=len(items), exc_info=error)
        if len(items) == 1 or failure.kind in _SHARED:
            return [failure] * len(items)
    outcomes = []
    for item in items:
        outcomes += await _outcomes(handle, [item], method)
    return outcomes


def _refuse(item: Any, who: Caller, most: int) -> ParleyError | None:
    if item.context.HasField("timeout") and item.context.timeout.ToNanoseconds() <= 0:
        return _EXPIRED
    tenant_id = getattr(item.request, "tenant_id", None)
    if tenant_id is not None and not who.allows(tenant_id):
        return tenant_not_allowed(tenant_id)
    size = item.request.ByteSize()
    return too_large(size, most) if size > most else check(item.request)


class _Opening:
    """Gives the items of one batch their trace contexts, and a span to each whose trace is recorded."""

    def __init__(self, method: str, count: int, who: Caller) -> None:
        self._who = who
        self._method = method.lstrip("/")
        self._attributes: dict[str, str | int] = {RPC_SYSTEM: "grpc", RPC_METHOD: self._method, BATCH_ITEMS: count}
        batch = trace.get_current_span().get_span_context()
        self._links = [Link(batch)] if batch.is_valid else []

    def open(self, index: int, item: Any) -> _Item:
        carried = item.context
        parent, links = trusted(context_from(carried.traceparent, carried.tracestate), self._who)
        if not links and not trace.get_current_span(parent).get_span_context().trace_flags & TraceFlags.SAMPLED:
            return _Item(index, item.request, parent, None)
        tenant_id = getattr(item.request, "tenant_id", "")
        attributes = {**self._attributes, "parley.tenant_id": tenant_id} if tenant_id else self._attributes
        span = tracer("parley.server").start_span(
            self._method, parent, SpanKind.SERVER, attributes, links + self._links
        )
        recorded = span if span.is_recording() else None
        return _Item(index, item.request, trace.set_span_in_context(span, parent), recorded)


async def _call(handle: Handle, items: list[_Item]) -> Sequence[Any]:
    requests = [item.request for item in items]
    if _wants_contexts(getattr(handle, "__func__", handle), inspect.ismethod(handle)):
        return await handle(requests, [item.context for item in items])
    return await handle(requests)


@cache
def _wants_contexts(function: Callable[..., Any], is_method: bool) -> bool:
    return len(inspect.signature(function).parameters) - is_method >= 2


def _end(span: Span, outcome: Any) -> None:
    if outcome is None:
        end(span, "CANCELLED", "")
    elif isinstance(outcome, Exception):
        failure = to_parley_error(outcome)
        end(span, status_code(failure.kind).name, failure.message)
    else:
        end(span, "OK", "")


def _respond(respond: type[Responses], outcomes: Sequence[Any]) -> Responses:
    batch: Any = respond()
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            failure = to_parley_error(outcome)
            if failure is not outcome:
                log.error("item failed", reason=failure.reason, exc_info=outcome)
            batch.results.add().error.CopyFrom(to_status(failure))
        else:
            batch.results.add().response.CopyFrom(outcome)
    return batch  # type: ignore[no-any-return]
