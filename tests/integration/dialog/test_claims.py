"""What a claim reads of its lanes: all that was begun, whatever its age, and no stretch that holds none of it."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from services.dialog.domain.flows import TurnPlan
from services.dialog.domain.turns import (
    Claimed,
    Outcome,
    Plan,
    Planned,
)
from services.dialog.postgres.claims import FIRST, LATELY, NONE
from services.dialog.postgres.database import Database
from services.dialog.postgres.queries import load
from services.dialog.postgres.sealing import Sealing
from services.dialog.postgres.turns import PostgresTurns
from services.kernel.ids import uuid7
from services.runtime.content import of_text
from services.runtime.crypto import Sealer
from services.runtime.lanes import FREE_FOR_ALL, Room
from services.runtime.partitions import first_id
from tests.integration.dialog.conftest import World
from tests.integration.dialog.test_retention import age, stretch
from tests.integration.dialog.test_retention import patient as patient

TURNS = re.compile(r" on (turns_\w+) ")
EVERYONE = Room(100, fairness=FREE_FOR_ALL)


@pytest.fixture
async def stored(world: World) -> World:
    """A process that takes messages in and works on none, with a year of stretches."""
    await world.start(dialog_workers=0)
    await world.prepare()
    await stretch(world, 400)
    return world


def store(world: World) -> PostgresTurns:
    sealing = Sealing(Sealer(world.processes[0].runtime.keys))
    return PostgresTurns(Database(world.database), sealing, "test", timedelta(minutes=1))


async def claim(turns: PostgresTurns) -> Claimed:
    (claimed,) = (await turns.claim(EVERYONE)).items
    assert isinstance(claimed, Claimed)
    return claimed


@pytest.mark.parametrize(("first", "last"), [(0, 0), (300, 0), (0, 300), (300, 310)])
async def test_a_turn_that_was_planned_is_found_whatever_the_age_of_its_messages(
    stored: World, first: int, last: int
) -> None:
    """An operator queues an old message again, behind a new one or before it; the bot answers both at once."""
    ids = []
    for text, days in (("one", first), ("two", last)):
        message_id = (await stored.submit(text)).message_id
        ids.append(await age(stored, message_id, days) if days else UUID(message_id))
    turns = store(stored)
    claimed = await claim(turns)
    assert (claimed.head.message_id, claimed.open_turn) == (ids[0], None)
    messages = await turns.waiting(claimed)
    assert [message.message_id for message in messages] == ids
    plan = Plan(uuid7(), 1, 2, Outcome.ANSWERED, TurnPlan(replies=[of_text("both")]), "", 60.0, 1)
    await turns.commit_plan(Planned(claimed.lease, plan, messages, datetime.now(UTC)))
    await turns.release([claimed.lease], timedelta(0))
    found = (await claim(turns)).open_turn
    assert isinstance(found, Plan)
    assert (found.turn_id, found.last_seq) == (plan.turn_id, 2)


@pytest.mark.parametrize(("pending", "turns_from"), [(1, NONE), (2, FIRST)])
async def test_a_claim_opens_the_stretches_of_its_messages_only(stored: World, pending: int, turns_from: UUID) -> None:
    """With the plan that PostgreSQL makes once for any arguments."""
    for number in range(20):
        await stored.submit("hello", chat=str(number))
    lanes = [row[0] for row in await stored.database.fetch("SELECT lane_id FROM dialog.lanes")]
    async with stored.database.acquire() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE read_claimed AS {load('turns')['read_claimed']}")
        arguments = (lanes, [0] * len(lanes), [pending] * len(lanes), first_id(datetime.now(UTC) - LATELY), turns_from)
        listed = ", ".join(
            f"'{{{','.join(map(str, each))}}}'" if isinstance(each, list) else f"'{each}'" for each in arguments
        )
        rows = await connection.fetch(f"EXPLAIN (ANALYZE, COSTS off, TIMING off) EXECUTE read_claimed ({listed})")
    plan = [row[0] for row in rows]
    shown = "\n".join(plan)
    opened = {match[1] for line in plan if "never executed" not in line and (match := TURNS.search(line))}
    assert len(opened) <= 2 if pending == 1 else len(opened) > 12, shown
    assert len([line for line in plan if " on messages_" in line]) <= 4, shown
    assert "Subplans Removed" in shown
