"""Nothing grows for ever: what is older than it is kept goes, and what somebody waits for stays."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from parley.dialog.v1 import dialog_pb2, tenant_pb2

from parley_client.errors import InvalidArgument
from services.dialog.domain.failures import DecisionError, FailureKind
from services.dialog.postgres.database import Database
from services.dialog.postgres.partitions import PARTITIONS
from services.dialog.postgres.retention import Days, plan
from services.dialog.postgres.sealing import Sealing
from services.kernel.clock import SystemClock
from services.runtime import background, partitions
from services.runtime.crypto import Sealer
from services.runtime.partitions import first_id
from services.runtime.retention import Retention
from services.runtime.tenant_retention import retention_of
from tests.integration.dialog.conftest import TENANT, World, until

DEFAULTS = Days(400, 30)
BY_HAND: dict[str, Any] = {"retention_messages_days": 0, "retention_journal_days": 0}
"""What the process itself removes: nothing."""
NOW = datetime.now(UTC)


@pytest.fixture
async def dialog(world: World) -> World:
    await world.start(**BY_HAND)
    await world.prepare()
    return world


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine nobody gives way too early, and the process itself does not tidy meanwhile."""
    monkeypatch.setattr(partitions, "_LOCK_TIMEOUT", "SET LOCAL lock_timeout = '20s'")
    monkeypatch.setattr(background, "FIRST_WITHIN", 3600.0)


async def tidy(world: World, now: datetime = NOW, defaults: Days = DEFAULTS) -> None:
    database = Database(world.database)
    retention = Retention("dialog", world.database, SystemClock(), lambda _: plan(database, defaults, now))
    while await retention.look():
        pass


async def age(world: World, message_id: str, days: int) -> UUID:
    """Make a message, with what belongs to it, as old as that; its new id."""
    old, turn, at = id_of(days), id_of(days), NOW - timedelta(days=days)
    sealing = Sealing(Sealer(world.processes[0].runtime.keys))
    async with world.database.acquire() as connection, connection.transaction():
        found = await connection.fetchrow("SELECT * FROM dialog.messages WHERE message_id = $1", UUID(message_id))
        assert found is not None
        tenant_id, lane = found["tenant_id"], found["conversation_id"]
        request = sealing.open_message(tenant_id, UUID(message_id), found["request"])
        await connection.execute(
            "UPDATE dialog.messages SET message_id = $2, received_at = $3, request = $4 WHERE message_id = $1",
            UUID(message_id),
            old,
            at,
            sealing.message(tenant_id, old, request),
        )
        answer = await connection.fetchrow("SELECT * FROM dialog.turns WHERE message_id = $1", UUID(message_id))
        if answer is not None:
            plan = sealing.plan(tenant_id, turn, sealing.open_plan(tenant_id, answer["turn_id"], answer["plan"]))
            for table in ("replies", "journal"):
                await connection.execute(
                    f"UPDATE dialog.{table} SET turn_id = $2 WHERE turn_id = $1", answer["turn_id"], turn
                )
            await connection.execute(
                "UPDATE dialog.turns SET message_id = $2, turn_id = $3, plan = $4 WHERE message_id = $1",
                UUID(message_id),
                old,
                turn,
                plan,
            )
        await connection.execute("UPDATE dialog.lanes SET updated_at = $2 WHERE lane_id = $1", lane, at)
        await connection.execute("UPDATE dialog.conversations SET active_at = $2 WHERE conversation_id = $1", lane, at)
    return old


def id_of(days: int) -> UUID:
    return UUID(int=first_id(NOW - timedelta(days=days)).int | (uuid4().int & (2**80 - 1)))


async def counts(world: World) -> dict[str, int]:
    tables = ("messages", "turns", "replies", "journal", "lanes", "conversations")
    return {table: await world.database.fetchval(f"SELECT count(*) FROM dialog.{table}") for table in tables}


async def stretch(world: World, days: int) -> None:
    """A year of stretches, as a process makes them that has run so long."""
    for table in PARTITIONS.tables:
        await world.database.execute(f"DROP TABLE IF EXISTS dialog.{table.name}_first")
    for old in range(days, -1, -5):
        async with world.database.acquire() as connection, connection.transaction():
            await PARTITIONS.make(connection, NOW - timedelta(days=old))


async def answered(world: World, text: str, days: int, **fields: Any) -> UUID:
    response = await world.submit(text, chat=text, **fields)
    await world.ends(response.message_id)
    return await age(world, response.message_id, days)


async def test_old_stretches_go_whole_and_younger_ones_stay(dialog: World) -> None:
    dialog.flow.model = True
    await stretch(dialog, 470)
    gone, old, young = [await answered(dialog, text, days) for text, days in (("a", 460), ("b", 100), ("c", 1))]
    before = await counts(dialog)
    await tidy(dialog)
    left = {row["message_id"] for row in await dialog.database.fetch("SELECT message_id FROM dialog.messages")}
    assert left == {old, young}
    assert gone not in left
    assert {table: before[table] - count for table, count in (await counts(dialog)).items()} == {
        "messages": 1,
        "turns": 1,
        "replies": 1,
        "journal": 2,  # that of "b" is older than 30 days
        "lanes": 1,
        "conversations": 1,
    }
    told = {row["task"]: row for row in await dialog.database.fetch("SELECT * FROM dialog.upkeep")}
    assert "messages_2" in told["messages: stretches"]["detail"]
    assert told["silent lanes"]["removed"] == 1
    message = await dialog.message(str(old))
    assert message.replies[0].content.text.endswith("b")


async def test_a_tenant_may_keep_less_or_all(dialog: World) -> None:
    await stretch(dialog, 470)
    old = await answered(dialog, "old", 20)
    response = await dialog.submit(tenant_id="forever", rejection=dialog_pb2.REJECTION_REASON_UNSUPPORTED)
    forever = await age(dialog, response.message_id, 465)
    await tenant(dialog, "forever", messages_days=0)
    await tidy(dialog)
    assert (await counts(dialog))["messages"] == 2, "as one tenant keeps all, no stretch goes"
    changed = await dialog.tenants.update_tenant(
        tenant_pb2.UpdateTenantRequest(
            tenant_id=TENANT,
            tenant=tenant_pb2.Tenant(tenant_id=TENANT, retention=tenant_pb2.Retention(messages_days=7)),
            update_mask=FieldMask(paths=["retention.messages_days"]),
            request_id="2",
        )
    )
    assert changed.tenant.retention.messages_days == 7
    assert changed.tenant.retention.deliveries_days == 90, "as the settings say"
    await tidy(dialog)
    left = {row["message_id"] for row in await dialog.database.fetch("SELECT message_id FROM dialog.messages")}
    assert left == {forever}
    assert old not in left
    assert (await counts(dialog))["turns"] == 0


async def test_what_waits_outlives_its_time_and_is_answered(world: World) -> None:
    world.flow.model = True
    await world.start(dialog_workers=0, **BY_HAND)
    await world.prepare()
    await stretch(world, 470)
    response = await world.submit("patient")
    old = await age(world, response.message_id, 465)
    await tidy(world)
    await tidy(world, defaults=Days(3, 3))
    assert await world.database.fetchval("SELECT message_id FROM dialog.messages") == old
    await world.start(**BY_HAND)
    assert (await world.ends(str(old))).replies[0].content.text == "1: model says patient"
    await tidy(world, defaults=Days(3, 3))
    assert (await counts(world))["messages"] == 0


async def test_one_process_at_a_time_removes(dialog: World) -> None:
    await stretch(dialog, 470)
    await answered(dialog, "a", 460)
    lock = "SELECT pg_advisory_lock(hashtextextended('parley retention dialog', 0))"
    async with dialog.database.acquire() as other:
        await other.execute(lock)
        await tidy(dialog)
        assert (await counts(dialog))["messages"] == 1
        await other.execute(lock.replace("advisory_lock", "advisory_unlock"))
    await tidy(dialog)
    assert (await counts(dialog))["messages"] == 0


async def test_a_person_who_comes_back_after_all_was_removed_is_answered(dialog: World) -> None:
    await stretch(dialog, 470)
    await answered(dialog, "a", 460)
    await tidy(dialog)
    assert (await counts(dialog))["lanes"] == 0
    later = await dialog.submit("again", chat="a")
    assert (await dialog.ends(later.message_id)).replies


async def tenant(world: World, tenant_id: str, **days: int) -> tenant_pb2.Tenant:
    made = tenant_pb2.Tenant(tenant_id=tenant_id, retention=tenant_pb2.Retention(**days))
    request = tenant_pb2.CreateTenantRequest(tenant=made, request_id=f"tenant {tenant_id}")
    return (await world.tenants.create_tenant(request)).tenant


OUTCOME = """
INSERT INTO dialog.dialog_outcomes (
    turn_id, tenant_id, bot_id, channel_id, conversation_id, completed, dropoff_step, message_count, duration, ended_at
) VALUES (gen_random_uuid(), $1, 'bot', 'channel', gen_random_uuid(), true, '', 1, interval '1 s', $2)
"""
CONVERSATION = """
INSERT INTO dialog.conversations (conversation_id, tenant_id, channel_id, bot_id, chat_id, active_at)
VALUES (gen_random_uuid(), $1, 'channel', 'bot', '1', $2)
"""
CALL = """
INSERT INTO dialog.journal (turn_id, step, try, tenant_id, request_sha256, state) VALUES ($1, 'answer', 1, $2, '', 2)
"""
ORDER = """
INSERT INTO dialog.orders (
    tenant_id, order_id, turn_id, index, bot_id, channel_id, conversation_id, message_id, form_id, fields, created_at
) VALUES ($1, $2, $2, 0, 'bot', 'channel', $2, $2, 'form', '{}', now())
"""


async def tenants_in(world: World, table: str) -> list[str]:
    return [row[0] for row in await world.database.fetch(f"SELECT tenant_id FROM dialog.{table} ORDER BY 1")]


async def test_what_is_left_of_tenants_that_nobody_knows_goes_too(dialog: World) -> None:
    await tenant(dialog, "forever", messages_days=0, journal_days=0)
    for tenant_id in ("forever", "unknown", TENANT):
        for statement in (OUTCOME, CONVERSATION):
            await dialog.database.execute(statement, tenant_id, NOW - timedelta(days=401))
        await dialog.database.execute(CALL, id_of(31), tenant_id)
    refused = await dialog.submit(tenant_id="unknown", rejection=dialog_pb2.REJECTION_REASON_UNSUPPORTED)
    await age(dialog, refused.message_id, 401)
    await dialog.database.execute("DELETE FROM dialog.conversations WHERE active_at > now() - interval '1 day'")
    await tidy(dialog)
    for table in ("dialog_outcomes", "conversations", "journal"):
        assert await tenants_in(dialog, table) == ["forever"], table
    assert await tenants_in(dialog, "messages") == []


async def test_journals_of_several_tenants_go_in_one_walk(dialog: World) -> None:
    await tenant(dialog, "short", journal_days=5)
    await tenant(dialog, "long", journal_days=90)
    for tenant_id in ("short", "long", TENANT):
        for days in (3, 10, 40, 100):
            await dialog.database.execute(CALL, id_of(days), tenant_id)
    await tidy(dialog)
    assert await tenants_in(dialog, "journal") == sorted([*[TENANT] * 2, *["long"] * 3, "short"])
    left = {row["task"] for row in await dialog.database.fetch("SELECT task FROM dialog.upkeep WHERE removed > 0")}
    assert {name for name in left if "journal" in name} <= {"journal", "journal: rest", "journal: stretches"}


async def test_orders_stay_unless_their_tenant_says_for_how_long(dialog: World) -> None:
    await tenant(dialog, "short", orders_days=30)
    for tenant_id in ("short", TENANT):
        for days in (10, 1000):
            await dialog.database.execute(ORDER, tenant_id, id_of(days))
    await tidy(dialog)
    assert await tenants_in(dialog, "orders") == [TENANT, TENANT, "short"]
    await tidy(dialog, defaults=Days(400, 30, 100))
    assert await tenants_in(dialog, "orders") == [TENANT, "short"]


async def test_api_keys_go_when_they_have_been_over_for_long(dialog: World) -> None:
    keys = {}
    for name in ("used", "revoked", "expired", "lately"):
        request = tenant_pb2.CreateApiKeyRequest(
            tenant_id=TENANT, scopes=[tenant_pb2.API_KEY_SCOPE_CHAT], channel_id="api", name=name, request_id=name
        )
        keys[name] = (await dialog.tenants.create_api_key(request)).api_key.key_id
    ends = {"revoked": ("revoked_at", 401), "expired": ("expires_at", 401), "lately": ("revoked_at", 399)}
    for name, (column, days) in ends.items():
        await dialog.database.execute(
            f"UPDATE dialog.api_keys SET {column} = $2 WHERE key_id = $1", keys[name], NOW - timedelta(days=days)
        )
    await tidy(dialog)
    left = {row["name"] for row in await dialog.database.fetch("SELECT name FROM dialog.api_keys")}
    assert left == {"used", "lately"}


async def test_a_tenant_has_its_traces_kept_for_no_longer_than_the_settings_say(dialog: World) -> None:
    assert (await tenant(dialog, "says-nothing")).retention.spans_days == 7
    assert (await tenant(dialog, "short", spans_days=3)).retention.spans_days == 3
    assert (await tenant(dialog, "long", spans_days=300)).retention.spans_days == 7
    with pytest.raises(InvalidArgument) as raised:
        await tenant(dialog, "forever", spans_days=0)
    assert [name for name, _ in raised.value.fields] == ["tenant.retention.spans_days"]


async def test_other_services_ask_for_how_long_a_tenant_has_its_data_kept(dialog: World) -> None:
    await tenant(dialog, "short", spans_days=3, deliveries_days=30)
    said = retention_of(
        dialog.connection("telemetry"), lambda retention: (retention.spans_days, retention.deliveries_days)
    )
    assert await said("short") == (3, 30)
    assert await said("unknown") is None
    assert await said("No Tenant's Name") is None


async def dead(world: World, text: str, days: int) -> UUID:
    """A dead letter of so many days ago."""
    world.flow.script = [DecisionError(FailureKind.TERMINAL, "MODEL_REJECTED", "no such model")]
    response = await world.submit(text, chat=text)
    await world.ends(response.message_id, dialog_pb2.MESSAGE_STATE_TERMINAL)
    return await age(world, response.message_id, days)


@asynccontextmanager
async def held(world: World, message_id: UUID) -> AsyncIterator[None]:
    """Who changes that message waits."""
    async with world.database.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM dialog.messages WHERE message_id = $1 FOR UPDATE", message_id)
        yield


async def waits(world: World) -> bool:
    """Whether a statement waits for a row."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(await world.database.fetchval(query))


async def test_a_message_that_an_operator_retries_meanwhile_is_answered(dialog: World) -> None:
    """DLG-3: retention has chosen two dead letters, and waits for the first; then the second is retried."""
    await stretch(dialog, 470)
    await tenant(dialog, "forever", messages_days=0)
    first, second = await dead(dialog, "first", 465), await dead(dialog, "second", 461)
    async with held(dialog, first):
        tidying = asyncio.create_task(tidy(dialog))
        await until(lambda: waits(dialog))
        retry = dialog_pb2.RetryMessageRequest(tenant_id=TENANT, message_id=str(second), request_id="again")
        dialog.flow.held = asyncio.Event()
        await dialog.dialog.retry_message(retry)
    await tidying
    left = {row["message_id"] for row in await dialog.database.fetch("SELECT message_id FROM dialog.messages")}
    assert left == {second}
    dialog.flow.held.set()
    assert (await dialog.ends(str(second))).replies[0].content.text == "1: second"
