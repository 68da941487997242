"""`/health`: a word for everybody, the counts for operators."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp

from parley_client.tokens import TokenSource
from services.edge.settings import EdgeSettings
from services.edge.wiring import build
from services.runtime.service import running
from tests.integration.edge.conftest import Edge, port_of


async def test_health_has_a_word_for_everybody_and_the_counts_for_operators(
    edge: Edge, operator_tokens: TokenSource
) -> None:
    async with edge.http.get(edge.url + "/health") as response:
        body = await response.json()
    assert response.status == 200
    assert body["services"] == {"dialog": "ok", "delivery": "ok", "context": "ok", "limits": "ok"}
    assert body["queue"] == "ok" and "edge" not in body
    await edge.hook(secret="wrong")
    token = operator_tokens.token("edge")
    async with edge.http.get(edge.url + "/health", headers={"Authorization": f"Bearer {token}"}) as response:
        body = await response.json()
    assert (body["queue"]["inbox_waiting"], body["queue"]["outbox_waiting"]) == (3, 4)
    assert body["edge"]["failures"] == {"webhook_secret": 1} and body["edge"]["connections"] >= 1
    async with edge.http.get(edge.url + "/health/ready") as response:
        assert response.status == 200


async def test_the_counts_are_for_a_token_of_every_tenant(edge: Edge, tokens_as: Callable[..., TokenSource]) -> None:
    for token, status in (("nonsense", 401), (tokens_as("integration", tenants=("demo",)).token("edge"), 403)):
        async with edge.http.get(edge.url + "/health", headers={"Authorization": f"Bearer {token}"}) as response:
            assert (response.status, response.content_type) == (status, "application/problem+json")


async def test_many_who_ask_for_health_at_once_ask_once(edge: Edge) -> None:
    async def ask() -> int:
        async with edge.http.get(edge.url + "/health") as response:
            return response.status

    assert set(await asyncio.gather(*(ask() for _ in range(50)))) == {200}
    assert edge.dialog.stats <= 2  # a second may have passed


async def test_what_nobody_could_ask_for_is_unknown_not_down(make_settings: Callable[..., Any]) -> None:
    """Redis and Postgres are not to blame when the services that would tell of them do not answer."""
    names = ("dialog", "delivery", "context", "limits")
    addresses = {f"{name}_address": "127.0.0.1:9" for name in names}
    settings = make_settings(EdgeSettings, edge_port=0, drain_seconds=0.1, **addresses)
    async with running("edge", settings, build) as service, aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{await port_of(service)}/health") as response:
            body = await response.json()
    assert response.status == 503
    assert (body["status"], body["postgres"], body["redis"], body["queue"]) == ("down", "unknown", "unknown", "unknown")
    assert set(body["services"].values()) == {"down"}
