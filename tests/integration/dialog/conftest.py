"""Dialog with a real PostgreSQL and Redis, and stand-ins for the services that it calls."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from time import monotonic
from typing import Any, Self
from uuid import uuid4

import asyncpg
import pytest

from parley.common.v1 import identity_pb2
from parley.dialog.v1 import bot_pb2, dialog_pb2, tenant_pb2

from parley_client.channel import Connection, connect
from parley_client.dialog import BotClient, DialogClient, OrderClient, TenantClient
from parley_client.tokens import TokenSource
from services.dialog.domain.flows import (
    Dialog,
    TurnInput,
    TurnPlan,
    TurnTools,
)
from services.dialog.settings import DialogSettings
from services.dialog.wiring import build
from services.kernel.clock import Clock
from services.runtime.content import of_text
from services.runtime.service import running
from tests.integration.dialog.peers import Peers

TENANT, BOT, CHANNEL = "acme", "bot", "channel"


class FakeFlow:
    """Echoes, counting the messages of a dialog; or does what a test says."""

    def __init__(self) -> None:
        self.asked: list[TurnInput] = []
        self.model = False
        self.script: list[Exception | TurnPlan | Callable[[TurnInput, TurnTools], Awaitable[TurnPlan]]] = []
        self.model_calls = 0
        self.held: asyncio.Event | None = None

    async def prepare(self, turn: TurnInput, tools: TurnTools) -> TurnPlan | None:
        return None if self.model else await self.decide(turn, tools)

    async def decide(self, turn: TurnInput, tools: TurnTools) -> TurnPlan:
        self.asked.append(turn)
        if self.held is not None:
            await self.held.wait()
        if self.script:
            step = self.script.pop(0)
            if isinstance(step, Exception):
                raise step
            return step if isinstance(step, TurnPlan) else await step(turn, tools)
        return await self.echo(turn, tools)

    async def echo(self, turn: TurnInput, tools: TurnTools) -> TurnPlan:
        count = turn.known.dialog.slots.get("count", 0) + len(turn.messages)
        text = " + ".join(message.text for message in turn.messages)
        if self.model:
            text = (await tools.journal.call("answer", {"text": text}, partial(self.ask, text, tools)))["text"]
        dialog = Dialog(flow="echo", flow_version="1", step="on", slots={"count": count})
        return TurnPlan(replies=[of_text(f"{count}: {text}")], dialog=dialog, charge_quota=self.model)

    async def ask(self, text: str, tools: TurnTools) -> Mapping[str, Any]:
        self.model_calls += 1
        for word in text.split():
            await tools.previews.delta(f"{word} ")
        return {"text": f"model says {text}", "model": "m", "input_tokens": 3, "output_tokens": 2}


class World:
    """One dialog process or several, their peers, and clients."""

    def __init__(self, make_settings: Callable[..., Any], peers: Peers, tokens: Callable[..., TokenSource]) -> None:
        self.peers = peers
        self.context, self.limits, self.delivery = peers.context, peers.limits, peers.delivery
        self.flow = FakeFlow()
        self.tokens = tokens
        self._make_settings = make_settings
        self._stack = AsyncExitStack()
        self._own: dict[str, AsyncExitStack] = {}
        self.processes: list[Any] = []
        self.database: asyncpg.Pool[asyncpg.Record]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def start(
        self, *, flow: FakeFlow | None = None, real: bool = False, clock: Clock | None = None, **overrides: object
    ) -> Any:
        """Start a dialog process in this one, with the fake flow for all bots or with the `real` ones."""
        values = {"drain_seconds": 2.0, **self.peers.addresses} | overrides
        settings = self._make_settings(DialogSettings, **values)
        used = flow or self.flow
        own = await self._stack.enter_async_context(AsyncExitStack())
        service = await own.enter_async_context(
            running("dialog", settings, partial(build, flow_for=None if real else lambda bot: used), clock=clock)
        )
        self._own[service.address] = own
        if not self.processes:
            self.database = await asyncpg.create_pool(settings.database_url, min_size=1, max_size=3)
            self._stack.push_async_callback(self.database.close)
        self.processes.append(service)
        return service

    async def stop(self, service: Any) -> None:
        """Stop a process, as SIGTERM does."""
        await self._own[service.address].aclose()

    def connection(self, caller: str = "operator", tenants: tuple[str, ...] = ("*",), process: int = 0) -> Connection:
        address = self.processes[process].address
        connection = connect(address, audience="dialog", tokens=self.tokens(caller, tenants=tenants))
        self._stack.push_async_callback(connection.close)
        return connection

    async def prepare(self, **bot: Any) -> None:
        """The tenant and its bot."""
        await self.tenants.create_tenant(
            tenant_pb2.CreateTenantRequest(tenant=tenant_pb2.Tenant(tenant_id=TENANT), request_id=str(uuid4()))
        )
        await self.create_bot(**bot)

    async def create_bot(self, bot_id: str = BOT, **fields: Any) -> bot_pb2.Bot:
        flow = bot_pb2.AssistantFlow(system_prompt="Echo.")
        bot = bot_pb2.Bot(tenant_id=TENANT, bot_id=bot_id, assistant=flow, error_message="sorry", **fields)
        if not bot.limit_message:
            bot.limit_message = "enough"
        request = bot_pb2.CreateBotRequest(tenant_id=TENANT, bot=bot, request_id=str(uuid4()))
        return (await self.bots.create_bot(request)).bot

    @property
    def dialog(self) -> DialogClient:
        return DialogClient(self._client("operator"))

    @property
    def bots(self) -> BotClient:
        return BotClient(self._client("operator"))

    @property
    def orders(self) -> OrderClient:
        return OrderClient(self._client("operator"))

    @property
    def tenants(self) -> TenantClient:
        return TenantClient(self._client("operator"))

    def _client(self, caller: str) -> Connection:
        name = f"_{caller}"
        if name not in self.__dict__:
            self.__dict__[name] = self.connection(caller)
        connection: Connection = self.__dict__[name]
        return connection

    async def submit(self, text: str = "hello", chat: str = "1", **fields: Any) -> dialog_pb2.SubmitMessageResponse:
        return await self.dialog.submit_message(submission(text, chat, **fields))

    async def message(self, message_id: str) -> dialog_pb2.Message:
        request = dialog_pb2.GetMessageRequest(tenant_id=TENANT, message_id=message_id)
        return (await self.dialog.get_message(request)).message

    async def ends(self, message_id: str, *states: int, seconds: float = 30.0) -> dialog_pb2.Message:
        """Wait until a message is in one of the states; COMPLETED when none is given."""
        wanted = states or (dialog_pb2.MESSAGE_STATE_COMPLETED,)

        async def there() -> dialog_pb2.Message | None:
            message = await self.message(message_id)
            return message if message.state in wanted else None

        found: dialog_pb2.Message = await until(there, seconds)
        return found


def submission(text: str = "hello", chat: str = "1", **fields: Any) -> dialog_pb2.SubmitMessageRequest:
    request = dialog_pb2.SubmitMessageRequest(
        tenant_id=TENANT, channel_id=CHANNEL, bot_id=BOT, chat_id=chat, dedupe_key=f"inbox:{uuid4()}"
    )
    request.sender.identity.kind = identity_pb2.IDENTITY_KIND_TELEGRAM
    request.sender.identity.value = chat
    request.content.text = text
    for name, value in fields.items():
        setattr(request, name, value)
    return request


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = 30.0) -> Any:
    """Wait for something to be true; it."""
    ends = monotonic() + seconds
    while True:
        value = await condition()
        if value:
            return value
        assert monotonic() < ends, f"not within {seconds} s"
        await asyncio.sleep(0.02)


@pytest.fixture
async def world(make_settings: Callable[..., Any], tokens_as: Callable[..., TokenSource]) -> AsyncIterator[World]:
    """Peers are up; no dialog process yet."""
    async with Peers(make_settings(DialogSettings)) as peers, World(make_settings, peers, tokens_as) as world:
        yield world


@pytest.fixture
async def dialog(world: World) -> World:
    """One dialog process, with the tenant and the bot."""
    await world.start()
    await world.prepare()
    return world
