"""What all processes know of channels that calls should spare."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from services.delivery.usecases.ports import Shut
from services.runtime.queries import load_queries

if TYPE_CHECKING:
    from services.runtime.postgres import Pool

QUERIES = load_queries(Path(__file__).parent / "gates.sql")


class PostgresGateStore:
    """`GateStore` on Postgres."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def read(self) -> Mapping[int, Shut]:
        return {row[0]: Shut(*tuple(row)[1:]) for row in await self._pool.fetch(QUERIES["read"])}

    async def write(self, channel_key: int, shut: Shut | None) -> None:
        if shut is None:
            await self._pool.execute(QUERIES["clear"], channel_key)
            return
        await self._pool.execute(
            QUERIES["write"], channel_key, shut.open_for, shut.openings, shut.paused_for, shut.pauses
        )

    async def probe(self, channel_key: int, seconds: float) -> bool:
        return bool(await self._pool.fetchval(QUERIES["probe"], channel_key, seconds))

    async def expire(self) -> None:
        """Forgets what nobody has used for long."""
        await self._pool.execute(QUERIES["expire"])
