"""Bots as workers see them: in memory, and always as new as the claim that asks for them."""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import asyncpg

from services.dialog.domain import Bot
from services.dialog.postgres.database import Database
from services.dialog.records import bot_of

Key = tuple[str, str]
"""Tenant and bot."""


class Known(NamedTuple):
    """A bot at a stamp, and the region of its tenant's phone numbers."""

    stamp: int
    bot: Bot
    default_region: str


class BotCache:
    """Each claim brings the stamps of its bots along; a bot with another stamp than the known one is read again."""

    def __init__(self, database: Database, read: str) -> None:
        self._database = database
        self._read = read
        self._known: dict[Key, Known] = {}

    async def get(self, wanted: Iterable[tuple[Key, int]]) -> dict[Key, Known]:
        """The bots with at least these stamps; one that was deleted meanwhile is not there."""
        stamps = dict(wanted)
        stale = [key for key, stamp in stamps.items() if key not in self._known or self._known[key].stamp < stamp]
        if stale:
            rows = await self._database.fetch(self._read, [key[0] for key in stale], [key[1] for key in stale])
            for key in stale:
                self._known.pop(key, None)
            for row in rows:
                self._known[row["tenant_id"], row["bot_id"]] = Known(row["stamp"], bot_from(row), row["default_region"])
        return {key: self._known[key] for key in stamps if key in self._known}


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
