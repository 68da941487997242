"""What all interceptors share: one shape for every kind of RPC."""

import inspect
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import grpc

from services.runtime.methods import OPEN_SERVICES, Method

Context = grpc.aio.ServicerContext[Any, Any]
Proceed = Callable[[Any, Context], Awaitable[Any]]
"""What comes next: takes the request (or the iterator of requests) and the RPC's context, returns the response. A
handler that streams writes its responses to the context, and returns nothing."""


class Interceptor(grpc.aio.ServerInterceptor):
    """Does something around every RPC of ours.

    The handler of a method is wrapped once and kept, so that an interceptor costs one more call per RPC and no more.
    """

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._methods = methods
        self._wrapped: dict[str, tuple[Any, Any]] = {}

    @abstractmethod
    async def around(self, method: Method, request: Any, context: Context, proceed: Proceed) -> Any:
        """Serve one RPC: whatever comes before, `await proceed(request, context)`, whatever comes after."""

    def reader(self, method: Method, read: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
        """What makes a request of bytes; None leaves them as they are."""
        return read

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        path = handler_call_details.method
        known = self._wrapped.get(path)
        if known is not None and known[0] is handler:
            return known[1]
        if handler is None or path.startswith(tuple(f"/{service}/" for service in OPEN_SERVICES)):
            return handler
        wrapped = self._wrap(self._methods[path], handler)
        self._wrapped[path] = (handler, wrapped)
        return wrapped

    def _wrap(self, method: Method, handler: Any) -> Any:
        behaviour, build = _parts(handler)
        proceed = _writing(behaviour) if handler.response_streaming else behaviour
        around = self.around

        async def serve(request: Any, context: Context) -> Any:
            return await around(method, request, context, proceed)

        return build(
            serve,
            request_deserializer=self.reader(method, handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )


def _parts(handler: Any) -> tuple[Any, Any]:
    """The function of a handler, and what makes such a handler of another function."""
    if handler.request_streaming and handler.response_streaming:
        return handler.stream_stream, grpc.stream_stream_rpc_method_handler
    if handler.request_streaming:
        return handler.stream_unary, grpc.stream_unary_rpc_method_handler
    if handler.response_streaming:
        return handler.unary_stream, grpc.unary_stream_rpc_method_handler
    return handler.unary_unary, grpc.unary_unary_rpc_method_handler


def _writing(behaviour: Any) -> Proceed:
    """A streaming handler as a coroutine function that writes to the context, so that it ends where it is awaited."""
    if not inspect.isasyncgenfunction(behaviour):
        return behaviour  # type: ignore[no-any-return]

    async def write(request: Any, context: Context) -> None:
        async with aclosing(behaviour(request, context)) as responses:
            async for response in responses:
                await context.write(response)

    return write
