"""What PostgreSQL counted: commits, flushes of its log, bytes of log, rows written."""

from collections.abc import Mapping
from dataclasses import dataclass, field

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
_ROWS = """
select
    coalesce(whole.relnamespace::regnamespace::text || '.' || whole.relname, schemaname || '.' || stat.relname) as name,
    sum(n_tup_ins)::bigint as inserted,
    sum(n_tup_upd)::bigint as updated,
    sum(n_tup_hot_upd)::bigint as in_place,
    sum(n_tup_del)::bigint as deleted
from pg_stat_user_tables stat
left join pg_inherits on inhrelid = stat.relid
left join pg_class whole on whole.oid = inhparent
group by 1
"""


@dataclass(frozen=True)
class Rows:
    """Rows of a table that were written. Of the `updated`, so many `in_place`: without writing to any index."""

    inserted: int = 0
    updated: int = 0
    in_place: int = 0
    deleted: int = 0

    @property
    def written(self) -> int:
        return self.inserted + self.updated + self.deleted

    def __sub__(self, other: "Rows") -> "Rows":
        return Rows(*(mine - theirs for mine, theirs in zip(self._all(), other._all(), strict=True)))

    def _all(self) -> tuple[int, int, int, int]:
        return self.inserted, self.updated, self.in_place, self.deleted


@dataclass(frozen=True)
class Counters:
    """Since the server was made. `commits` has read-only transactions as well, `flushes` those to disk."""

    commits: int = 0
    flushes: int = 0
    log_bytes: int = 0
    rows: Mapping[str, Rows] = field(default_factory=dict)
    """By table, with its schema; what is partitioned is one table."""

    @property
    def rows_written(self) -> int:
        return sum(rows.written for rows in self.rows.values())

    def __sub__(self, other: "Counters") -> "Counters":
        return Counters(
            self.commits - other.commits,
            self.flushes - other.flushes,
            self.log_bytes - other.log_bytes,
            {name: rows - other.rows.get(name, Rows()) for name, rows in self.rows.items()},
        )


async def counters(url: str) -> Counters:
    """Read them. Backends report about once a second, so short runs are inexact."""
    connection = await asyncpg.connect(url)
    try:
        query = _COUNTERS if connection.get_server_version().major >= 18 else _OLDER
        row = await connection.fetchrow(query)
        assert row is not None
        rows = {name: Rows(*counts) for name, *counts in await connection.fetch(_ROWS)}
        return Counters(row["commits"], row["flushes"], row["log_bytes"], rows)
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
