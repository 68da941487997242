"""A mutation happens once per request id."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import asyncpg
import pytest

from parley.dialog.v1 import bot_pb2

from services.kernel.errors import Kind, ParleyError
from services.runtime.idempotency import Requests, requests_table

if TYPE_CHECKING:
    from services.runtime.postgres import Pool

METHOD = "CreateBot"


@pytest.fixture
async def pool(postgres_url: str) -> "AsyncIterator[Pool]":
    async with asyncpg.create_pool(postgres_url, min_size=1, max_size=5) as pool:
        await pool.execute(f"CREATE SCHEMA shop; {requests_table('shop')}")
        yield pool


class Work:
    def __init__(self, pool: "Pool") -> None:
        self.pool = pool
        self.done = 0
        self.requests = Requests("shop")

    async def create(
        self, request_id: str, *, bot_id: str = "water", tenant_id: str = "acme", fail: bool = False
    ) -> str:
        request = bot_pb2.CreateBotRequest(tenant_id=tenant_id, request_id=request_id)
        request.bot.bot_id = bot_id

        async def work() -> bot_pb2.CreateBotResponse:
            self.done += 1
            if fail:
                raise RuntimeError
            response = bot_pb2.CreateBotResponse()
            response.bot.bot_id = f"{bot_id} {self.done}"
            return response

        async with self.pool.acquire() as connection, connection.transaction():
            response = await self.requests.once(connection, request, bot_pb2.CreateBotResponse, work, method=METHOD)
        return response.bot.bot_id


@pytest.fixture
def work(pool: "Pool") -> Work:
    return Work(pool)


async def test_a_replayed_request_id_returns_the_first_result(work: Work) -> None:
    assert [await work.create("r1") for _ in range(3)] == ["water 1"] * 3
    assert work.done == 1


async def test_another_body_under_the_same_id_is_refused(work: Work) -> None:
    await work.create("r1")
    with pytest.raises(ParleyError) as caught:
        await work.create("r1", bot_id="salon")
    assert (caught.value.kind, caught.value.reason) == (Kind.EXISTS, "REQUEST_ID_REUSED")


async def test_other_ids_and_other_tenants_are_other_requests(work: Work) -> None:
    await work.create("r1")
    await work.create("r2")
    await work.create("r1", tenant_id="other")
    assert work.done == 3


async def test_a_request_that_failed_may_come_again(work: Work) -> None:
    with pytest.raises(RuntimeError):
        await work.create("r1", fail=True)
    assert await work.create("r1") == "water 2"


async def test_the_same_request_at_once_happens_once(work: Work) -> None:
    assert await asyncio.gather(*(work.create("r1") for _ in range(5))) == ["water 1"] * 5
    assert work.done == 1


async def test_old_ids_are_forgotten(work: Work, pool: "Pool") -> None:
    await work.create("r1")
    await work.create("r2")
    await pool.execute("UPDATE shop.requests SET created_at = now() - interval '25 hours' WHERE request_id = 'r1'")
    assert await work.requests.tidy(pool) == 1
    await work.create("r1", bot_id="salon")
