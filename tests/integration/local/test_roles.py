"""SEC-4: a database role per service, which reaches its own schema and no other."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from deploy.local.roles import OWNERS, make_roles, role_of
from services.runtime.postgres import open_pool

SERVICES = Path(__file__).parents[3] / "services"


def as_role(postgres_url: str, service: str) -> str:
    return postgres_url.replace("postgresql://postgres@", f"postgresql://{role_of(service)}@")


async def migrated(url: str, service: str) -> None:
    pool = await open_pool(url, name=service, schema=service, migrations=SERVICES / service / "migrations", size=1)
    await pool.close()


@pytest.fixture
async def owner(postgres_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


async def test_each_role_reads_its_own_schema_and_no_other(postgres_url: str) -> None:
    await make_roles(postgres_url)
    for service in OWNERS:
        await migrated(as_role(postgres_url, service), service)
    for service in OWNERS:
        connection = await asyncpg.connect(as_role(postgres_url, service))
        tables = await connection.fetch(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = ANY ($1)", list(OWNERS)
        )
        assert {schema for schema, _ in tables} == set(OWNERS)
        for schema, table in tables:
            query = f'SELECT count(*) FROM "{schema}"."{table}"'
            if schema == service:
                await connection.fetchval(query)
                continue
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetchval(query)
        for forbidden in (
            "CREATE TABLE public.mine ()",
            "CREATE ROLE friend",
            "SET ROLE postgres",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(forbidden)
        await connection.close()


async def test_what_the_version_before_has_made_is_handed_over(
    postgres_url: str, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    for service in OWNERS:
        await migrated(postgres_url, service)
    await owner.execute("INSERT INTO dialog.tenants VALUES ('acme', 'Acme', 'UTC', '')")
    for _ in range(2):  # a second start changes nothing
        await make_roles(postgres_url)
    for service in OWNERS:
        await migrated(as_role(postgres_url, service), service)
        left = await owner.fetch(
            "SELECT oid::regclass::text FROM pg_class"
            " WHERE relnamespace = $1::regnamespace AND relowner <> $2::regrole",
            service,
            role_of(service),
        )
        assert left == []
    dialog = await asyncpg.connect(as_role(postgres_url, "dialog"))
    assert await dialog.fetchval("SELECT display_name FROM dialog.tenants") == "Acme"
    await dialog.execute("ALTER TABLE dialog.tenants ADD COLUMN later text; SELECT nextval('dialog.bot_stamps')")
    await dialog.close()


async def test_a_given_server_needs_no_superuser(
    postgres_url: str, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    role = f"plain_{uuid4().hex[:8]}"
    await owner.execute(f"CREATE ROLE {role} LOGIN NOSUPERUSER")
    database = await owner.fetchval("SELECT current_database()")
    await owner.execute(f"GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {database} TO {role}")
    for service in OWNERS:
        await migrated(postgres_url.replace("postgres@", f"{role}@", 1), service)
    await owner.execute(f"DROP OWNED BY {role}")
    await owner.execute(f"DROP ROLE {role}")


async def test_a_service_that_is_faster_than_its_role_waits_for_it(postgres_url: str, tmp_path: Path) -> None:
    service = f"late_{uuid4().hex[:8]}"
    (tmp_path / "0001_first.sql").write_text(f"CREATE TABLE {service}.things ()")
    url = as_role(postgres_url, service)
    starting = asyncio.create_task(open_pool(url, name=service, schema=service, migrations=tmp_path, size=1))
    await asyncio.sleep(0.3)
    assert not starting.done()
    await make_roles(postgres_url, [service])
    pool = await starting
    await pool.execute(f"INSERT INTO {service}.things DEFAULT VALUES")
    await pool.close()
