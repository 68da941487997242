"""Contexts of turns that wait for company are asked for meanwhile, once, and in the trace of their message."""

import asyncio
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

import grpc
import pytest
from opentelemetry import trace

from parley.common.v1.identity_pb2 import Sender
from parley.context.v1 import context_pb2
from parley.dialog.v1.dialog_pb2 import SubmitMessageRequest

from parley_client.context import ContextClient
from parley_client.errors import CLASSES
from services.dialog.domain.turns import Waiting
from services.dialog.kept_contexts import SETTLE_SECONDS, KeptContexts
from services.dialog.peers import ContextPeer
from services.dialog.ports import NotNow
from services.runtime.lanes import Lease

NOW = datetime(2026, 11, 22, tzinfo=UTC)
SENDER = Sender(display_name="Aigul")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Context:
    """A context service that answers when it may."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.requests: list[context_pb2.GetContextRequest] = []
        self.traces: list[str] = []
        self.fails = False

    async def get_context(self, request: context_pb2.GetContextRequest, **_: Any) -> context_pb2.GetContextResponse:
        self.requests.append(request)
        self.traces.append(f"{trace.get_current_span().get_span_context().trace_id:032x}")
        await self.go.wait()
        if self.fails:
            unavailable = grpc.StatusCode.UNAVAILABLE
            raise CLASSES[unavailable](unavailable, "away", reason="STORAGE_UNAVAILABLE")
        answer = context_pb2.GetContextResponse(contact_id=str(uuid4()), version=request.min_version)
        answer.expires_in.FromSeconds(60)
        return answer


class World:
    """A lane's turn, and the peer that it asks."""

    def __init__(self) -> None:
        self.time = 0.0
        kept = KeptContexts(100_000, lambda: self.time)
        kept.hears()
        self.time += SETTLE_SECONDS
        self.service = Context()
        self.peer = ContextPeer(cast(ContextClient, self.service), kept)
        self.lease = Lease(
            lane_id=uuid4(),
            tenant_id="acme",
            fence=1,
            pending=1,
            done_seq=0,
            attempts=1,
            data_version=3,
            lease_until=NOW,
            expired=False,
        )
        request = SubmitMessageRequest(tenant_id="acme", sender=SENDER)
        self.head = Waiting(uuid4(), 1, request, NOW, 0.0, "", f"00-{TRACE}-00f067aa0ba902b7-01", "")

    def ahead(self) -> None:
        self.peer.ask_ahead(self.head, self.lease)

    async def turn(self) -> str:
        return (await self.peer.get("acme", self.lease.lane_id, SENDER, self.lease.data_version)).contact_id


async def test_the_turn_takes_the_answer_to_what_was_asked_ahead() -> None:
    world = World()
    world.ahead()
    world.ahead()
    turn = asyncio.create_task(world.turn())
    await asyncio.sleep(0)
    world.service.go.set()
    assert await turn == await world.turn()
    assert [request.min_version for request in world.service.requests] == [world.lease.data_version]
    assert world.service.traces == [TRACE]


async def test_what_was_asked_ahead_of_a_later_save_is_too_old_for_the_turn_after_it() -> None:
    """The lane was lost meanwhile, another process has saved, and the lane has come back."""
    world = World()
    world.ahead()
    later = world.lease.data_version + 1
    turn = asyncio.create_task(world.peer.get("acme", world.lease.lane_id, SENDER, later))
    await asyncio.sleep(0)
    world.service.go.set()
    await turn
    assert [request.min_version for request in world.service.requests] == [later - 1, later]


async def test_what_is_kept_is_not_asked_ahead() -> None:
    world = World()
    world.service.go.set()
    await world.turn()
    world.ahead()
    await world.turn()
    assert len(world.service.requests) == 1


async def test_a_turn_that_finds_a_failure_under_way_waits_and_one_after_it_asks_again() -> None:
    world = World()
    world.service.fails = True
    world.ahead()
    turn = asyncio.create_task(world.turn())
    await asyncio.sleep(0)
    world.service.go.set()
    with pytest.raises(NotNow):
        await turn
    world.service.fails = False
    assert await world.turn()
    assert len(world.service.requests) == 2


async def test_a_failure_that_nobody_waited_for_is_forgotten() -> None:
    world = World()
    world.service.fails = True
    world.service.go.set()
    world.ahead()
    while not world.service.requests:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    world.service.fails = False
    assert await world.turn()
    assert len(world.service.requests) == 2
