"""What cannot be read, services at fault, effects that fail, and bots that sleep: each costs its own lane only."""

import asyncio
from time import monotonic
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from parley.dialog.v1 import bot_pb2, dialog_pb2

from services.dialog.domain import retry
from services.dialog.domain.failures import DecisionError, FailureKind
from services.dialog.domain.flows import TurnInput, TurnPlan, TurnTools
from services.dialog.usecases import repeat, run_turn, setbacks
from services.kernel.errors import Kind, ParleyError
from tests.integration.dialog.conftest import BOT, TENANT, FakeFlow, World, until
from tests.integration.dialog.peers import AWAY
from tests.support.machine import Pace

RECEIVED = dialog_pb2.MESSAGE_STATE_RECEIVED
FAILED = dialog_pb2.MESSAGE_STATE_FAILED
TERMINAL = dialog_pb2.MESSAGE_STATE_TERMINAL
COMPLETED = dialog_pb2.MESSAGE_STATE_COMPLETED
FAULT = ParleyError(Kind.INTERNAL, "INTERNAL", "a fault, for a test")


async def hold(world: World, *chats: str) -> list[str]:
    """Messages that wait in their lanes: nobody takes them before `go`."""
    await switch(world, enabled=False)
    responses = [await world.submit(f"from {chat}", chat) for chat in chats]
    await until(lambda: world.database.fetchval("SELECT bool_and(parked IS NOT NULL) FROM dialog.lanes"))
    return [response.message_id for response in responses]


async def switch(world: World, *, enabled: bool, bot_id: str = BOT) -> None:
    if enabled:
        await world.bots.enable_bot(bot_pb2.EnableBotRequest(tenant_id=TENANT, bot_id=bot_id, request_id=str(uuid4())))
    else:
        request = bot_pb2.DisableBotRequest(tenant_id=TENANT, bot_id=bot_id, request_id=str(uuid4()))
        await world.bots.disable_bot(request)


async def test_a_message_that_cannot_be_read_is_a_dead_letter_and_its_neighbours_go_on(dialog: World) -> None:
    good, bad, other = await hold(dialog, "1", "2", "3")
    behind = await dialog.submit("behind it", "2")
    await dialog.database.execute(r"UPDATE dialog.messages SET request = '\xffff' WHERE message_id = $1", bad)
    await switch(dialog, enabled=True)
    for message_id in (good, other, behind.message_id):
        await dialog.ends(message_id)
    dead = await dialog.ends(bad, TERMINAL)
    assert (dead.terminal_reason, dead.last_error.partition(":")[0]) == ("UNREADABLE", "UNREADABLE")
    assert dialog.delivery.texts("2") == ["1: behind it"]


async def test_a_flow_of_a_newer_version_stops_its_own_bot_only(dialog: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a rolling upgrade an old process leaves such lanes to newer ones, and gives up when there are none."""
    monkeypatch.setattr(run_turn, "LEAVE", 0.2)
    await dialog.create_bot("newer")
    settings = msgspec.json.encode({"two_stage": {"prompt": "x"}, "locale": "en"}).decode()
    await dialog.database.execute(
        "UPDATE dialog.bots SET settings = $1, stamp = nextval('dialog.bot_stamps') WHERE bot_id = 'newer'", settings
    )
    left = [await dialog.submit(chat=f"n{chat}", bot_id="newer") for chat in range(5)]
    for chat in range(3):
        await dialog.ends((await dialog.submit("hello", f"o{chat}")).message_id, seconds=10)
    for response in left:
        dead = await dialog.ends(response.message_id, TERMINAL)
        assert dead.terminal_reason == "UNREADABLE"
        assert "two_stage" in dead.last_error
    assert not await dialog.database.fetchval("SELECT count(*) FROM dialog.lanes WHERE pending > 0")
    bots = (await dialog.bots.list_bots(bot_pb2.ListBotsRequest(tenant_id=TENANT))).bots
    assert [bot.bot_id for bot in bots] == [BOT, "newer"]
    await switch(dialog, enabled=False, bot_id="newer")
    assert await dialog.database.fetchval("SELECT settings FROM dialog.bots WHERE bot_id = 'newer'") == (
        await dialog.database.fetchval("SELECT $1::jsonb", settings)
    ), "what an old process does not know it does not lose"


async def test_a_plan_that_cannot_be_read_is_kept_and_its_lane_goes_on(dialog: World) -> None:
    dialog.delivery.always["SendMessage"] = AWAY
    response = await dialog.submit("one")
    await until(lambda: dialog.database.fetchval("SELECT count(*) FROM dialog.lanes WHERE delays > 0"))
    later = await dialog.submit("two")
    await dialog.database.execute(r"UPDATE dialog.turns SET plan = '\x01ffff'")
    dialog.delivery.always.clear()
    dead = await dialog.ends(response.message_id, TERMINAL)
    assert dead.terminal_reason == "UNREADABLE"
    assert await dialog.database.fetchval("SELECT count(*) FROM dialog.turns WHERE state = 2") >= 1
    await dialog.ends(later.message_id)
    listed = await dialog.dialog.list_messages(dialog_pb2.ListMessagesRequest(tenant_id=TENANT))
    assert len(listed.messages) == 2


async def test_a_fault_of_a_service_is_counted_told_and_in_the_end_given_up(
    dialog: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setbacks, "FAULTS", 3)
    dialog.context.always["GetContext"] = FAULT
    response = await dialog.submit()
    failed = await dialog.ends(response.message_id, FAILED)
    assert failed.last_error.startswith("INTERNAL: context: ")
    dead = await dialog.ends(response.message_id, TERMINAL)
    assert dead.terminal_reason == "INTERNAL"
    assert dialog.delivery.texts() == ["sorry"]
    assert dialog.context.calls["GetContext"] == 3


@pytest.mark.parametrize("outage_first", [True, False])
async def test_an_outage_uses_up_no_patience_with_faults(
    dialog: World, monkeypatch: pytest.MonkeyPatch, outage_first: bool
) -> None:
    """Whether a service was away before or after it was at fault: only its faults are counted."""
    monkeypatch.setattr(setbacks, "FAULTS", 3)
    monkeypatch.setattr(retry, "LONGEST_DELAY", 0.2)
    troubles = [[AWAY] * 4, [FAULT] * 2]
    before, after = troubles if outage_first else reversed(troubles)
    dialog.context.fail["GetContext"] = [*before, *after]
    message = await dialog.ends((await dialog.submit()).message_id, COMPLETED, TERMINAL)
    assert (message.state, dialog.delivery.texts()) == (COMPLETED, ["1: hello"])
    dialog.context.fail["GetContext"] = [FAULT, AWAY, FAULT, AWAY, FAULT]
    dead = await dialog.ends((await dialog.submit()).message_id, COMPLETED, TERMINAL)
    assert dead.terminal_reason == "INTERNAL", "an outage forgets no fault either"


async def test_effects_that_fail_let_their_place_go_and_come_back(dialog: World) -> None:
    """The lane waits, not its worker; the decision is not made again, and the message tells why it waits."""
    gone = asyncio.Event()
    dialog.delivery.hold["SendMessage"] = gone
    pace, started = Pace(), monotonic()
    response = await dialog.submit()
    waiting = "SELECT count(*) FROM dialog.lanes WHERE lease_until IS NULL AND due_at > now() AND delays > 0"
    await until(lambda: dialog.database.fetchval(waiting))
    assert monotonic() - started < pace.scaled(4.0)
    assert (await dialog.message(response.message_id)).last_error.startswith("STORAGE_UNAVAILABLE")
    del dialog.delivery.hold["SendMessage"]
    gone.set()
    message = await dialog.ends(response.message_id)
    assert (message.attempts, len(dialog.flow.asked)) == (1, 1)
    assert dialog.delivery.texts() == ["1: hello"]


async def test_an_effect_that_meets_a_fault_for_too_long_is_dead_and_the_turn_is_finished(
    dialog: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeat, "FAULTS_OF_AN_EFFECT", 1)
    dialog.delivery.always["SendMessage"] = FAULT
    dialog.context.always["SaveContext"] = FAULT
    message = await dialog.ends((await dialog.submit()).message_id)
    assert message.replies[0].state == dialog_pb2.REPLY_STATE_DEAD
    assert "INTERNAL" in message.replies[0].error
    assert message.last_error.startswith("context not saved: INTERNAL")
    assert len(dialog.flow.asked) == 1


async def test_messages_do_not_wake_a_sleeping_bot_and_enabling_wakes_failed_ones_too(dialog: World) -> None:
    dialog.flow.script = [DecisionError(FailureKind.RETRYABLE, "MODEL_UNAVAILABLE", "away", 0.5)]
    failed = await dialog.submit("one", "failed")
    await dialog.ends(failed.message_id, FAILED)
    await switch(dialog, enabled=False)
    await dialog.submit("two", "waiting")
    parked = "SELECT count(*) FROM dialog.lanes WHERE parked = 'bot' AND due_at IS NULL"
    await until(lambda: _equal(dialog, parked, 2))
    fences = "SELECT sum(fence) FROM dialog.lanes"
    before = await dialog.database.fetchval(fences)
    again = await dialog.submit("three", "waiting")
    await asyncio.sleep(1.5)  # a poll and more
    assert await dialog.database.fetchval(fences) == before, "nobody has looked at them"
    stats = await dialog.dialog.get_queue_stats(dialog_pb2.GetQueueStatsRequest(tenant_id=TENANT))
    assert stats.waiting + stats.failed == 3
    await switch(dialog, enabled=True)
    await dialog.ends(failed.message_id)
    await dialog.ends(again.message_id)


async def test_messages_of_a_deleted_bot_do_not_sleep_for_ever(dialog: World) -> None:
    (message_id,) = await hold(dialog, "1")
    await dialog.bots.delete_bot(bot_pb2.DeleteBotRequest(tenant_id=TENANT, bot_id=BOT, request_id="d"))
    dead = await dialog.ends(message_id, TERMINAL)
    assert dead.terminal_reason == "BOT_NOT_FOUND"


@pytest.mark.timeout(400)
async def test_100_000_sleeping_lanes_delay_nobody_and_all_are_woken(dialog: World) -> None:
    """They were claimed again every minute, one transaction each: another bot waited for 45 s."""
    await dialog.create_bot("other")
    await switch(dialog, enabled=False)
    await dialog.database.execute(CROWD)
    pace, started = Pace(), monotonic()
    took = [await _answered(dialog, f"a{number}") for number in range(3)]
    assert sorted(took)[1] < pace.scaled(5.0), "while the crowd goes to sleep"
    asleep = "SELECT count(*) FROM dialog.lanes WHERE parked IS NOT NULL"
    await until(lambda: _equal(dialog, asleep, 100_000), 240)
    print(f"all asleep after {monotonic() - started:.1f} s; meanwhile {[f'{each:.2f}' for each in took]}")
    took = [await _answered(dialog, f"b{number}") for number in range(5)]
    assert sorted(took)[2] < pace.scaled(2.0)
    begun = monotonic()
    await switch(dialog, enabled=True)
    assert monotonic() - begun < pace.scaled(5.0), "it is done in steps"
    await until(lambda: _equal(dialog, asleep, 0), 120)
    assert not await dialog.database.fetchval("SELECT count(*) FROM dialog.lanes WHERE pending > 0 AND due_at IS NULL")
    print(f"asleep: {[f'{each:.2f}' for each in took]}; all awake after {monotonic() - begun:.1f} s")


async def _answered(world: World, chat: str) -> float:
    started = monotonic()
    await world.ends((await world.submit("hello", chat, bot_id="other")).message_id)
    return monotonic() - started


async def _equal(world: World, query: str, wanted: Any) -> bool:
    return bool(await world.database.fetchval(query) == wanted)


CROWD = f"""
INSERT INTO dialog.messages
    (tenant_id, message_id, conversation_id, seq, channel_id, bot_id, request, received_at, state)
SELECT
    '{TENANT}', overlay(md5('m' || n) placing '01a1' from 1)::uuid, md5(n::text)::uuid, 1, 'channel', '{BOT}', '',
    now(), 1
FROM generate_series(1, 100000) AS n;
INSERT INTO dialog.lanes (lane_id, tenant_id, share, next_seq, pending, due_at)
SELECT md5(n::text)::uuid, '{TENANT}', '{BOT}', 2, 1, now() FROM generate_series(1, 100000) AS n;
"""


@pytest.mark.parametrize("crowd", [200, 800])
async def test_a_bot_with_slow_decisions_leaves_places_for_others(world: World, crowd: int) -> None:
    """DLG-2: 200 slow turns for 16 places, and four times as many, delay no other bot; all are answered in the end."""
    go = asyncio.Event()

    class Slow(FakeFlow):
        async def decide(self, turn: TurnInput, tools: TurnTools) -> TurnPlan:
            if turn.bot.bot_id == BOT:
                await go.wait()
            return await super().decide(turn, tools)

    await world.start(flow=Slow(), dialog_workers=16)
    await world.prepare()
    await world.create_bot("other")
    calls = [world.submit("slow", f"slow-{number}") for number in range(crowd)]
    slow = [answer for start in range(0, crowd, 100) for answer in await asyncio.gather(*calls[start : start + 100])]
    took = [await _answered(world, f"other-{number}") for number in range(10)]
    leased = await world.database.fetchval("SELECT count(*) FROM dialog.lanes WHERE lease_until IS NOT NULL")
    assert 8 <= leased < 16
    assert sorted(took)[8] < 1.0, took
    go.set()
    for answer in slow:
        await world.ends(answer.message_id, seconds=60)
