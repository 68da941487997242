"""Makes a role per service in the embedded PostgreSQL, which owns its schema and can use no other.

The stack makes them at each start, as the server's owner and in one transaction, and services wait for theirs. What an
earlier version has made as the server's owner is handed over.
"""

import asyncio
import time
from collections.abc import Iterable

import asyncpg

from deploy.local.server import ServerFailed

OWNERS = ("context", "delivery", "dialog", "limits", "telemetry")
"""The services that have a schema."""
WAIT_FOR = 60.0
"""Seconds that the server may take to start."""
PAUSE = 0.05

_STARTING = (OSError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError)

_CLOSE = """
DO $$ BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    REVOKE ALL ON SCHEMA public FROM PUBLIC;
END $$
"""
_ROLE = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
        CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
    END IF;
    EXECUTE format('GRANT CONNECT, CREATE, TEMPORARY ON DATABASE %I TO {role}', current_database());
END $$
"""
_OWN = """
DO $$ DECLARE thing record; BEGIN
    CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {role};
    IF (SELECT nspowner FROM pg_namespace WHERE nspname = '{schema}') <> '{role}'::regrole THEN
        ALTER SCHEMA {schema} OWNER TO {role};
    END IF;
    FOR thing IN
        SELECT format('ALTER TABLE %s OWNER TO {role}', oid::regclass) AS command
        FROM pg_class AS class
        WHERE relnamespace = '{schema}'::regnamespace AND relowner <> '{role}'::regrole
            AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
            AND NOT EXISTS (  -- the sequence of a column goes with its table
                SELECT FROM pg_depend
                WHERE classid = 'pg_class'::regclass AND objid = class.oid AND relkind = 'S' AND deptype IN ('a', 'i')
            )
        UNION ALL
        SELECT format('ALTER ROUTINE %s OWNER TO {role}', oid::regprocedure) FROM pg_proc
        WHERE pronamespace = '{schema}'::regnamespace AND proowner <> '{role}'::regrole
        UNION ALL
        SELECT format('ALTER TYPE %s OWNER TO {role}', oid::regtype) FROM pg_type
        WHERE typnamespace = '{schema}'::regnamespace AND typowner <> '{role}'::regrole AND typtype IN ('e', 'd')
        UNION ALL
        SELECT format('ALTER STATISTICS {schema}.%I OWNER TO {role}', stxname) FROM pg_statistic_ext
        WHERE stxnamespace = '{schema}'::regnamespace AND stxowner <> '{role}'::regrole
    LOOP
        EXECUTE thing.command;
    END LOOP;
END $$
"""


def role_of(service: str) -> str:
    """Returns the role that a service connects as."""
    return f"parley_{service}"


async def make_roles(url: str, services: Iterable[str] = OWNERS, *, wait_for: float = WAIT_FOR) -> None:
    """Makes the roles and gives them their schemas, as the owner of the server at `url`. Raises `ServerFailed`."""
    connection = await _connect(url, time.monotonic() + wait_for)
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('parley roles', 0))")
            await connection.execute(_CLOSE)
            for service in services:
                names = {"role": role_of(service), "schema": service}
                await connection.execute(_ROLE.format(**names))
                await connection.execute(_OWN.format(**names))
    except asyncpg.PostgresError as error:
        raise ServerFailed(f"the services' roles could not be made in PostgreSQL: {error}") from error
    finally:
        await connection.close(timeout=5.0)


async def _connect(url: str, until: float) -> "asyncpg.Connection[asyncpg.Record]":
    while True:
        try:
            return await asyncpg.connect(url, timeout=5.0)
        except _STARTING as error:
            if time.monotonic() > until:
                raise ServerFailed(f"PostgreSQL does not answer: {error}") from error
        await asyncio.sleep(PAUSE)
