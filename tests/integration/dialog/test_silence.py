"""DLG-16, OPS-6: a form that nobody answers any more becomes a drop-off, once, and one that goes on never does."""

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.duration_pb2 import Duration

from parley.dialog.v1 import bot_pb2, dialog_pb2

from services.dialog.domain.items import TimerDue, read_drop_off
from services.dialog.postgres.queries import queries
from services.runtime.lanes import LeaseLost, Timer
from services.runtime.lanes.timers import first_at, pack, unpack
from tests.integration.dialog.conftest import TENANT, World, until
from tests.integration.dialog.test_crashes import deaths as deaths
from tests.integration.dialog.test_crashes import lease_of_the_dead_runs_out
from tests.integration.dialog.test_handover import EVERYONE, Process
from tests.integration.dialog.test_stores import parameters

WATER = "water"
ORDER = ("Привет", "ул. Киевская 120", "0555 123 456", "3", "да")
TTL = timedelta(hours=24)


async def start(world: World, processes: int = 1) -> World:
    for _ in range(processes):
        await world.start(real=True)
    await world.prepare()
    bot = bot_pb2.Bot(tenant_id=TENANT, bot_id=WATER, locale="ru", form=bot_pb2.FormFlow(form_id="water-order"))
    bot.dialog_ttl.CopyFrom(Duration(seconds=int(TTL.total_seconds())))
    await world.bots.create_bot(bot_pb2.CreateBotRequest(tenant_id=TENANT, bot=bot, request_id=str(uuid4())))
    return world


async def say(world: World, *lines: str, chat: str = "1") -> dialog_pb2.Message:
    """The last of the lines, answered."""
    for line in lines:
        message = await world.ends((await world.submit(line, chat, bot_id=WATER)).message_id)
    return message


async def passes(world: World, time: timedelta = TTL + timedelta(minutes=5)) -> None:
    """Let time pass for those whose turns are over."""
    for row in await world.database.fetch("SELECT lane_id, timers FROM dialog.lanes WHERE timer_at IS NOT NULL"):
        timers = [replace(timer, at=timer.at - time) for timer in unpack(row["timers"])]
        await world.database.execute(
            "UPDATE dialog.lanes SET timers = $2, timer_at = $3, due_at = CASE WHEN pending = 0 THEN $3 ELSE due_at END"
            " WHERE lane_id = $1",
            row["lane_id"],
            pack(timers),
            first_at(timers),
        )


async def outcomes(world: World) -> list[tuple[Any, ...]]:
    query = "SELECT completed, dropoff_step, message_count, bot_id FROM dialog.dialog_outcomes ORDER BY ended_at"
    return [tuple(row) for row in await world.database.fetch(query)]


async def open_forms(world: World) -> int:
    return int(await world.database.fetchval("SELECT count(*) FROM dialog.lanes WHERE timer_at IS NOT NULL"))


async def test_a_form_left_in_silence_is_a_drop_off_once(world: World) -> None:
    await start(world, processes=3)
    last = await say(world, *ORDER[:3])
    said = datetime.now(UTC)
    await asyncio.sleep(1.0)
    assert (await open_forms(world), await outcomes(world)) == (1, [])
    await passes(world)
    assert await until(lambda: outcomes(world)) == [(False, "waiting_bottles", 3, WATER)]
    assert await open_forms(world) == 0
    row = await world.database.fetchrow("SELECT * FROM dialog.dialog_outcomes")
    assert row is not None
    assert (str(row["conversation_id"]), str(row["turn_id"])) == (last.conversation_id, last.turn_id)
    assert timedelta(0) < row["duration"] < timedelta(minutes=5)
    assert last.received_at.ToDatetime(tzinfo=UTC) < row["ended_at"] < said, "when they said their last"
    await asyncio.sleep(1.0)
    assert len(await outcomes(world)) == 1


async def test_a_form_that_goes_on_is_none(world: World) -> None:
    await start(world)
    for count in range(1, len(ORDER)):
        await say(world, ORDER[count - 1])
        await passes(world, TTL / 2)
    await say(world, ORDER[-1])
    assert await open_forms(world) == 0
    await passes(world)
    await say(world, "привет", chat="2")
    await say(world, "/cancel", chat="2")
    assert await open_forms(world) == 0
    await asyncio.sleep(1.0)
    assert [(done, step) for done, step, *_ in await outcomes(world)] == [(True, ""), (False, "waiting_address")]


async def test_a_form_whose_person_waits_for_us_is_none(world: World) -> None:
    await start(world)
    await say(world, *ORDER[:4])
    disable = bot_pb2.DisableBotRequest(tenant_id=TENANT, bot_id=WATER, request_id="r1")
    await world.bots.disable_bot(disable)
    waiting = await world.submit(ORDER[4], "1", bot_id=WATER)
    await passes(world)
    await asyncio.sleep(1.0)
    assert await outcomes(world) == []
    await world.bots.enable_bot(bot_pb2.EnableBotRequest(tenant_id=TENANT, bot_id=WATER, request_id="r2"))
    await world.ends(waiting.message_id)
    assert [done for done, *_ in await outcomes(world)] == [True]


async def test_a_dialog_that_begins_in_the_place_of_a_silent_one_ends_that(world: World) -> None:
    await start(world)
    first = await say(world, *ORDER[:2])
    world.context.snapshots.pop(first.conversation_id)  # it is remembered no longer
    await say(world, ORDER[0])
    assert await outcomes(world) == [(False, "waiting_phone", 2, WATER)]
    assert await open_forms(world) == 1
    await say(world, *ORDER[1:])
    assert [done for done, *_ in await outcomes(world)] == [False, True]


@pytest.mark.parametrize("point", ["before_plan_commit", "after_plan_commit", "after_finish_commit"])
async def test_a_death_leaves_one_open_form_and_one_drop_off(world: World, deaths: list[str], point: str) -> None:
    await start(world)
    await say(world, ORDER[0])
    deaths.append(f"dialog.{point}")
    response = await world.submit(ORDER[1], "1", bot_id=WATER)
    await lease_of_the_dead_runs_out(world, deaths)
    await world.ends(response.message_id)
    assert await open_forms(world) == 1
    await passes(world)
    assert await until(lambda: outcomes(world)) == [(False, "waiting_phone", 2, WATER)]


async def test_a_worker_that_dies_with_a_drop_off_leaves_it_to_another(world: World, deaths: list[str]) -> None:
    """The timer is an item of its lane: what the person writes meanwhile waits behind it, and it is ended once."""
    await world.start(real=True, dialog_workers=0)
    await start(world)
    await say(world, *ORDER[:2])
    await world.stop(world.processes[1])
    await passes(world)
    dead = Process(world, name="dead")
    (due,) = (await dead.turns.claim(EVERYONE)).items
    assert isinstance(due, TimerDue)
    await world.start(real=True)
    response = await world.submit(ORDER[2], "1", bot_id=WATER)
    await lease_of_the_dead_runs_out(world, deaths)
    await world.ends(response.message_id)
    assert await outcomes(world) == [(False, "waiting_phone", 2, WATER)]
    with pytest.raises(LeaseLost):
        await dead.turns.end_timer(due, read_drop_off(due.timer))


async def test_a_timer_of_a_newer_version_is_left_to_it_and_then_given_up(world: World) -> None:
    await start(world)
    last = await say(world, ORDER[0])
    timers = [Timer("reminder", datetime.now(UTC), {"text": "?"}), Timer("reminder", datetime.now(UTC) + TTL)]
    await world.database.execute(
        "UPDATE dialog.lanes SET timers = $1, timer_at = $2, due_at = $2", pack(timers), first_at(timers)
    )
    left = "SELECT timers FROM dialog.lanes WHERE pending = 0 AND timer_at > now()"
    assert unpack(await until(lambda: world.database.fetchval(left))) == (timers[1],)
    assert await outcomes(world) == []
    assert last.state == dialog_pb2.MESSAGE_STATE_COMPLETED


async def test_forms_are_kept_and_ended_by_indexes(world: World) -> None:
    await start(world)
    await world.database.execute(FILL)
    known = queries("turns")
    async with world.database.acquire() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        for name in ("end_timer", "commit_plans"):
            await connection.execute(f"PREPARE {name} AS {known[name].sql}")
            nothing = ", ".join(["NULL"] * parameters(known[name].sql))
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE {name} ({nothing})"))
            assert not re.findall("Seq Scan on (?:lanes|messages)", plan), plan


FILL = """
INSERT INTO dialog.lanes (lane_id, tenant_id, next_seq, done_seq, pending, priority, timer_at, due_at, timers)
SELECT md5(n::text)::uuid, 'acme', 6, 5, 0, 1, at, at, '[]'
FROM generate_series(1, 100000) AS n, LATERAL (SELECT now() + n * interval '1 minute' AS at) AS timer;
ANALYZE dialog.lanes;
"""
