"""Composition root of the limits service."""

from pathlib import Path

from parley.limits.v1 import limits_pb2_grpc

from services.limits import metrics
from services.limits.domain.reservations import ReservationIds
from services.limits.postgres.ledger import PostgresLedger
from services.limits.postgres.rules import PostgresRules
from services.limits.redis.counters import RedisCounters
from services.limits.servicer import SERVICE, LimitsServicer
from services.limits.settings import LimitsSettings
from services.limits.usecases.administration import Administration
from services.limits.usecases.limits import Limits
from services.limits.usecases.rulebook import RuleBook
from services.runtime.background import periodic
from services.runtime.service import App, Runtime
from services.runtime.wakeups import Wakeups

TIDY = 600.0
"""Seconds between two looks for what nobody needs any more."""


async def build(runtime: Runtime, settings: LimitsSettings) -> App:
    """Puts the service together."""
    pool = await runtime.postgres("limits", Path(__file__).parent / "migrations")
    client = runtime.redis()
    counters = RedisCounters(client, settings.redis_prefix, budget=settings.limits_redis_budget_seconds)
    store, ledger = PostgresRules(pool), PostgresLedger(pool)
    changes = Wakeups(client, settings.redis_prefix, "limits-rules")
    book = RuleBook(store, counters, poll=lambda: changes.patience(settings.limits_poll_seconds))
    await book.refresh()
    book.on_change = changes.publish
    limits = Limits(book, counters, ledger, ReservationIds(runtime.keys.derive("limits reservations")), runtime.clock)

    servicer = LimitsServicer(limits, Administration(store, book))
    metrics.watch(runtime.metrics, servicer.decided)

    return App(
        servicers=[(SERVICE, limits_pb2_grpc.add_LimitsServiceServicer_to_server, servicer)],
        background=[
            book.run,
            changes.listen(lambda _: book.poke(), book.poke),
            periodic("charges and holds", ledger.tidy, every=TIDY),
        ],
        checks={"postgres": lambda: pool.fetchval("SELECT 1"), "redis": client.ping},
        spared=frozenset({"redis"}),
    )
