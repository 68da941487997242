"""Databases as the version before has left them."""

import shutil
import tempfile
from pathlib import Path

import asyncpg

from services.runtime.migrations import migrate


async def restore(connection: "asyncpg.Connection[asyncpg.Record]", schema: str, migrations: Path) -> None:
    """Make a service's schema as it was at its first migration, with the rows of `<schema>_0001.sql` if any."""
    with tempfile.TemporaryDirectory() as folder:
        _copy_first(migrations, folder)
        await migrate(connection, schema, Path(folder))
    rows = Path(__file__).parent / f"{schema}_0001.sql"
    if rows.exists():
        await connection.execute(rows.read_text())


def _copy_first(migrations: Path, folder: str) -> None:
    (first,) = migrations.glob("0001_*.sql")
    shutil.copy(first, folder)
