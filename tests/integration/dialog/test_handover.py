"""Hot hand-over: what comes to an idle lane is leased where it is stored, with the promises of a claim."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from google.protobuf.duration_pb2 import Duration

from parley.dialog.v1 import bot_pb2, dialog_pb2

from services.dialog.domain.flows import TurnPlan
from services.dialog.domain.turns import (
    Claimed,
    MessageState,
    Outcome,
    Plan,
    Planned,
    TurnEnd,
)
from services.dialog.postgres.database import Database
from services.dialog.postgres.handover import Handover
from services.dialog.postgres.inbox import PostgresInbox
from services.dialog.postgres.sealing import Sealing
from services.dialog.postgres.turns import PostgresTurns
from services.dialog.usecases.submit import new_message
from services.kernel.ids import uuid7
from services.runtime.content import of_text
from services.runtime.crypto import Sealer
from services.runtime.lanes import FREE_FOR_ALL, LeaseLost, Room
from tests.integration.dialog.conftest import BOT, TENANT, World, submission, until

EVERYONE = Room(100, fairness=FREE_FOR_ALL)


class Places:
    """A dispatcher with so many places, that works on nothing."""

    running = 0

    def __init__(self, free: int) -> None:
        self.free = free
        self.adopted: list[Claimed] = []

    def keep(self, share: tuple[str, str], *, asks: bool = False) -> bool:
        assert share[0] == TENANT
        assert asks
        kept = self.free > 0
        self.free -= kept
        return kept

    def give_back(self, share: tuple[str, str], *, asks: bool = False) -> None:
        self.free += 1

    def adopt(self, item: Claimed, since: float, *, asks: bool = False) -> None:
        assert since <= asyncio.get_running_loop().time()
        self.adopted.append(item)


class Process:
    """The stores of a process whose dispatcher the test is."""

    def __init__(self, world: World, free: int = 9, name: str = "test") -> None:
        self.world = world
        database, sealing = Database(world.database), Sealing(Sealer(world.processes[0].runtime.keys))
        self.turns = PostgresTurns(database, sealing, name, timedelta(minutes=1))
        self.places = Places(free)
        handover = Handover(self.turns)
        handover.attach(cast(Any, self.places))
        self.inbox = PostgresInbox(database, sealing, handover)

    async def learn(self, bot_id: str = BOT) -> None:
        """Know a bot, as after a claim of one of its lanes."""
        await self.add(submission("first", f"first of {bot_id}", bot_id=bot_id))
        for claimed in (await self.turns.claim(EVERYONE)).items:
            assert isinstance(claimed, Claimed)
            await self.end(claimed)

    async def add(self, *requests: dialog_pb2.SubmitMessageRequest) -> list[bool]:
        """Store messages; which of them are worked on here."""
        added = await self.inbox.add([new_message(request) for request in requests])
        return [cast(Any, each).taken for each in added]

    async def plan(self, claimed: Claimed) -> Plan:
        plan = Plan(
            uuid7(),
            claimed.head.seq,
            claimed.head.seq,
            Outcome.ANSWERED,
            TurnPlan(replies=[of_text("hi")]),
            "",
            60.0,
            1,
        )
        await self.turns.commit_plan(Planned(claimed.lease, plan, [claimed.head], datetime.now(UTC)))
        return plan

    async def end(self, claimed: Claimed) -> int:
        plan = await self.plan(claimed)
        ids = [claimed.head.message_id]
        return await self.turns.finish(TurnEnd(claimed.lease, plan.turn_id, ids, MessageState.COMPLETED, 1))


@pytest.fixture
async def process(world: World) -> Process:
    await world.start(dialog_workers=0)
    await world.prepare()
    process = Process(world)
    await process.learn()
    return process


async def claimed_by_others(world: World) -> list[Claimed]:
    found = (await Process(world, name="other").turns.claim(EVERYONE)).items
    return [item for item in found if isinstance(item, Claimed)]


async def test_what_is_handed_over_is_what_a_claim_would_have_found(process: Process) -> None:
    two = [submission(text, "1") for text in ("one", "two")]
    rejected = submission("x", "2", rejection=dialog_pb2.REJECTION_REASON_UNSUPPORTED)
    assert await process.add(two[0], rejected, two[1], submission("three", "3")) == [True, False, True, True]
    assert await claimed_by_others(process.world) == []
    handed = {each.head.request.chat_id: each for each in process.places.adopted}
    assert process.places.free == 7
    for each in handed.values():
        await process.turns.release([each.lease], timedelta(0))
    claimed = {
        each.head.request.chat_id: each
        for each in (await process.turns.claim(EVERYONE)).items
        if isinstance(each, Claimed)
    }
    assert handed.keys() == claimed.keys() == {"1", "3"}
    for chat, each in handed.items():
        again = claimed[chat]
        assert (each.bot, each.open_turn, each.time_zone) == (again.bot, None, again.time_zone)
        head, same = each.head, again.head
        assert (head.message_id, head.seq, head.request) == (same.message_id, same.seq, same.request)
        assert (head.received_at, head.chat, head.traceparent) == (same.received_at, same.chat, same.traceparent)
        lease, then = each.lease, again.lease
        assert (lease.pending, lease.done_seq, lease.share) == (then.pending, then.done_seq, then.share)
        assert (lease.attempts, lease.losses, lease.fence + 1) == (1, 0, then.fence)
        assert await process.end(again) == lease.pending - 1


async def test_a_lane_that_is_busy_keeps_its_owner(process: Process) -> None:
    assert await process.add(submission("one", "1")) == [True]
    assert await process.add(submission("two", "1")) == [False]
    (handed,) = process.places.adopted
    assert process.places.free == 8
    assert await process.end(handed) == 1
    assert await process.add(submission("three", "1")) == [False], "the second one is older"
    (claimed,) = await claimed_by_others(process.world)
    assert (claimed.head.seq, claimed.lease.pending) == (2, 2)


async def test_what_finds_no_place_waits_for_a_claim(process: Process) -> None:
    process.places.free = 1
    assert await process.add(*(submission("hi", chat) for chat in "123")) == [True, False, False]
    assert len(await claimed_by_others(process.world)) == 2


async def test_a_lane_whose_process_died_is_taken_over_when_its_lease_runs_out(process: Process) -> None:
    await process.add(submission("one", "1"))
    (handed,) = process.places.adopted
    past = "lease_until = now() - interval '1 s', due_at = now() - interval '1 s'"
    await process.world.database.execute(f"UPDATE dialog.lanes SET {past} WHERE lease_until IS NOT NULL")
    (claimed,) = await claimed_by_others(process.world)
    assert (claimed.lease.expired, claimed.lease.losses, claimed.lease.attempts) == (True, 1, 1)
    with pytest.raises(LeaseLost):
        await process.plan(handed)
    await process.plan(claimed)


async def test_a_message_that_came_before_leases_nothing(process: Process) -> None:
    again = submission("one", "1", dedupe_key="inbox:1")
    assert await process.add(again) == [True]
    await process.end(process.places.adopted.pop())
    free = process.places.free
    assert await process.add(again, submission("two", "2")) == [False, True]
    assert (process.places.free, len(process.places.adopted)) == (free - 1, 1)
    leased = "SELECT count(*) FROM dialog.lanes WHERE lease_until IS NOT NULL"
    assert await process.world.database.fetchval(leased) == 1


async def test_a_bot_that_was_changed_meanwhile_is_not_answered_for_as_it_was(process: Process) -> None:
    request = bot_pb2.DisableBotRequest(tenant_id=TENANT, bot_id=BOT, request_id="1")
    await process.world.bots.disable_bot(request)
    assert await process.add(submission("one", "1")) == [False]
    assert (process.places.free, process.places.adopted) == (9, [])
    lane = await process.world.database.fetchrow("SELECT * FROM dialog.lanes WHERE pending = 1")
    assert lane is not None
    assert (lane["lease_until"], lane["attempts"], lane["losses"], lane["fence"]) == (None, 0, 0, 1)
    assert await claimed_by_others(process.world) == [], "it is parked"
    await process.world.bots.enable_bot(bot_pb2.EnableBotRequest(tenant_id=TENANT, bot_id=BOT, request_id="2"))
    (claimed,) = await claimed_by_others(process.world)
    assert (claimed.lease.attempts, claimed.head.seq) == (1, 1)


async def test_bots_that_are_not_ready_to_answer_at_once_are_claimed(process: Process) -> None:
    await process.world.create_bot("slow", debounce=Duration(seconds=5))
    assert await process.add(submission("hi", "1", bot_id="stranger")) == [False]
    await process.learn("slow")
    assert process.turns.known(TENANT, "slow") is not None
    assert await process.add(submission("hi", "2", bot_id="slow")) == [False]
    assert process.places.free == 9


async def test_who_gives_up_waiting_leaves_no_lane_behind(process: Process) -> None:
    """A caller whose time is up while the statement runs."""
    async with process.world.database.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE dialog.dedupe IN SHARE MODE")
        adding = asyncio.create_task(process.add(submission("one", "1")))
        blocked = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND query LIKE 'WITH lane AS%'"
        )
        await until(lambda: process.world.database.fetchval(blocked))
        adding.cancel()
        await asyncio.wait([adding])
    await until(lambda: _true(process.places.adopted))
    assert await process.end(process.places.adopted[0]) == 0


async def test_messages_are_answered_without_a_claim(dialog: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set[str]()
    original = PostgresTurns.claim

    async def claim(self: PostgresTurns, room: Room) -> Any:
        found = await original(self, room)
        seen.update(str(each.lease.lane_id) for each in found.items)
        return found

    monkeypatch.setattr(PostgresTurns, "claim", claim)
    monkeypatch.setattr(dialog.flow, "model", False)
    await dialog.ends((await dialog.submit("first", chat="0")).message_id)
    for number in range(1, 50):
        response = await dialog.submit("hello", chat=str(number))
        await dialog.ends(response.message_id)
        if response.conversation_id not in seen:
            break
    else:
        pytest.fail("each message was claimed")
    assert dialog.delivery.texts()[-1] == "1: hello"


async def _true(value: object) -> object:
    return value
