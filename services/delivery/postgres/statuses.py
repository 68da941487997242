"""Takes in what providers say of sent messages."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from services.delivery.domain import deliveries, statuses
from services.delivery.domain.channels import Channel
from services.delivery.domain.outbox import Delivery, Outcome, ProviderStatus, ReplyState, part_of
from services.delivery.domain.parts import PartState
from services.delivery.domain.scrubbing import scrub, without_phones
from services.delivery.domain.statuses import Effect, Report
from services.delivery.postgres.reading import COLUMNS, delivery_of
from services.delivery.postgres.sealing import Sealing
from services.delivery.postgres.sending import QUERIES as OUTBOX
from services.delivery.usecases.ports import Said
from services.runtime.lanes import Connection
from services.runtime.postgres import retry_deadlocks
from services.runtime.queries import load_queries

if TYPE_CHECKING:
    from services.runtime.postgres import Pool

QUERIES = load_queries(Path(__file__).parent / "statuses.sql", columns=COLUMNS)
_BATCH = 100


class PostgresStatusStore:
    """`StatusStore` on Postgres. `said` gets outcomes once they are stored, `due` hears that a lane has become due."""

    def __init__(
        self, pool: "Pool", sealing: Sealing, *, said: Callable[[Sequence[Said]], None], due: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._sealing = sealing
        self._said = said
        self._due = due

    async def report(self, channel: Channel, report: Report, dedupe_key: str) -> bool:
        """Keeps a status and lets it take effect, now or when its part is known. True when it was kept before."""
        kept = await self._pool.fetchval(
            QUERIES["keep"],
            channel.key,
            dedupe_key,
            report.provider_message_id,
            report.external_id,
            report.status,
            _time(report.at),
            without_phones(report.error),
        )
        if kept is None:
            return True
        await self._match(channel.key, dedupe_key, channel.tenant_id, report)
        return False

    async def sweep(self) -> int:
        """Tries statuses again that had no effect yet; returns how many have had it now."""
        rows = await self._pool.fetch(QUERIES["unmatched"], _BATCH)
        matched = 0
        for key, dedupe_key, tenant_id, provider_message_id, external_id, status, at, error in rows:
            milliseconds = int(at.timestamp() * 1000)
            report = Report(ProviderStatus(status), milliseconds, provider_message_id, external_id, error)
            matched += await self._match(key, dedupe_key, tenant_id, report)
        return matched

    async def expire(self) -> None:
        await self._pool.execute(QUERIES["expire"])

    async def _match(self, channel_key: int, dedupe_key: str, tenant_id: str, report: Report) -> bool:
        said = await retry_deadlocks(lambda: self._apply(channel_key, dedupe_key, tenant_id, report))
        if said:
            self._said(said)
        return said is not None

    async def _apply(self, channel_key: int, dedupe_key: str, tenant_id: str, report: Report) -> list[Said] | None:
        """None when the status has to wait for its part."""
        async with self._pool.acquire() as conn, conn.transaction():
            found = await conn.fetchrow(QUERIES["find"], channel_key, report.provider_message_id)
            target = tuple(found) if found is not None else part_of(report.external_id)
            if target is None:
                return None
            delivery_id, index = target
            row = await conn.fetchrow(QUERIES["lock"], tenant_id, delivery_id, channel_key)
            delivery = None if row is None else delivery_of(row, self._sealing)
            if delivery is None or not 0 <= index < len(delivery.parts):
                return None
            report = replace(report, error=_scrubbed(report.error, delivery, index))
            effect = statuses.apply(delivery.parts, index, report)
            if effect is None:
                return None
            said = await self._store(conn, delivery, effect, report)
            await conn.execute(QUERIES["matched"], channel_key, dedupe_key)
        return said

    async def _store(self, conn: Connection, delivery: Delivery, effect: Effect, report: Report) -> list[Said]:
        key = (delivery.tenant_id, delivery.delivery_id)
        at = _time(report.at)
        if effect.parts is not None:
            await store_parts(conn, *key, effect.parts)
            await conn.execute(OUTBOX["lane_due_now"], delivery.lane_id)
            self._due()
        if ReplyState.DELIVERED in effect.outcomes or ReplyState.READ in effect.outcomes:
            await conn.execute(QUERIES["mark"], *key, at, ReplyState.READ in effect.outcomes)
        said = []
        for state in effect.outcomes:
            error = (report.error or "the provider could not send it") if state is ReplyState.DEAD else ""
            outcome_id = await conn.fetchval(QUERIES["tell"], *key, state, at, error)
            outcome = Outcome(
                delivery.tenant_id,
                delivery.delivery_id,
                delivery.message_id,
                delivery.reply_index,
                state,
                at,
                error,
                delivery.traceparent,
                delivery.tracestate,
            )
            said.append(Said(outcome_id, outcome))
        return said


async def store_parts(conn: Connection, tenant_id: str, delivery_id: UUID, parts: deliveries.Parts) -> None:
    """New parts of a delivery that the caller has locked, and its dead letter as it is with them."""
    state = deliveries.state(parts)
    sent_at = _time(deliveries.last_sent(parts)) if state is PartState.SENT else None
    await conn.execute(
        QUERIES["change"],
        tenant_id,
        delivery_id,
        deliveries.to_json(parts),
        state,
        deliveries.tries(parts),
        sent_at,
    )
    dead = sum(part.state is PartState.DEAD for part in parts)
    if dead:
        await conn.execute(QUERIES["bury"], tenant_id, delivery_id, dead)
    else:
        await conn.execute(QUERIES["raise"], tenant_id, delivery_id)


def _scrubbed(error: str, delivery: Delivery, index: int) -> str:
    """Without what the part says: the text itself, or as it is in a status that was kept for later."""
    text = delivery.part_text(index)
    return scrub(error, (text, without_phones(text), delivery.chat_id))


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
