"""Tables in stretches of time: nothing is refused, stretches come in time, and old ones go."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from services.runtime.partitions import Partitions, Table, first_id, stretches, time_of

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TABLE = Table("items", "item_id", 7, "item.kept")
PARTITIONS = Partitions("p", [TABLE])
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
SCHEMA = """
CREATE SCHEMA p;
CREATE TABLE p.items (
    item_id uuid PRIMARY KEY, kept boolean NOT NULL DEFAULT false, twice text GENERATED ALWAYS AS (item_id::text) STORED
) PARTITION BY RANGE (item_id);
CREATE TABLE p.items_rest PARTITION OF p.items DEFAULT WITH (fillfactor = 70);
"""


def id_of(at: datetime) -> UUID:
    return UUID(int=first_id(at).int | uuid4().int & (2**80 - 1))


@pytest.fixture
async def connection(postgres_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(SCHEMA)
    yield connection
    await connection.close()


async def make(connection: "asyncpg.Connection[asyncpg.Record]", now: datetime = NOW) -> list[str]:
    async with connection.transaction():
        return await PARTITIONS.make(connection, now)


async def add(connection: "asyncpg.Connection[asyncpg.Record]", at: datetime, kept: bool = False) -> UUID:
    key = id_of(at)
    await connection.execute("INSERT INTO p.items (item_id, kept) VALUES ($1, $2)", key, kept)
    return key


async def where(connection: "asyncpg.Connection[asyncpg.Record]", key: UUID) -> str:
    found: str = await connection.fetchval("SELECT tableoid::regclass::text FROM p.items WHERE item_id = $1", key)
    return found.removeprefix("p.")


def test_stretches_cover_a_week_ahead_and_do_not_depend_on_the_hour() -> None:
    early, late = stretches(NOW, 7), stretches(NOW + timedelta(hours=1), 7)
    assert early == late
    assert early[0][0] <= NOW < early[0][1]
    assert early[-1][1] > NOW + timedelta(days=7)
    assert abs(time_of(first_id(NOW)) - NOW) < timedelta(milliseconds=1)


async def test_stretches_are_made_once_and_take_what_had_come_before_them(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    early, stranger = await add(connection, NOW), UUID(int=2**128 - 1)
    await connection.execute("INSERT INTO p.items (item_id) VALUES ($1)", stranger)
    assert await where(connection, early) == "items_rest"
    made = await make(connection)
    assert len(made) == 2
    assert await make(connection) == []
    assert await where(connection, early) == made[0]
    assert await where(connection, stranger) == "items_rest"
    assert await where(connection, await add(connection, NOW + timedelta(days=7))) == made[1]
    options = await connection.fetchval("SELECT reloptions FROM pg_class WHERE relname = $1", made[0])
    assert options == ["fillfactor=70"]


async def test_several_processes_make_them_together(
    connection: "asyncpg.Connection[asyncpg.Record]", postgres_url: str
) -> None:
    others = [await asyncpg.connect(postgres_url) for _ in range(3)]
    made = await asyncio.gather(*(make(each) for each in others))
    assert sorted(len(each) for each in made) == [0, 0, 2]
    for each in others:
        await each.close()


async def test_an_old_stretch_is_dropped_but_for_what_is_needed(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    await make(connection)
    gone, needed = await add(connection, NOW), await add(connection, NOW, kept=True)
    later = await add(connection, NOW + timedelta(days=7))
    async with connection.transaction():
        assert await PARTITIONS.drop_oldest(connection, TABLE, NOW) is None, "it is not over yet"
        dropped = await PARTITIONS.drop_oldest(connection, TABLE, NOW + timedelta(days=7))
    assert dropped is not None
    assert dropped.kept == 1
    left = {row["item_id"] for row in await connection.fetch("SELECT item_id FROM p.items")}
    assert left == {needed, later}
    assert gone not in left
    assert await where(connection, needed) == "items_rest"


async def test_dropping_gives_way_to_a_long_reader_and_blocks_nobody_meanwhile(
    connection: "asyncpg.Connection[asyncpg.Record]", postgres_url: str
) -> None:
    await make(connection)
    await add(connection, NOW)
    backup = await asyncpg.connect(postgres_url)
    async with backup.transaction():
        assert await backup.fetchval("SELECT count(*) FROM p.items") == 1
        with pytest.raises(asyncpg.LockNotAvailableError):
            async with connection.transaction():
                await PARTITIONS.drop_oldest(connection, TABLE, NOW + timedelta(days=30))
        with pytest.raises(asyncpg.LockNotAvailableError):
            await make(connection, NOW + timedelta(days=14))
        await add(connection, NOW + timedelta(days=21))
    assert await make(connection, NOW + timedelta(days=14)) != []
    async with connection.transaction():
        assert await PARTITIONS.drop_oldest(connection, TABLE, NOW + timedelta(days=30)) is not None
    await backup.close()


async def test_what_has_come_to_be_needed_after_it_was_chosen_stays(
    connection: "asyncpg.Connection[asyncpg.Record]", postgres_url: str
) -> None:
    await connection.execute(
        "CREATE FUNCTION p.look() RETURNS boolean LANGUAGE sql AS"
        " 'SELECT pg_advisory_xact_lock_shared(7); SELECT false'"
    )
    table = Table("items", "item_id", 7, "(item.kept OR p.look())")
    needed, _ = [await add(connection, NOW - timedelta(days=days)) for days in (50, 60)]
    other = await asyncpg.connect(postgres_url)

    async def trim() -> int:
        async with other.transaction():
            return await PARTITIONS.trim_rest(other, table, first_id(NOW), 10)

    await connection.execute("SELECT pg_advisory_lock(7)")
    trimming = asyncio.create_task(trim())
    while not await connection.fetchval(WAITING):
        await asyncio.sleep(0.01)
    await connection.execute("UPDATE p.items SET kept = true WHERE item_id = $1", needed)
    await connection.execute("SELECT pg_advisory_unlock(7)")
    assert await trimming == 1
    assert [row[0] for row in await connection.fetch("SELECT item_id FROM p.items")] == [needed]
    await other.close()
