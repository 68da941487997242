"""Bots in PostgreSQL."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import asyncpg
from google.protobuf.message import Message

from services.dialog.domain.bots import Bot
from services.dialog.postgres.cached_bots import bot_from
from services.dialog.postgres.database import Database
from services.dialog.postgres.queries import load
from services.dialog.postgres.records import settings_of
from services.dialog.postgres.request_ids import Once
from services.dialog.usecases.bots import BotRows
from services.kernel.errors import already_exists, not_found

if TYPE_CHECKING:
    from services.runtime.postgres import PoolConnection

Response = TypeVar("Response", bound=Message)

STEP = 500
"""Parked lanes that are woken in one transaction."""


class PostgresBots:
    """Reads bots, and opens transactions on them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("bots")
        self._once = Once(database)

    async def once(
        self,
        request: Message,
        response: type[Response],
        method: str,
        work: Callable[[BotRows], Awaitable[Response]],
    ) -> Response:
        return await self._once(request, response, method, lambda connection: work(_BotRows(connection, self._sql)))

    async def get(self, tenant_id: str, bot_id: str) -> Bot:
        row = await self._database.fetchrow(self._sql["get"], tenant_id, bot_id)
        return _found(row, bot_id)

    async def list(self, tenant_id: str, after: str, limit: int) -> Sequence[Bot]:
        return [bot_from(row) for row in await self._database.fetch(self._sql["list"], tenant_id, after, limit)]


class Awakenings:
    """Wakes the lanes of bots that were enabled or deleted, in steps: so many lanes are a long transaction."""

    def __init__(self, database: Database, woken: Callable[[], None]) -> None:
        self._database = database
        self._sql = load("bots")
        self._woken = woken

    async def step(self) -> bool:
        """One step for one bot; whether more is to be done. What one process leaves, any other goes on with."""

        async def work(connection: "PoolConnection") -> bool:
            row = await connection.fetchrow(self._sql["next_awakening"])
            if row is None:
                return False
            woken = await connection.fetchval(self._sql["wake"], row["tenant_id"], row["bot_id"], STEP)
            if woken < STEP:
                await connection.execute(self._sql["end_awakening"], row["tenant_id"], row["bot_id"])
            return True

        more = await self._database.transaction(work)
        if more:
            self._woken()
        return more


class _BotRows:
    """Bots within a transaction."""

    def __init__(self, connection: "PoolConnection", sql: Mapping[str, str]) -> None:
        self._connection = connection
        self._sql = sql

    async def insert(self, bot: Bot) -> Bot:
        try:
            row = await self._connection.fetchrow(self._sql["insert"], bot.tenant_id, bot.bot_id, settings_of(bot))
        except asyncpg.UniqueViolationError:
            raise already_exists("bot", bot.bot_id) from None
        except asyncpg.ForeignKeyViolationError:
            raise not_found("TENANT_NOT_FOUND", "tenant", "tenant_id", bot.tenant_id) from None
        return _found(row, bot.bot_id)

    async def lock(self, tenant_id: str, bot_id: str) -> Bot:
        return _found(await self._connection.fetchrow(self._sql["lock"], tenant_id, bot_id), bot_id)

    async def write(self, bot: Bot) -> Bot:
        row = await self._connection.fetchrow(
            self._sql["write"], bot.tenant_id, bot.bot_id, settings_of(bot), bot.enabled, bot.broken_reason
        )
        return _found(row, bot.bot_id)

    async def delete(self, tenant_id: str, bot_id: str) -> None:
        await self._connection.execute(self._sql["delete"], tenant_id, bot_id)

    async def wake_lanes(self, tenant_id: str, bot_id: str) -> None:
        if await self._connection.fetchval(self._sql["wake"], tenant_id, bot_id, STEP) == STEP:
            await self._connection.execute(self._sql["note_awakening"], tenant_id, bot_id)

    async def let_sleep(self, tenant_id: str, bot_id: str) -> None:
        await self._connection.execute(self._sql["end_awakening"], tenant_id, bot_id)


def _found(row: asyncpg.Record | None, bot_id: str) -> Bot:
    if row is None:
        raise not_found("BOT_NOT_FOUND", "bot", "bot_id", bot_id)
    return bot_from(row)
