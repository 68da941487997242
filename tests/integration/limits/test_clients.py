"""Both clients against a real service over a socket: the same methods, answers and failures."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from parley.limits.v1 import limits_pb2 as pb

from parley_client import LimitsClient, blocking, connect, errors
from parley_client.tokens import TokenSource
from tests.integration.limits.conftest import serving
from tests.integration.limits.test_service import TENANT, asked, creating, person, quota

Way = Callable[..., Any]


async def by_awaiting(address: str, tokens: Any, method: str, request: Any, **options: Any) -> Any:
    async with connect(address, audience="limits", tokens=tokens) as connection:
        return await getattr(LimitsClient(connection), method)(request, **options)


async def by_blocking(address: str, tokens: Any, method: str, request: Any, **options: Any) -> Any:
    def call() -> Any:
        with blocking.connect(address, audience="limits", tokens=tokens) as connection:
            return getattr(LimitsClient(connection), method)(request, **options)

    return await asyncio.to_thread(call)


ways = pytest.mark.parametrize("call", [by_awaiting, by_blocking])


@ways
async def test_calls_are_answered_and_refused_alike(
    call: Way, make_settings: Callable[..., Any], operator_tokens: TokenSource
) -> None:
    async with serving(make_settings, operator_tokens) as (_, service):
        address, subject = service.address, person()
        rule = quota(f"two-{uuid4().hex[:8]}", 2, resource="chat.turn")
        made = await call(address, operator_tokens, "create_rule", creating(rule))
        assert made.rule.rule_id == rule.rule_id
        granted = [await call(address, operator_tokens, "reserve", asked(subject, "chat.turn")) for _ in range(3)]
        assert [one.granted for one in granted] == [True, True, False]
        listed = await call(address, operator_tokens, "list_rules", pb.ListRulesRequest(tenant_id=TENANT))
        assert rule.rule_id in [one.rule_id for one in listed.rules]

        with pytest.raises(errors.AlreadyExists) as twice:
            await call(address, operator_tokens, "create_rule", creating(rule))
        assert twice.value.reason
        with pytest.raises(errors.InvalidArgument) as wrong:
            await call(address, operator_tokens, "check", pb.CheckRequest(tenant_id=TENANT))
        assert "resource" in [field for field, _ in wrong.value.fields]
        with pytest.raises(errors.Unauthenticated) as stranger:
            await call(address, "no token", "list_rules", pb.ListRulesRequest(tenant_id=TENANT))
        assert stranger.value.reason == "INVALID_TOKEN"
