"""Gives every unary call an end, and tells the calls that it makes when that is."""

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any

from parley_client.calls import DEADLINE
from services.kernel.errors import Kind, ParleyError
from services.runtime.interceptors.base import Context, Interceptor, Proceed
from services.runtime.methods import Method


class Deadline(Interceptor):
    """A unary call without a deadline gets `default` seconds. gRPC itself ends those that have one."""

    def __init__(self, methods: Mapping[str, Method], default: float) -> None:
        super().__init__(methods)
        self._default = default

    async def around(self, method: Method, request: Any, context: Context, proceed: Proceed) -> Any:
        remaining: float | None = context.time_remaining()  # typed too narrowly: None when there is no deadline
        if remaining is not None:
            DEADLINE.set(monotonic() + remaining)
            return await proceed(request, context)
        if method.is_stream:
            return await proceed(request, context)
        DEADLINE.set(monotonic() + self._default)
        limit = asyncio.timeout(self._default)
        try:
            async with limit:
                return await proceed(request, context)
        except TimeoutError:
            if not limit.expired():
                raise
            message = f"The call took longer than {self._default:g} s, the limit of calls without a deadline."
            raise ParleyError(Kind.DEADLINE, "DEADLINE_EXCEEDED", message) from None
