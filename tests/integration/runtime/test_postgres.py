"""PostgreSQL: migrations, the pool, and what happens when the server goes away."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from deploy.local.embedded import EmbeddedPostgres
from services.runtime.errors import to_parley_error
from services.runtime.migrations import MigrationError, migrate, read_migrations
from services.runtime.postgres import Pool, open_pool, retry_deadlocks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_first.sql").write_text(
        "CREATE TABLE shop.items (id int PRIMARY KEY); INSERT INTO shop.items VALUES (1);"
    )
    return folder


@pytest.fixture
async def connection(postgres_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


@pytest.fixture
async def pool(postgres_url: str, folder: Path) -> AsyncIterator[Pool]:
    pool = await open_pool(postgres_url, name="shop", schema="shop", migrations=folder, size=4)
    yield pool
    await pool.close()


async def test_migrations_are_applied_once_and_in_order(
    connection: "asyncpg.Connection[asyncpg.Record]", folder: Path
) -> None:
    assert await migrate(connection, "shop", folder) == ["first"]
    (folder / "0002_second.sql").write_text("INSERT INTO shop.items VALUES (2);")
    (folder / "0003_third.sql").write_text("UPDATE shop.items SET id = 3 WHERE id = 2;")
    assert await migrate(connection, "shop", folder) == ["second", "third"]
    assert await migrate(connection, "shop", folder) == []
    assert [row["id"] for row in await connection.fetch("SELECT id FROM shop.items ORDER BY id")] == [1, 3]


async def test_a_migration_that_fails_leaves_nothing_behind(
    connection: "asyncpg.Connection[asyncpg.Record]", folder: Path
) -> None:
    (folder / "0002_broken.sql").write_text("INSERT INTO shop.items VALUES (2); SELECT nonsense;")
    with pytest.raises(asyncpg.UndefinedColumnError):
        await migrate(connection, "shop", folder)
    assert await connection.fetchval("SELECT count(*) FROM shop.items") == 1
    (folder / "0002_broken.sql").write_text("INSERT INTO shop.items VALUES (2);")
    assert await migrate(connection, "shop", folder) == ["broken"]


async def test_an_applied_migration_must_not_change(
    connection: "asyncpg.Connection[asyncpg.Record]", folder: Path
) -> None:
    await migrate(connection, "shop", folder)
    (folder / "0001_first.sql").write_text("SELECT 1;")
    with pytest.raises(MigrationError, match="was changed"):
        await migrate(connection, "shop", folder)


async def test_an_older_version_refuses_a_newer_database(
    connection: "asyncpg.Connection[asyncpg.Record]", folder: Path
) -> None:
    (folder / "0002_second.sql").write_text("SELECT 1;")
    await migrate(connection, "shop", folder)
    (folder / "0002_second.sql").unlink()
    with pytest.raises(MigrationError, match="does not know"):
        await migrate(connection, "shop", folder)


def test_a_gap_in_the_numbers_is_refused(folder: Path) -> None:
    (folder / "0003_third.sql").write_text("SELECT 1;")
    with pytest.raises(MigrationError, match="without gaps"):
        read_migrations(folder)


async def test_processes_that_start_together_migrate_once(postgres_url: str, folder: Path) -> None:
    pools = await asyncio.gather(
        *(open_pool(postgres_url, name="shop", schema="shop", migrations=folder, size=1) for _ in range(5))
    )
    assert [await pool.fetchval("SELECT count(*) FROM shop.items") for pool in pools] == [1] * 5
    for pool in pools:
        await pool.close()


async def test_a_connection_comes_back_with_no_transaction_left_open(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute("BEGIN; INSERT INTO shop.items VALUES (9)")
    async with pool.acquire() as connection:
        assert not connection.is_in_transaction()
    assert await pool.fetchval("SELECT count(*) FROM shop.items") == 1


async def test_sessions_name_their_service(pool: Pool) -> None:
    assert await pool.fetchval("SHOW application_name") == "parley-shop"
    assert await pool.fetchval("SHOW TimeZone") == "UTC"


async def test_a_deadlock_is_tried_again(pool: Pool) -> None:
    await pool.execute("INSERT INTO shop.items VALUES (2)")
    first_locks = asyncio.Barrier(2)
    tries = 0

    async def swap(first: int, second: int) -> None:
        async def work() -> None:
            nonlocal tries
            tries += 1
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("SELECT 1 FROM shop.items WHERE id = $1 FOR UPDATE", first)
                if tries <= 2:
                    await first_locks.wait()
                await connection.execute("SELECT 1 FROM shop.items WHERE id = $1 FOR UPDATE", second)

        await retry_deadlocks(work)

    await asyncio.gather(swap(1, 2), swap(2, 1))
    assert tries == 3


async def test_other_failures_are_not_tried_again() -> None:
    tries = 0

    async def work() -> None:
        nonlocal tries
        tries += 1
        raise asyncpg.UniqueViolationError

    with pytest.raises(asyncpg.UniqueViolationError):
        await retry_deadlocks(work)
    assert tries == 1


async def test_a_pool_outlives_a_restart_and_its_callers_hear_unavailable_meanwhile(
    tmp_path: Path, folder: Path
) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres" / "data")
    await asyncio.to_thread(server.start)
    try:
        pool = await open_pool(server.url, name="shop", schema="shop", migrations=folder, size=3)
        await asyncio.gather(*(pool.fetchval("SELECT pg_sleep(0.01)") for _ in range(3)))
        under_way = asyncio.ensure_future(pool.fetchval("SELECT pg_sleep(60)"))
        while not await pool.fetchval("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"):
            await asyncio.sleep(0.01)
        await asyncio.to_thread(server.kill)
        for asking in (under_way, pool.fetchval("SELECT 1"), pool.fetchval("SELECT 1")):
            with pytest.raises(Exception, match=r".*") as caught:
                await asking
            assert to_parley_error(caught.value).reason == "STORAGE_UNAVAILABLE", repr(caught.value)
        await asyncio.to_thread(server.start)
        answers = await asyncio.gather(*(pool.fetchval("SELECT count(*) FROM shop.items") for _ in range(6)))
        assert answers == [1] * 6
        await pool.close()
    finally:
        await asyncio.to_thread(server.kill)


async def test_a_service_waits_for_a_postgres_that_is_starting(tmp_path: Path, folder: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres" / "data", durable=False)
    try:
        starting = asyncio.create_task(asyncio.to_thread(server.start))
        pool = await open_pool(server.url, name="shop", schema="shop", migrations=folder, size=1)
        await starting
        assert await pool.fetchval("SELECT count(*) FROM shop.items") == 1
        await pool.close()
    finally:
        await asyncio.to_thread(server.kill)


async def test_it_says_when_no_address_is_set(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="PARLEY_DATABASE_URL"):
        _ = await open_pool("", name="shop", schema="shop", migrations=folder, size=1)
