"""Composition root of the delivery service."""

import asyncio
import os
import socket
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from parley.delivery.v1 import channel_pb2_grpc, delivery_pb2_grpc

from parley_client.dialog import DialogClient
from parley_client.limits import LimitsClient
from services.delivery.domain.channels import Channel
from services.delivery.domain.retry import RetryPolicy
from services.delivery.metrics import CHANNELS, LANES, SIGNALS, MeasuredCalls, QueueSize
from services.delivery.outcomes import OutcomeReporter
from services.delivery.postgres.channels import ChannelRows, PostgresChannelStore
from services.delivery.postgres.gates import PostgresGateStore
from services.delivery.postgres.outcomes import PostgresOutcomeStore
from services.delivery.postgres.partitions import PARTITIONS
from services.delivery.postgres.reading import PostgresReadStore
from services.delivery.postgres.resealing import reseal
from services.delivery.postgres.retention import plan
from services.delivery.postgres.retrying import PostgresRetryStore
from services.delivery.postgres.sealing import Sealing
from services.delivery.postgres.sending import PostgresSendStore
from services.delivery.postgres.statuses import PostgresStatusStore
from services.delivery.postgres.work import PostgresWorkStore
from services.delivery.providers.calls import HttpCalls
from services.delivery.providers.http import HttpClient
from services.delivery.providers.registry import KINDS, PROVIDERS
from services.delivery.rates import LimitsRates
from services.delivery.servicer.channels import ChannelServicer
from services.delivery.servicer.deliveries import DeliveryServicer
from services.delivery.settings import DeliverySettings
from services.delivery.usecases.admission import Admission
from services.delivery.usecases.gates import Gates
from services.delivery.usecases.handover import Handover
from services.delivery.usecases.mirror import ChannelMirror
from services.delivery.usecases.ports import Claimed
from services.delivery.usecases.releases import Releases
from services.delivery.usecases.send import SendMessages
from services.delivery.usecases.signals import Signals
from services.delivery.usecases.statuses import Statuses
from services.delivery.usecases.wait_reasons import WaitReasons
from services.delivery.usecases.work import Worker
from services.kernel.breaker import BreakerPolicy
from services.kernel.clock import SteadyClock
from services.runtime.background import periodic
from services.runtime.crypto import Sealer
from services.runtime.egress import Egress
from services.runtime.lanes import Dispatcher, Fairness, Found, Lanes, Room
from services.runtime.logs import get_logger
from services.runtime.retention import PAUSE, Retention
from services.runtime.service import App, Runtime
from services.runtime.tenant_retention import retention_of
from services.runtime.wakeups import Wakeups

log = get_logger(__name__)

LOOK = 10.0
"""Seconds between two looks at statuses that nobody could place."""
SOON = 0.2
"""Seconds between two steps of work that is done in steps."""
TIDY = 3600.0
GATHER = 0.02
"""Seconds between two claims under load: lanes that are claimed together share all batches that follow."""
GATES = "gates"
"""Told on the channels' topic: breakers and pauses have changed, and no channel."""
LONGEST_TIMER = 60.0
"""A lane that is due later than this is found by the poll."""


async def build(runtime: Runtime, settings: DeliverySettings) -> App:
    """Put the service together."""
    pool = await runtime.postgres("delivery", Path(__file__).parent / "migrations")
    redis = runtime.redis()
    lanes_heard = Wakeups(redis, settings.redis_prefix, "delivery.lanes")
    channels_heard = Wakeups(redis, settings.redis_prefix, "delivery.channels")
    lanes = Lanes("delivery")
    egress = Egress.of(settings.egress_allow)
    http = HttpClient(egress, timeout=settings.delivery_timeout_seconds, connections=settings.delivery_connections)
    runtime.on_close(http.close)

    def channel_changed() -> None:
        mirror.nudge()
        channels_heard.publish()

    sealer = Sealer(runtime.keys)
    sealing = Sealing(sealer)
    channel_store = PostgresChannelStore(pool, ChannelRows(sealer, KINDS), changed=channel_changed)
    mirror = ChannelMirror(channel_store, poll=lambda: channels_heard.patience(settings.delivery_channel_poll_seconds))
    await mirror.refresh()

    to_dialog = runtime.connect("dialog")
    reporter = OutcomeReporter(DialogClient(to_dialog), PostgresOutcomeStore(pool))
    holder = f"{socket.gethostname()}:{os.getpid()}"
    status_store = PostgresStatusStore(pool, sealing)
    statuses = Statuses(status_store, said=reporter.said, due=lambda: dispatcher.wake())
    work_store = PostgresWorkStore(pool, lanes, sealing, holder=holder, said=reporter.said, named=statuses.named)
    ttl = timedelta(seconds=settings.delivery_lease_seconds)

    def stored() -> None:
        if dispatcher.busy:
            lanes_heard.publish()  # this process has its hands full; others may be idle
        dispatcher.wake()

    def later(seconds: float) -> None:
        if seconds <= LONGEST_TIMER:
            dispatcher.wake(seconds)

    async def claim(room: Room) -> Found[Claimed]:
        return await work_store.claim(room, ttl)

    async def broken(channel: Channel, reason: str) -> bool:
        marked = await channel_store.mark_broken(channel, reason)
        if marked:
            log.error(
                "the provider refuses a channel: nothing is sent by it until it is enabled again",
                alert=True,
                tenant_id=channel.tenant_id,
                channel_id=channel.channel_id,
                reason=reason,
            )
            await mirror.refresh()
        return marked

    gate_store = PostgresGateStore(pool)
    gates = Gates(
        BreakerPolicy(
            failures=settings.delivery_breaker_failures,
            first_open=settings.delivery_breaker_seconds,
            probe=settings.delivery_timeout_seconds + 5.0,
        ),
        gate_store,
        SteadyClock(runtime.clock),
        told=lambda: channels_heard.publish(GATES),
        poll=lambda: channels_heard.patience(settings.delivery_channel_poll_seconds),
    )
    await gates.refresh()

    def released() -> None:
        dispatcher.wake()
        lanes_heard.publish()

    releases = Releases(gates, work_store.due_now, released)
    runtime.on_close(releases.close)
    mirror.subscribe(releases.changed)
    rates = LimitsRates(
        LimitsClient(runtime.connect("limits")),
        max_wait=settings.delivery_rate_max_wait_seconds,
        per_minute=settings.delivery_rate_alone_per_minute,
    )
    mirror.subscribe(lambda event: rates.drop(event.key) if isinstance(event, Channel) else rates.forget(event.key))
    calls = HttpCalls(http, runtime.clock)
    worker = Worker(
        store=work_store,
        channels=mirror,
        providers=PROVIDERS,
        calls=MeasuredCalls(calls, runtime.metrics),
        admission=Admission(
            providers=PROVIDERS,
            rates=rates,
            gates=gates,
            clock=runtime.clock,
            broken=broken,
            recovered=releases.recovered,
        ),
        policy=retry_policy(settings),
        clock=runtime.clock,
        later=later,
    )
    dispatcher: Dispatcher[Claimed] = Dispatcher(
        claim=claim,
        renew=work_store.renew,
        release=work_store.release,
        work=worker.work,
        concurrency=settings.delivery_concurrency,
        fairness=Fairness(tenant=settings.delivery_fair_tenant, share=settings.delivery_fair_share),
        ttl=settings.delivery_lease_seconds,
        gather=GATHER,
        drain=max(0.5, settings.drain_seconds - 1.0),
    )
    runtime.metrics.watch(LANES, lambda: dispatcher.running)
    runtime.metrics.watch(CHANNELS, lambda: len(gates))
    signals = Signals(
        mirror,
        lambda signal, channel: calls.signal(PROVIDERS[channel.provider], signal, channel),
        shows=lambda channel: channel.provider in PROVIDERS and PROVIDERS[channel.provider].signal is not None,
        is_open=gates.is_open,
        busy=lambda: dispatcher.busy,
    )
    runtime.on_close(signals.close)
    runtime.metrics.watch(SIGNALS, lambda: dict(signals.outcomes))
    handover = Handover(
        channels=mirror, providers=PROVIDERS, rates=rates, gates=gates, places=dispatcher, clock=runtime.clock
    )
    sends = SendMessages(
        PostgresSendStore(pool, sealing, handover, holder=holder, ttl=ttl, stored=stored),
        mirror,
        PROVIDERS,
    )
    reading = PostgresReadStore(pool, await runtime.reads(), sealing)
    QueueSize(runtime.metrics, reading.stats)
    servicer = DeliveryServicer(
        sends,
        mirror,
        reading,
        PostgresRetryStore(pool, lanes, sealing, stored=stored),
        statuses,
        WaitReasons(mirror, gates, runtime.clock),
        signals,
    )

    async def work(stop: asyncio.Event) -> None:
        """Sends, and tells dialog; what is sent while draining is told as well."""
        quiet = asyncio.Event()
        telling = asyncio.create_task(reporter.run(quiet))
        try:
            await dispatcher.run(stop)
        finally:
            quiet.set()
            await telling

    def hear_of_channels(items: Sequence[str]) -> None:
        if GATES in items:
            gates.nudge()
        if any(item != GATES for item in items):
            mirror.nudge()

    days_of = retention_of(to_dialog, lambda retention: retention.deliveries_days)
    retention = Retention(
        "delivery", pool, runtime.clock, lambda now: plan(pool, days_of, settings.retention_deliveries_days, now)
    )

    async def make_partitions() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await PARTITIONS.make(connection, runtime.clock.now())

    return App(
        servicers=[
            (
                "parley.delivery.v1.DeliveryService",
                delivery_pb2_grpc.add_DeliveryServiceServicer_to_server,
                servicer,
            ),
            (
                "parley.delivery.v1.ChannelService",
                channel_pb2_grpc.add_ChannelServiceServicer_to_server,
                ChannelServicer(channel_store, mirror, KINDS, egress),
            ),
        ],
        background=[
            work,
            mirror.run,
            gates.run,
            lanes_heard.listen(lambda _: dispatcher.wake(), dispatcher.wake),
            channels_heard.listen(hear_of_channels, lambda: hear_of_channels((GATES, ""))),
            statuses.run,
            periodic("statuses", statuses.look, every=LOOK, soon=SOON),
            periodic("retention", retention.look, every=settings.retention_every_seconds, soon=PAUSE),
            periodic("partitions", make_partitions, every=TIDY / 6),
            periodic("old statuses", status_store.expire, every=TIDY, soon=SOON),
            periodic("gates", gate_store.expire, every=TIDY),
            periodic("request ids", channel_store.expire, every=TIDY),
            periodic("older master keys", lambda: reseal(pool, sealer), every=TIDY),
        ],
        checks={"postgres": lambda: pool.fetchval("SELECT 1")},
    )


def retry_policy(settings: DeliverySettings) -> RetryPolicy:
    return RetryPolicy(
        tries=settings.delivery_tries,
        first_delay=settings.delivery_first_delay_seconds,
        longest_delay=settings.delivery_longest_delay_seconds,
        patience=settings.delivery_patience_seconds,
        unknown=settings.delivery_unknown_policy,
        hold_seconds=settings.delivery_hold_seconds,
    )
