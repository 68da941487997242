"""The limits service, served in this process on real stores."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from parley_client.channel import connect
from parley_client.limits import LimitsClient
from parley_client.tokens import TokenSource
from services.kernel.clock import Clock
from services.limits.settings import LimitsSettings
from services.limits.wiring import build
from services.runtime.service import Running, running


@pytest.fixture
async def limits(make_settings: Callable[..., Any], operator_tokens: TokenSource) -> AsyncIterator[LimitsClient]:
    """A client with all rights of one running service."""
    async with serving(make_settings, operator_tokens) as (client, _):
        yield client


async def away_from_midnight() -> None:
    """Quotas are for a day, and days end at midnight by the clock of Redis, which no test can move: let it pass."""
    now = datetime.now(UTC)
    left = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0) - now
    if left < timedelta(minutes=1):
        await asyncio.sleep(left.total_seconds() + 1)


@asynccontextmanager
async def serving(
    make_settings: Callable[..., Any], tokens: TokenSource, *, clock: Clock | None = None, **overrides: object
) -> AsyncIterator[tuple[LimitsClient, Running]]:
    await away_from_midnight()
    settings = make_settings(LimitsSettings, **{"drain_seconds": 1, "limits_redis_budget_seconds": 5} | overrides)
    async with running("limits", settings, build, clock=clock) as service:
        async with connect(service.address, audience="limits", tokens=tokens) as connection:
            yield LimitsClient(connection), service
