"""Brings a service's schema up to date from numbered SQL files."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from services.runtime.logs import get_logger

log = get_logger(__name__)


class MigrationError(RuntimeError):
    """The files and the database do not agree."""


@dataclass(frozen=True)
class Migration:
    """A file `NNNN_name.sql`."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_migrations(folder: Path) -> list[Migration]:
    """Returns the migrations in a folder by number. Raises `MigrationError` unless the numbers run 1, 2, 3, ..."""
    migrations = []
    for path in sorted(folder.glob("*.sql")):
        number, _, name = path.stem.partition("_")
        if not number.isdigit():
            raise MigrationError(f"{path} is not named NNNN_name.sql")
        migrations.append(Migration(int(number), name, path.read_text()))
    if [each.number for each in migrations] != list(range(1, len(migrations) + 1)):
        raise MigrationError(f"the numbers in {folder} do not run from 0001 without gaps")
    return migrations


async def migrate(connection: "asyncpg.Connection[asyncpg.Record]", schema: str, folder: Path) -> list[str]:
    """Applies the migrations that are missing, each in a transaction of its own, and returns their names.

    Processes that start together take turns. Raises `MigrationError` if a file has changed since it was applied, or if
    the database is newer than the files.
    """
    migrations = read_migrations(folder)
    await connection.execute("SELECT pg_advisory_lock(hashtextextended('parley migrations ' || $1, 0))", schema)
    try:
        applied = await _applied(connection, schema)
        _compare(schema, migrations, applied)
        new = [each for each in migrations if each.number not in applied]
        for each in new:
            async with connection.transaction():
                await connection.execute(each.sql)
                await connection.execute(
                    f'INSERT INTO "{schema}".schema_migrations (number, name, checksum) VALUES ($1, $2, $3)',  # noqa: S608
                    each.number,
                    each.name,
                    each.checksum,
                )
            log.info("migrated", schema=schema, number=each.number, name=each.name)
        return [each.name for each in new]
    finally:
        if not connection.is_closed():
            await connection.execute(
                "SELECT pg_advisory_unlock(hashtextextended('parley migrations ' || $1, 0))", schema
            )


async def _applied(connection: "asyncpg.Connection[asyncpg.Record]", schema: str) -> dict[int, str]:
    await connection.execute(
        f"""
        CREATE SCHEMA IF NOT EXISTS "{schema}";
        CREATE TABLE IF NOT EXISTS "{schema}".schema_migrations (
            number integer PRIMARY KEY,
            name text NOT NULL,
            checksum text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    rows = await connection.fetch(f'SELECT number, checksum FROM "{schema}".schema_migrations')  # noqa: S608
    return {row["number"]: row["checksum"] for row in rows}


def _compare(schema: str, migrations: list[Migration], applied: dict[int, str]) -> None:
    known = {each.number: each for each in migrations}
    for number, checksum in applied.items():
        if number not in known:
            raise MigrationError(f"the database has migration {number} of {schema}, which this version does not know")
        if known[number].checksum != checksum:
            name = known[number].name
            raise MigrationError(f"migration {number} ({name}) of {schema} was changed after it had been applied")
