"""CTX-5, DLG-2: dialog keeps contexts, on a real context service and Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from parley.common.v1 import identity_pb2
from parley.context.v1 import context_pb2

from deploy.local.embedded import EmbeddedRedis
from parley_client.channel import connect
from parley_client.context import ContextClient
from parley_client.tokens import TokenSource
from services.context.settings import ContextSettings
from services.context.wiring import build
from services.dialog import kept_contexts
from services.dialog.domain.flows import (
    Dialog,
    HistoryEntry,
    Known,
    TurnPlan,
)
from services.dialog.domain.turns import Outcome, Plan
from services.dialog.kept_contexts import KeptContexts
from services.dialog.peers import ContextPeer
from services.dialog.redis import context_changes
from services.dialog.redis.context_changes import ContextChanges
from services.runtime.redis import make_redis
from services.runtime.service import running
from tests.integration.context.asking import own_redis

ADA = context_pb2.Snapshot(client=context_pb2.ClientData(name="Ada"))
NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
SENDER = identity_pb2.Sender(
    identity=identity_pb2.Identity(kind=identity_pb2.IDENTITY_KIND_CHAT2DESK, value="551"), display_name="A"
)


class Counting:
    """A client that counts reads."""

    def __init__(self, client: ContextClient) -> None:
        self.save_context = client.save_context
        self._get = client.get_context
        self.reads = 0

    async def get_context(self, request: Any, **more: Any) -> Any:
        self.reads += 1
        return await self._get(request, **more)


class Lane:
    """A conversation's row: the version of the last save by a lane."""

    def __init__(self) -> None:
        self.id = uuid4()
        self.version = 0
        self.turns = 0


class Worker:
    """A dialog process, as far as contexts go."""

    def __init__(self, client: Counting, kept: KeptContexts) -> None:
        self.client, self.kept = client, kept
        self.peer = ContextPeer(cast(ContextClient, client), kept)

    async def turn(self, lane: Lane) -> Known:
        """One turn: what it knew. It counts itself and remembers a text."""
        known = await self.peer.get("acme", lane.id, SENDER, lane.version)
        lane.turns += 1
        decided = TurnPlan(
            replies=[],
            dialog=Dialog("f", "1", "on", {"count": known.dialog.slots.get("count", 0) + 1}, NOW),
            remember=[HistoryEntry("user", str(lane.turns), NOW)],
        )
        plan = Plan(uuid4(), 1, 1, Outcome.ANSWERED, decided, known.contact_id, 3600.0, 1)
        lane.version = await self.peer.save("acme", lane.id, plan)
        return known

    async def reads(self, lane: Lane) -> int:
        """How often a turn asks context."""
        before = self.client.reads
        await self.turn(lane)
        return self.client.reads - before


Start = Callable[..., Any]


@pytest.fixture
async def start(
    make_settings: Callable[..., Any],
    tokens_as: Callable[..., TokenSource],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Start]:
    """Starts a context process and a worker of it; `operator` is a client that is no lane."""
    monkeypatch.setattr(kept_contexts, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(kept_contexts, "LONGEST_SECONDS", 3600.0)
    monkeypatch.setattr(context_changes, "SILENCE_SECONDS", 60.0)  # a slow machine is not silent
    stop, tasks = asyncio.Event(), []
    async with AsyncExitStack() as stack:

        async def one(dialog: dict[str, Any] | None = None, **overrides: Any) -> tuple[Worker, ContextClient]:
            settings = make_settings(ContextSettings, **{"context_redis_timeout_seconds": 5.0} | overrides)
            service = await stack.enter_async_context(running("context", settings, build))

            async def client(caller: str) -> Any:
                connection = connect(service.address, audience="context", tokens=tokens_as(caller))
                return await stack.enter_async_context(connection)

            ours = make_settings(ContextSettings, **overrides | (dialog or {}))
            redis = make_redis(ours.redis_url, "dialog")
            stack.push_async_callback(redis.aclose)
            worker = Worker(Counting(ContextClient(await client("dialog"))), KeptContexts(100_000))
            changes = ContextChanges(redis, ours.redis_prefix, worker.kept)
            tasks.append(asyncio.create_task(changes.listen(stop)))
            return worker, ContextClient(await client("operator"))

        yield one
        stop.set()
        await asyncio.gather(*tasks)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def warm(worker: Worker, lane: Lane) -> None:
    """Turns until what a lane has read is kept."""
    async with asyncio.timeout(60):
        while await worker.reads(lane):
            await asyncio.sleep(0.05)


async def change(
    operator: ContextClient, lane: Lane, contact_id: str, paths: list[str], changes: context_pb2.Snapshot
) -> None:
    await operator.save_context(
        context_pb2.SaveContextRequest(
            tenant_id="acme",
            conversation_id=str(lane.id),
            contact_id=contact_id,
            request_id=str(uuid4()),
            changes=changes,
            update_mask=FieldMask(paths=paths),
        )
    )


async def test_a_conversation_that_goes_on_is_read_once_and_known_as_context_knows_it(start: Start) -> None:
    worker, _ = await start()
    other, _ = await start(dialog={"redis_prefix": "nobody-tells-here"})
    lane = Lane()
    async with asyncio.timeout(60):  # a Redis that was slow for a second is made up for, which empties all
        while any([await worker.reads(lane) for _ in range(3)]):
            await asyncio.sleep(0.05)
    fresh = await other.peer.get("acme", lane.id, SENDER, lane.version)
    assert await worker.turn(lane) == fresh
    assert fresh.dialog.slots["count"] == len(fresh.history) == lane.turns - 1


async def test_without_a_heartbeat_nothing_is_kept(start: Start) -> None:
    worker, _ = await start(dialog={"redis_prefix": "nobody-tells-here"})
    lane = Lane()
    assert [await worker.reads(lane) for _ in range(3)] == [1, 1, 1]
    assert len(worker.kept) == 0


async def test_what_another_process_writes_of_the_contact_is_known_in_the_next_turn(start: Start) -> None:
    worker, _ = await start()
    _, operator = await start()
    lane = Lane()
    await warm(worker, lane)
    contact = (await worker.turn(lane)).contact_id
    # By way of another conversation of the same person.
    await change(operator, Lane(), contact, ["client.name"], ADA)
    async with asyncio.timeout(60):  # its context process hears of it as well
        while (await worker.turn(lane)).name != "Ada":
            await asyncio.sleep(0.01)
    await warm(worker, lane)
    assert (await worker.turn(lane)).name == "Ada"


async def test_what_was_erased_between_two_turns_does_not_come_back(start: Start) -> None:
    worker, operator = await start()
    lane = Lane()
    await warm(worker, lane)
    contact = (await worker.turn(lane)).contact_id
    await change(operator, lane, contact, ["client.name"], ADA)
    await until(lambda: len(worker.kept) == 0)
    await warm(worker, lane)
    erased = ["dialog", "messages", "client", "preferences"]
    await change(operator, lane, contact, erased, context_pb2.Snapshot())
    await until(lambda: len(worker.kept) == 0)
    known = await worker.turn(lane)
    assert (known.name, known.dialog.slots, list(known.history)) == ("", {}, [])
    stored = await operator.get_context(
        context_pb2.GetContextRequest(tenant_id="acme", conversation_id=str(lane.id), min_version=lane.version)
    )
    assert [entry.text for entry in stored.snapshot.messages.entries] == [str(lane.turns)]


async def test_an_invalidated_conversation_is_read_again(start: Start) -> None:
    worker, operator = await start()
    lane = Lane()
    await warm(worker, lane)
    await operator.invalidate_context(
        context_pb2.InvalidateContextRequest(tenant_id="acme", conversation_id=str(lane.id), request_id="1")
    )
    await until(lambda: len(worker.kept) == 0)
    assert await worker.reads(lane) == 1


async def test_a_lane_that_another_process_had_meanwhile_is_read_again(start: Start) -> None:
    one, _ = await start()
    two, _ = await start()
    lane = Lane()
    await warm(one, lane)
    before = lane.turns
    await warm(two, lane)
    assert lane.turns > before
    known = await one.turn(lane)
    assert known.dialog.slots["count"] == len(known.history) == lane.turns - 1
    known = await two.turn(lane)
    assert known.dialog.slots["count"] == len(known.history) == lane.turns - 1


async def test_a_save_by_a_worker_that_died_before_its_end_is_seen_by_the_next(start: Start) -> None:
    """The plan is carried out again by whoever has the lane then, and the row names the version of the save."""
    one, _ = await start()
    two, _ = await start()
    lane = Lane()
    await warm(one, lane)
    known = await two.peer.get("acme", lane.id, SENDER, lane.version)
    decided = TurnPlan(replies=[], remember=[HistoryEntry("user", "died here", NOW)])
    plan = Plan(uuid4(), 1, 1, Outcome.ANSWERED, decided, known.contact_id, 3600.0, 1)
    version = await two.peer.save("acme", lane.id, plan)
    lane.version = await one.peer.save("acme", lane.id, plan)
    assert lane.version == version
    assert [entry.text for entry in (await one.turn(lane)).history][-1] == "died here"


async def test_without_redis_context_is_asked_and_with_it_no_more(
    start: Start, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with own_redis(tmp_path_factory) as redis:
        worker, operator = await start(redis_url=redis.url)
        lane = Lane()
        await warm(worker, lane)
        contact = (await worker.turn(lane)).contact_id
        await asyncio.to_thread(redis.stop)
        await until(lambda: len(worker.kept) == 0)
        await change(operator, lane, contact, ["client.name"], ADA)
        assert (await worker.turn(lane)).name == "Ada"
        assert [await worker.reads(lane) for _ in range(3)] == [1, 1, 1]
        await asyncio.to_thread(redis.start)
        await warm(worker, lane)
        assert (await worker.turn(lane)).name == "Ada"


async def test_what_nobody_understands_empties_all(
    start: Start, redis_server: EmbeddedRedis, redis_prefix: str
) -> None:
    worker, _ = await start()
    lane = Lane()
    await warm(worker, lane)
    redis = make_redis(redis_server.url, "anybody")
    try:
        for garbage in (b"\xff", b"1 x:acme/1", b"1 d:acme/none", b"one d:acme/" + str(UUID(int=1)).encode()):
            await warm(worker, lane)
            await redis.publish(f"{redis_prefix}:context:changed-beside-lanes", garbage)
            await until(lambda: len(worker.kept) == 0)
    finally:
        await redis.aclose()
    await warm(worker, lane)
