"""Stand-ins for context, limits and delivery that speak the real contracts, and do as they are told."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Self
from uuid import uuid4

from parley.context.v1 import context_pb2, context_pb2_grpc
from parley.delivery.v1 import channel_pb2, channel_pb2_grpc, delivery_pb2, delivery_pb2_grpc
from parley.limits.v1 import limits_pb2, limits_pb2_grpc

from services.kernel.errors import Kind, ParleyError
from services.kernel.ids import uuid7
from services.runtime.batches import run_items
from services.runtime.service import App, running
from services.runtime.settings import Settings

AWAY = ParleyError(Kind.UNAVAILABLE, "STORAGE_UNAVAILABLE", "away, for a test")


class Troubled:
    """Fails calls on demand: `fail["SendMessage"]` holds the errors of the next calls, `always` those of all.

    Methods that are not there answer as such.
    """

    def __init__(self) -> None:
        self.fail: dict[str, list[ParleyError]] = defaultdict(list)
        self.always: dict[str, ParleyError] = {}
        self.hold: dict[str, asyncio.Event] = {}
        self.calls: dict[str, int] = defaultdict(int)

    def __getattr__(self, name: str) -> Any:
        if not name[0].isupper():
            raise AttributeError(name)

        async def unimplemented(*_: object) -> None:
            raise NotImplementedError(name)

        return unimplemented

    async def trouble(self, method: str) -> None:
        self.calls[method] += 1
        if method in self.hold:
            await self.hold[method].wait()
        if method in self.always:
            raise self.always[method]
        if self.fail[method]:
            raise self.fail[method].pop(0)

    async def each(self, method: str, requests: Sequence[Any], answer: Callable[[Any], Any]) -> list[Any]:
        results: list[Any] = []
        for request in requests:
            try:
                await self.trouble(method)
                results.append(answer(request))
            except ParleyError as error:
                results.append(error)
        return results


class FakeContext(Troubled):
    def __init__(self) -> None:
        super().__init__()
        self.contacts: dict[tuple[str, int, str], str] = {}
        self.snapshots: dict[str, context_pb2.Snapshot] = defaultdict(context_pb2.Snapshot)
        self.versions: dict[str, int] = defaultdict(int)
        self.saved: dict[str, int] = {}
        self.stale_reads = 0

    async def BatchGetContext(self, request: Any, context: Any) -> Any:
        return await self._batch(request, context, "GetContext", context_pb2.BatchGetContextResponse, self.get)

    async def BatchSaveContext(self, request: Any, context: Any) -> Any:
        return await self._batch(request, context, "SaveContext", context_pb2.BatchSaveContextResponse, self.save)

    async def _batch(self, request: Any, context: Any, name: str, respond: Any, answer: Callable[[Any], Any]) -> Any:
        async def handle(requests: Sequence[Any]) -> list[Any]:
            return await self.each(name, requests, answer)

        method = f"/parley.context.v1.ContextService/{name}"
        return await run_items(request, context, method=method, respond=respond, handle=handle)

    def get(self, request: Any) -> Any:
        key = (request.tenant_id, request.sender.identity.kind, request.sender.identity.value)
        contact_id = self.contacts.setdefault(key, str(uuid4()))
        version = self.versions[request.conversation_id]
        if version < request.min_version:
            self.stale_reads += 1
        snapshot = self.snapshots[request.conversation_id]
        return context_pb2.GetContextResponse(contact_id=contact_id, snapshot=snapshot, version=version)

    def save(self, request: Any) -> Any:
        if request.request_id in self.saved:
            return context_pb2.SaveContextResponse(version=self.saved[request.request_id], replayed=True)
        snapshot = self.snapshots[request.conversation_id]
        for path in request.update_mask.paths:
            getattr(snapshot, path).CopyFrom(getattr(request.changes, path))
        snapshot.messages.entries.extend(request.append_messages)
        self.versions[request.conversation_id] += 1
        self.saved[request.request_id] = self.versions[request.conversation_id]
        return context_pb2.SaveContextResponse(version=self.versions[request.conversation_id])


class FakeLimits(Troubled):
    """Holds by request id, as the service does: a repeated id finds its hold; what was released can be held anew."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = 30
        self.held: dict[str, str] = {}
        self.granted: list[str] = []
        self.committed: set[str] = set()
        self.more: list[limits_pb2.LimitStatus] = []
        """Where the person stands under further rules."""
        self.zones: set[str] = set()
        """Time zones that were named."""
        self.late: list[float] = []
        """Seconds by which the answers of the next Reserves are late."""

    @property
    def used(self) -> int:
        return len(self.held)

    async def BatchReserve(self, request: Any, context: Any) -> Any:
        return await self._batch(request, context, "Reserve", limits_pb2.BatchReserveResponse, self.reserve)

    async def BatchCommit(self, request: Any, context: Any) -> Any:
        return await self._batch(request, context, "Commit", limits_pb2.BatchCommitResponse, self.commit)

    async def Release(self, request: Any, context: Any) -> Any:
        await self.trouble("Release")
        self.held = {key: value for key, value in self.held.items() if value != request.reservation_id}
        return limits_pb2.ReleaseResponse()

    async def _batch(self, request: Any, context: Any, name: str, respond: Any, answer: Callable[[Any], Any]) -> Any:
        async def handle(requests: Sequence[Any]) -> list[Any]:
            results = await self.each(name, requests, answer)
            if name == "Reserve" and self.late:
                await asyncio.sleep(self.late.pop(0))
            return results

        method = f"/parley.limits.v1.LimitsService/{name}"
        return await run_items(request, context, method=method, respond=respond, handle=handle)

    def reserve(self, request: Any) -> Any:
        self.zones.add(request.time_zone)
        if request.request_id not in self.held:
            if self.used >= self.allowed:
                statuses = [*self.more, self.status()]
                refused = limits_pb2.ReserveResponse(granted=False, refused_by="daily-quota", statuses=statuses)
                refused.retry_after.seconds = 3600
                return refused
            self.held[request.request_id] = f"r-{len(self.granted)}"
            self.granted.append(request.request_id)
        reservation_id = self.held[request.request_id]
        statuses = [*self.more, self.status()]
        return limits_pb2.ReserveResponse(granted=True, reservation_id=reservation_id, statuses=statuses)

    def commit(self, request: Any) -> Any:
        self.committed.add(request.reservation_id)
        return limits_pb2.CommitResponse(statuses=[self.status()])

    def status(self) -> limits_pb2.LimitStatus:
        left = self.allowed - self.used
        return limits_pb2.LimitStatus(rule_id="daily-quota", limit=self.allowed, remaining=left, daily=True)


class FakeDelivery(Troubled):
    def __init__(self) -> None:
        super().__init__()
        self.sent: list[delivery_pb2.SendMessageRequest] = []
        self.ids: dict[str, str] = {}
        self.repeated = 0
        self.channels: list[channel_pb2.Channel] = []

    async def BatchSendMessage(self, request: Any, context: Any) -> Any:
        async def handle(requests: Sequence[Any]) -> list[Any]:
            return await self.each("SendMessage", requests, self.send)

        return await run_items(
            request,
            context,
            method="/parley.delivery.v1.DeliveryService/SendMessage",
            respond=delivery_pb2.BatchSendMessageResponse,
            handle=handle,
        )

    async def ListChannels(self, request: Any, context: Any) -> Any:
        return channel_pb2.ListChannelsResponse(channels=[c for c in self.channels if c.bot_id == request.bot_id])

    def send(self, request: Any) -> Any:
        if request.request_id in self.ids:
            self.repeated += 1
            return delivery_pb2.SendMessageResponse(delivery_id=self.ids[request.request_id], duplicate=True)
        self.ids[request.request_id] = str(uuid7())
        self.sent.append(request)
        return delivery_pb2.SendMessageResponse(delivery_id=self.ids[request.request_id])

    def texts(self, chat_id: str | None = None) -> list[str]:
        """What was sent, to one chat or to all, in the order in which it was stored."""
        return [one.content.text for one in self.sent if chat_id in (None, one.chat_id)]


class Peers:
    """All three, each on a port of its own."""

    def __init__(self, settings: Settings) -> None:
        self.context, self.limits, self.delivery = FakeContext(), FakeLimits(), FakeDelivery()
        self._settings = settings
        self._stack = AsyncExitStack()
        self.addresses: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        delivery = "parley.delivery.v1"
        services = {
            "context": [
                (
                    "parley.context.v1.ContextService",
                    context_pb2_grpc.add_ContextServiceServicer_to_server,
                    self.context,
                )
            ],
            "limits": [
                ("parley.limits.v1.LimitsService", limits_pb2_grpc.add_LimitsServiceServicer_to_server, self.limits)
            ],
            "delivery": [
                (
                    f"{delivery}.DeliveryService",
                    delivery_pb2_grpc.add_DeliveryServiceServicer_to_server,
                    self.delivery,
                ),
                (f"{delivery}.ChannelService", channel_pb2_grpc.add_ChannelServiceServicer_to_server, self.delivery),
            ],
        }
        for name, servicers in services.items():

            async def build(_: Any, __: Any, servicers: Any = servicers) -> App:
                return App(servicers=servicers)

            service = await self._stack.enter_async_context(running(name, self._settings, build))
            self.addresses[f"{name}_address"] = service.address
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
