"""What the inbox costs when millions of messages lie in it: `python -m tests.benchmarks.volume [MESSAGES]`.

Fills the database of the version before, migrates it, and measures what the service does all day. Takes ten minutes and
15 GB for 5,000,000 messages.
"""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from uuid import UUID, uuid4

import asyncpg

from parley.dialog.v1.dialog_pb2 import SubmitMessageRequest

import services.dialog
from deploy.local.embedded import EmbeddedPostgres
from services.dialog.ports import Wanted
from services.dialog.postgres.database import Database
from services.dialog.postgres.handover import Handover
from services.dialog.postgres.inbox import PostgresInbox
from services.dialog.postgres.partitions import PARTITIONS
from services.dialog.postgres.reads import PostgresReads
from services.dialog.postgres.retention import Days, plan
from services.dialog.postgres.sealing import Sealing
from services.dialog.postgres.turns import PostgresTurns
from services.dialog.usecases.submit import new_message
from services.kernel.clock import SystemClock
from services.runtime.crypto import Sealer
from services.runtime.keys import Keys, ensure_keys
from services.runtime.lanes import FREE_FOR_ALL, Room
from services.runtime.migrations import migrate
from services.runtime.read_pool import ReadPool
from services.runtime.retention import Retention

MIGRATIONS = Path(next(iter(services.dialog.__path__))) / "migrations"
DAYS = 399
"""Over which the messages lie."""

FILL = """
ALTER TABLE dialog.turns DROP CONSTRAINT turns_pkey;
DROP INDEX dialog.messages_in_lane;
CREATE FUNCTION pg_temp.id_of(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(($BEGIN + n * $STEP)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3)
        || '8' || substr(md5(n::text), 4, 15))::uuid $$;
INSERT INTO dialog.tenants (tenant_id, display_name, time_zone, default_region) VALUES ('acme', '', 'UTC', '');
INSERT INTO dialog.messages (tenant_id, message_id, conversation_id, seq, channel_id, bot_id, request, received_at,
    state, dedupe_id, completed_at)
SELECT 'acme', pg_temp.id_of(n), md5((n % 200000)::text)::uuid, n / 200000 + 1, 'channel-' || n % 5, 'bot',
    '\\x$REQUEST', to_timestamp(($BEGIN + n * $STEP) / 1000), CASE WHEN n % 1000 = 1 THEN 5 ELSE 3 END,
    CASE WHEN n > $COUNT * (1 - 7.0 / $DAYS) THEN md5('d' || n)::uuid END, now()
FROM generate_series(0, $COUNT - 1) AS n;
INSERT INTO dialog.turns (conversation_id, last_seq, first_seq, turn_id, tenant_id, message_id, state, inputs,
    started_at)
SELECT md5((n % 200000)::text)::uuid, n / 200000 + 1, n / 200000 + 1, pg_temp.id_of(n), 'acme', pg_temp.id_of(n), 2,
    decode(repeat(md5(n::text), 10), 'hex'), now()
FROM generate_series(0, $COUNT - 1) AS n;
INSERT INTO dialog.replies (turn_id, index, state)
SELECT pg_temp.id_of(n), 0, 2 FROM generate_series(0, $COUNT - 1) AS n;
INSERT INTO dialog.lanes (lane_id, tenant_id, next_seq, done_seq, pending)
SELECT md5(n::text)::uuid, 'acme', $COUNT / 200000 + 1, $COUNT / 200000, 0 FROM generate_series(0, 199999) AS n;
INSERT INTO dialog.conversations (conversation_id, tenant_id, channel_id, bot_id, chat_id)
SELECT md5(n::text)::uuid, 'acme', 'channel-' || n % 5, 'bot', n::text FROM generate_series(0, 199999) AS n;
ALTER TABLE dialog.turns ADD PRIMARY KEY (conversation_id, last_seq);
CREATE UNIQUE INDEX messages_in_lane ON dialog.messages (conversation_id, seq) WHERE seq IS NOT NULL;
ANALYZE dialog.messages, dialog.turns, dialog.replies, dialog.lanes, dialog.conversations;
"""


async def fill(connection: "asyncpg.Connection[asyncpg.Record]", count: int) -> None:
    """The database of the version before, with so many messages."""
    with tempfile.TemporaryDirectory() as folder:
        (first,) = await asyncio.to_thread(lambda: list(MIGRATIONS.glob("0001_*.sql")))
        shutil.copy(first, folder)
        await migrate(connection, "dialog", Path(folder))
    begin = datetime.now(UTC) - timedelta(days=DAYS)
    words = {
        "$BEGIN": int(begin.timestamp() * 1000),
        "$STEP": DAYS * 86_400_000 / count,
        "$COUNT": count,
        "$DAYS": DAYS,
        "$REQUEST": request(0).SerializeToString().hex(),
    }
    sql = FILL
    for word, value in words.items():
        sql = sql.replace(word, str(value))
    await connection.execute(sql, timeout=3600)
    await connection.execute("CHECKPOINT", timeout=600)


async def split(connection: "asyncpg.Connection[asyncpg.Record]", now: datetime) -> None:
    """What lies in the first stretch, as it lies when each had been made in its time."""
    for table in PARTITIONS.tables[:3]:
        name = f"dialog.{table.name}"
        await connection.execute(f"ALTER TABLE {name} DETACH PARTITION {name}_first")
        for age in range(DAYS + 28, -1, -7):
            async with connection.transaction():
                await PARTITIONS.make(connection, now - timedelta(days=age))
        columns = await connection.fetchval(
            "SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = $1::text::regclass"
            " AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
            name,
        )
        move = f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {name}_first"
        await connection.execute(f"{move}; DROP TABLE {name}_first; ANALYZE {name}", timeout=3600)


async def timed(what: str, work: Callable[[], Awaitable[object]], times: int = 1) -> None:
    taken = []
    for _ in range(times):
        started = perf_counter()
        await work()
        taken.append(perf_counter() - started)
    worst = f", at most {max(taken) * 1000:.1f}" if times > 1 else ""
    print(f"{what:<60} {median(taken) * 1000:10.1f} ms{worst}", flush=True)


def request(chat: int) -> SubmitMessageRequest:
    made = SubmitMessageRequest(tenant_id="acme", channel_id="channel-1", bot_id="bot", chat_id=str(chat))
    made.dedupe_key = uuid4().hex
    made.content.text = "hello " * 10
    return made


async def measure(url: str, keys: Keys) -> None:
    pool = await asyncpg.create_pool(url, min_size=2, max_size=4)
    database, sealing = Database(pool), Sealing(Sealer(keys))
    turns = PostgresTurns(database, sealing, "benchmark", timedelta(minutes=10))
    inbox = PostgresInbox(database, sealing, Handover(turns))
    chats = iter(range(10**9))

    async def submit(together: int) -> None:
        await inbox.add([new_message(request(next(chats))) for _ in range(together)])

    async def claim() -> None:
        found = await turns.claim(Room(64, fairness=FREE_FOR_ALL))
        assert len(found.items) == 64

    reads = PostgresReads(database, ReadPool(pool), sealing)
    newest = (await reads.messages(Wanted("acme", None, None, ()), limit=1))[0][0]
    await timed("submit 1 message", lambda: submit(1), 100)
    await timed("submit 20 messages", lambda: submit(20), 100)
    await timed("claim 64 conversations with all that a worker needs", claim, 25)
    some = UUID(newest.message_id)
    await timed("read one message", lambda: reads.message("acme", some), 50)
    for what, wanted in (
        ("messages", Wanted("acme", None, None, ())),
        ("messages of a channel", Wanted("acme", None, "channel-3", ())),
        ("messages of a conversation", Wanted("acme", UUID(newest.conversation_id), None, ())),
        ("dead letters", Wanted("acme", None, None, (5,))),
        ("dead letters of a channel", Wanted("acme", None, "channel-3", (5,))),
    ):
        await timed(f"list 50 {what}", partial(reads.messages, wanted, limit=50), 20)
    await timed("list 50 conversations", lambda: reads.conversations("acme", channel_id=None, after=None, limit=50), 20)
    await timed("counts of the queue", lambda: reads.queue_stats("acme"), 20)
    now = datetime.now(UTC)
    await timed("forget 1,000 dedupe ids", lambda: inbox.forget_dedupe_ids(age=timedelta(days=2)), 10)
    retention = Retention(
        "dialog", pool, SystemClock(), lambda _: plan(database, Days(30, 30), now + timedelta(days=1))
    )
    steps = []
    started = perf_counter()
    more = True
    while more:
        began = perf_counter()
        more = await retention.look()
        steps.append(perf_counter() - began)
    rows = await pool.fetchval("SELECT sum(removed) FROM dialog.upkeep")
    print(
        f"retention to 30 days: {len(steps)} steps, {rows:,} rows in {perf_counter() - started:.1f} s, the longest step"
    )
    print(f"{'':<60} {max(steps) * 1000:10.1f} ms")
    await pool.close()


async def main(count: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="parley-volume-"))
    server = EmbeddedPostgres(folder / "data", options={"shared_buffers": "512MB", "max_wal_size": "8GB"})
    await asyncio.to_thread(server.start)
    try:
        ensure_keys(folder / "keys")
        connection = await asyncpg.connect(server.url, timeout=30)
        await timed(f"fill {count:,} messages", lambda: fill(connection, count))
        await timed("migrate", lambda: migrate(connection, "dialog", MIGRATIONS))
        await timed("lay them out as they lie after a year", lambda: split(connection, datetime.now(UTC)))
        await connection.execute("CHECKPOINT", timeout=600)
        await measure(server.url, Keys(folder / "keys"))
        await connection.close()
    finally:
        await asyncio.to_thread(server.stop)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1].replace(",", "")) if len(sys.argv) > 1 else 5_000_000))
