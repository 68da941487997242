"""Composition root of the dialog service."""

import os
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from secrets import token_hex

from parley.dialog.v1 import bot_pb2_grpc, dialog_pb2_grpc, order_pb2_grpc, tenant_pb2, tenant_pb2_grpc

from parley_client.context import ContextClient
from parley_client.delivery import ChannelClient, DeliveryClient
from parley_client.limits import LimitsClient
from services.dialog.domain.bots import Bot
from services.dialog.domain.flows import Budget, Flow
from services.dialog.domain.items import Item
from services.dialog.flows.registry import check_flow, make_flows
from services.dialog.kept_contexts import KeptContexts
from services.dialog.metrics import (
    AWAY,
    LANES,
    EndedTurns,
    MeasuredModel,
    QueueSize,
)
from services.dialog.model import open_model
from services.dialog.model.guarded import GuardedModel
from services.dialog.peers import (
    ChannelPeer,
    ContextPeer,
    DeliveryPeer,
    QuotaPeer,
)
from services.dialog.postgres.answered import PostgresAnswered
from services.dialog.postgres.bots import Awakenings, PostgresBots
from services.dialog.postgres.database import Database
from services.dialog.postgres.handover import Handover
from services.dialog.postgres.inbox import PostgresInbox
from services.dialog.postgres.partitions import PARTITIONS
from services.dialog.postgres.queries import SCHEMA
from services.dialog.postgres.reads import PostgresReads
from services.dialog.postgres.retention import Days, plan
from services.dialog.postgres.sealing import Sealing
from services.dialog.postgres.steps import PostgresSteps
from services.dialog.postgres.tenants import PostgresTenants
from services.dialog.postgres.turns import PostgresTurns
from services.dialog.redis.chats import RedisChats
from services.dialog.redis.context_changes import ContextChanges
from services.dialog.redis.waker import Waker
from services.dialog.servicer.bots import BotServicer
from services.dialog.servicer.dialog import DialogServicer
from services.dialog.servicer.orders import OrderServicer
from services.dialog.servicer.tenants import TenantServicer
from services.dialog.settings import DialogSettings
from services.dialog.usecases.bots import Bots
from services.dialog.usecases.chat import Chat
from services.dialog.usecases.decide import Decide
from services.dialog.usecases.effects import Effects
from services.dialog.usecases.late_answers import LateAnswers
from services.dialog.usecases.messages import Messages
from services.dialog.usecases.reservations import Reservations
from services.dialog.usecases.run_turn import RunTurn, asks_model
from services.dialog.usecases.submit import Submit
from services.dialog.usecases.tenants import Tenants
from services.runtime.background import periodic
from services.runtime.crypto import Sealer
from services.runtime.idempotency import Requests
from services.runtime.lanes import Dispatcher, Fairness
from services.runtime.retention import PAUSE, Retention
from services.runtime.service import App, Background, Runtime
from services.runtime.wakeups import Wakeups

Flows = Callable[[Bot], Flow]

AWAKENINGS = 5.0
"""Seconds between two looks for bots whose lanes are to be woken beyond the first few."""
GATHER = 0.03
"""Seconds between two claims under load: turns that are claimed together share all batches that follow."""


async def build(runtime: Runtime, settings: DialogSettings, flow_for: Flows | None = None) -> App:
    """Put the service together. Tests give their own flows."""
    check_model = nothing
    if flow_for is None:
        flow_for, check_model = await open_flows(runtime, settings)
    pool = await runtime.postgres(SCHEMA, Path(__file__).parent / "migrations")
    redis = runtime.redis()
    database = Database(pool)

    process = f"{socket.gethostname()}-{os.getpid()}-{token_hex(4)}"
    sealing = Sealing(Sealer(runtime.keys))
    reads = PostgresReads(database, await runtime.reads(), sealing)
    QueueSize(runtime.metrics, reads.queue_stats)
    turns = PostgresTurns(database, sealing, process, timedelta(seconds=settings.dialog_lease_seconds))
    kept = KeptContexts(settings.dialog_context_bytes)
    changes = ContextChanges(redis, settings.redis_prefix, kept)
    contexts = ContextPeer(ContextClient(runtime.connect("context")), kept)
    handover = Handover(turns, GATHER, contexts.ask_ahead)
    inbox, bots = PostgresInbox(database, sealing, handover), PostgresBots(database)
    chats = RedisChats(redis, settings.redis_prefix, process, PostgresAnswered(database))
    waker = Waker(Wakeups(redis, settings.redis_prefix, "dialog"))

    quota = QuotaPeer(LimitsClient(runtime.connect("limits")), runtime.clock)
    to_delivery = runtime.connect("delivery")
    deliveries = DeliveryPeer(DeliveryClient(to_delivery))
    steps = PostgresSteps(database, sealing)
    decide = Decide(
        turns,
        steps,
        contexts,
        Reservations(quota),
        chats,
        LateAnswers(steps, deliveries, runtime.clock, settings.dialog_answer_seconds),
        flow_for,
        runtime.clock,
        budget_of(settings),
        check_model,
        show_text=settings.log_message_text,
    )
    effects = Effects(contexts, deliveries, quota)
    ended = EndedTurns(runtime.metrics, runtime.clock)
    run_turn = RunTurn(turns, decide, effects, chats, runtime.clock, waker.wake_later, waker.leave, ended)

    submit = Submit(inbox, waker.wake)
    messages = Messages(reads, inbox.retry, waker.wake)
    dialog = DialogServicer(submit, Chat(submit, reads, chats, bots, runtime.clock), messages)
    keeping = Bots(bots, ChannelPeer(ChannelClient(to_delivery)), check_flow, waker.wake)
    tenants = Tenants(PostgresTenants(database), kept_for(settings), runtime.clock)

    background: list[Background] = [
        chats.listen,
        chats.look,
        waker.listen,
        changes.listen,
        *upkeep(runtime, settings, database, inbox, waker),
    ]
    if settings.dialog_workers:
        dispatcher = dispatcher_of(settings, turns, run_turn)
        runtime.metrics.watch(LANES, lambda: dispatcher.running)
        waker.attach(dispatcher)
        handover.attach(dispatcher)
        background.append(dispatcher.run)

    package = "parley.dialog.v1"
    return App(
        servicers=[
            (f"{package}.DialogService", dialog_pb2_grpc.add_DialogServiceServicer_to_server, dialog),
            (f"{package}.BotService", bot_pb2_grpc.add_BotServiceServicer_to_server, BotServicer(keeping)),
            (f"{package}.OrderService", order_pb2_grpc.add_OrderServiceServicer_to_server, OrderServicer(messages)),
            (f"{package}.TenantService", tenant_pb2_grpc.add_TenantServiceServicer_to_server, TenantServicer(tenants)),
        ],
        background=background,
        checks={"postgres": lambda: pool.fetchval("SELECT 1"), "redis": redis.ping},
        spared=frozenset({"redis"}),
    )


def dispatcher_of(settings: DialogSettings, turns: PostgresTurns, run_turn: RunTurn) -> Dispatcher[Item]:
    """What leases lanes and works on them, as many and as fairly as the settings say."""
    return Dispatcher(
        claim=turns.claim,
        renew=turns.renew,
        release=turns.release,
        work=run_turn,
        concurrency=settings.dialog_workers,
        asks=asks_model,
        fairness=Fairness(
            tenant=settings.dialog_fair_tenant,
            share=settings.dialog_fair_share,
            asking=settings.dialog_fair_asking,
        ),
        ttl=settings.dialog_lease_seconds,
        gather=GATHER,
        drain=settings.drain_seconds * 0.8,
    )


def upkeep(
    runtime: Runtime, settings: DialogSettings, database: Database, inbox: PostgresInbox, waker: Waker
) -> list[Background]:
    """What is done now and then: data that has had its time goes, room is made for new data, parked lanes are woken."""
    requests = Requests(SCHEMA)
    days = Days(settings.retention_messages_days, settings.retention_journal_days, settings.retention_orders_days)
    retention = Retention(SCHEMA, database.pool, runtime.clock, lambda now: plan(database, days, now))

    async def make_partitions() -> object:
        return await database.transaction(lambda connection: PARTITIONS.make(connection, runtime.clock.now()))

    return [
        periodic("dedupe ids", inbox.forget_dedupe_ids, every=settings.dialog_dedupe_sweep_seconds, soon=0.05),
        periodic("retention", retention.look, every=settings.retention_every_seconds, soon=PAUSE),
        periodic("awakenings", Awakenings(database, waker.wake).step, every=AWAKENINGS, soon=0.02),
        periodic("partitions", make_partitions, every=600.0),
        periodic("request ids", lambda: requests.tidy(database.pool), every=3600.0),
    ]


async def open_flows(runtime: Runtime, settings: DialogSettings) -> tuple[Flows, Callable[[], None]]:
    """The flows, on the model that the settings name; and what raises DecisionError while that is away."""
    opened = await open_model(
        base_url=settings.openai_base_url,
        api_key=settings.openai_api_key,
        default_model=settings.dialog_model,
        show_text=settings.log_message_text,
    )
    model = GuardedModel(MeasuredModel(opened, runtime.metrics))
    runtime.on_close(model.close)
    runtime.metrics.watch(AWAY, lambda: float(model.wait() > 0))
    return make_flows(model), model.check


def budget_of(settings: DialogSettings) -> Budget:
    """What one turn may use."""
    return Budget(
        steps=settings.dialog_turn_steps,
        seconds=settings.dialog_decision_seconds,
        tokens=settings.dialog_turn_tokens,
        price_micros_usd=round(settings.dialog_turn_usd * 1e6),
    )


def kept_for(settings: DialogSettings) -> tenant_pb2.Retention:
    """For how long data is kept of which its tenant says nothing."""
    return tenant_pb2.Retention(
        messages_days=settings.retention_messages_days,
        journal_days=settings.retention_journal_days,
        deliveries_days=settings.retention_deliveries_days,
        spans_days=settings.telemetry_days,
        orders_days=settings.retention_orders_days,
    )


def nothing() -> None:
    """There is no model that could be away."""
