"""Context processes on real stores."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from parley_client.channel import connect
from parley_client.context import ContextClient
from parley_client.tokens import TokenSource
from services.context.settings import ContextSettings
from services.context.wiring import build
from services.runtime.service import running


@pytest.fixture
async def start(
    make_settings: Callable[..., Any], tokens_as: Callable[..., TokenSource]
) -> AsyncIterator[Callable[..., Any]]:
    """Starts another context process on the same stores, and gives a client of it."""
    async with AsyncExitStack() as stack:

        async def one(tenants: tuple[str, ...] = ("*",), caller: str = "dialog", **overrides: Any) -> ContextClient:
            settings = make_settings(ContextSettings, **{"context_redis_timeout_seconds": 5.0} | overrides)
            service = await stack.enter_async_context(running("context", settings, build))
            connection = connect(service.address, audience="context", tokens=tokens_as(caller, tenants=tenants))
            return ContextClient(await stack.enter_async_context(connection))

        yield one
