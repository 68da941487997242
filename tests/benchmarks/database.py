"""What PostgreSQL counted: commits, flushes of its log, bytes of log."""

from dataclasses import dataclass

import asyncpg

_COUNTERS = """
select
    (select sum(xact_commit) from pg_stat_database where datname is not null)::bigint as commits,
    (select coalesce(sum(fsyncs), 0) from pg_stat_io where object = 'wal')::bigint as flushes,
    (select wal_bytes from pg_stat_wal)::bigint as log_bytes
"""
_OLDER = _COUNTERS.replace(
    "(select coalesce(sum(fsyncs), 0) from pg_stat_io where object = 'wal')", "(select wal_sync from pg_stat_wal)"
)


@dataclass(frozen=True)
class Counters:
    """Since the server was made. `commits` has read-only transactions as well, `flushes` those to disk."""

    commits: int = 0
    flushes: int = 0
    log_bytes: int = 0

    def __sub__(self, other: "Counters") -> "Counters":
        return Counters(self.commits - other.commits, self.flushes - other.flushes, self.log_bytes - other.log_bytes)


async def counters(url: str) -> Counters:
    """Read them. Backends report about once a second, so short runs are inexact."""
    connection = await asyncpg.connect(url)
    try:
        query = _COUNTERS if connection.get_server_version().major >= 18 else _OLDER
        row = await connection.fetchrow(query)
        assert row is not None
        return Counters(row["commits"], row["flushes"], row["log_bytes"])
    finally:
        await connection.close()


async def durability(url: str) -> dict[str, str]:
    """The settings that decide what a commit promises."""
    connection = await asyncpg.connect(url)
    try:
        names = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "wal_sync_method")
        return {name: str(await connection.fetchval(f"show {name}")) for name in names}
    finally:
        await connection.close()
