"""Composition root of the context service."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from parley.context.v1 import context_pb2_grpc

from services.context import metrics
from services.context.domain.documents import Contact, Conversation, Lifetimes
from services.context.postgres.retention import plan
from services.context.postgres.store import PostgresStore
from services.context.redis.cache import RedisCache
from services.context.redis.state import RedisState
from services.context.redis.subscriber import Subscriber
from services.context.sealing import Sealing
from services.context.servicer import ContextServicer
from services.context.settings import ContextSettings
from services.context.usecases.cache_levels import CacheLevels
from services.context.usecases.contexts import Contexts
from services.context.usecases.memory import Memory
from services.context.usecases.statistics import Stats
from services.runtime.background import periodic
from services.runtime.context_changes import HEARTBEAT_SECONDS
from services.runtime.crypto import Sealer
from services.runtime.retention import PAUSE, Retention, Task
from services.runtime.service import App, Runtime


async def build(runtime: Runtime, settings: ContextSettings) -> App:
    """Puts the service together."""
    pool = await runtime.postgres("context", Path(__file__).parent / "migrations")
    client = runtime.redis()
    sealing = Sealing(Sealer(runtime.keys), runtime.keys.derive("context identities"))
    conversations = Memory[Conversation](settings.context_memory_entries, settings.context_memory_seconds)
    contacts = Memory[Contact](settings.context_memory_entries, settings.context_memory_seconds)
    lifetimes = Lifetimes(
        dialog=settings.context_dialog_seconds * 1000,
        messages=settings.context_messages_seconds * 1000,
        client=settings.context_client_seconds * 1000,
        preferences=settings.context_preferences_seconds * 1000,
    )
    store = PostgresStore(pool, sealing)
    stats = Stats()
    state = RedisState(store)
    await state.look()
    cache = RedisCache(
        client,
        settings.redis_prefix,
        sealing,
        state,
        stats,
        timeout=settings.context_redis_timeout_seconds,
        milliseconds=settings.context_messages_seconds * 1000,
    )
    subscriber = Subscriber(client, settings.redis_prefix, cache, state, conversations, contacts)
    levels = CacheLevels(store, cache, conversations, contacts, stats)
    metrics.watch(runtime.metrics, stats, lambda: len(conversations) + len(contacts))
    contexts = Contexts(levels, lifetimes, lambda: time.time_ns() // 1_000_000, sealing.conversation)
    servicer = ContextServicer(contexts)

    async def tasks(now: datetime) -> Sequence[Task]:
        return plan(now, settings.retention_messages_days, timedelta(seconds=settings.context_messages_seconds))

    retention = Retention("context", pool, runtime.clock, tasks)
    name = "parley.context.v1.ContextService"
    return App(
        servicers=[(name, context_pb2_grpc.add_ContextServiceServicer_to_server, servicer)],
        background=[
            subscriber.listen,
            subscriber.make_up,
            periodic("heartbeat", subscriber.beat, every=HEARTBEAT_SECONDS),
            periodic("expired documents", retention.look, every=settings.retention_every_seconds, soon=PAUSE),
        ],
        checks={"postgres": lambda: pool.fetchval("SELECT 1"), "redis": client.ping},
        spared=frozenset({"redis"}),
    )
