"""Bots as workers see them: in memory, and always as new as the claim that asks for them."""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import asyncpg
from cachetools import LRUCache

from services.dialog.domain.bots import Bot
from services.dialog.postgres.database import Database
from services.dialog.postgres.records import bot_of

Key = tuple[str, str]
"""Tenant and bot."""
KEPT = 512
"""Bots that are kept at most; the least recently used goes first. Each takes a few kilobytes, a long form 100."""


class CachedBot(NamedTuple):
    """A bot at a stamp, and its tenant's region of phone numbers and time zone."""

    stamp: int
    bot: Bot
    default_region: str
    time_zone: str


class BotCache:
    """Each claim brings the stamps of its bots along; a bot with another stamp than the known one is read again."""

    def __init__(self, database: Database, read: str, kept: int = KEPT) -> None:
        self._database = database
        self._read = read
        self._known: LRUCache[Key, CachedBot] = LRUCache(kept)

    def peek(self, key: Key) -> CachedBot | None:
        """The bot as it was read last, whatever has become of it."""
        return self._known.get(key)

    async def get(self, wanted: Iterable[tuple[Key, int]]) -> dict[Key, CachedBot]:
        """The bots with at least these stamps; one that was deleted meanwhile is not there."""
        stamps = dict(wanted)
        found = {key: self._known[key] for key in stamps if key in self._known}
        stale = [key for key, stamp in stamps.items() if key not in found or found[key].stamp < stamp]
        if stale:
            rows = await self._database.fetch(self._read, [key[0] for key in stale], [key[1] for key in stale])
            for key in stale:
                self._known.pop(key, None)
                found.pop(key, None)
            found |= {(row["tenant_id"], row["bot_id"]): _known(row) for row in rows}
        self._known.update(found)
        return found


def _known(row: asyncpg.Record) -> CachedBot:
    return CachedBot(row["stamp"], bot_from(row), row["default_region"], row["time_zone"])


def bot_from(row: asyncpg.Record) -> Bot:
    """A bot of a row with all columns."""
    return replace(
        bot_of(row["tenant_id"], row["bot_id"], row["settings"]),
        enabled=row["enabled"],
        broken_reason=row["broken_reason"],
        revision=row["revision"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
