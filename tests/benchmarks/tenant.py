"""What the bench sets up in a fresh stack: a tenant, a bot with the water order, channels to the bench's own sink."""

from contextlib import AsyncExitStack
from uuid import uuid4

from google.protobuf import duration_pb2

from parley.delivery.v1 import channel_pb2
from parley.dialog.v1 import bot_pb2, order_pb2, tenant_pb2
from parley.limits.v1 import limits_pb2

from parley_client.channel import Connection, connect
from parley_client.delivery import ChannelClient
from parley_client.dialog import BotClient, OrderClient, TenantClient
from parley_client.limits import LimitsClient
from parley_client.telemetry import TelemetryClient
from services.runtime.keys import tokens_of
from tests.benchmarks.script import Target
from tests.benchmarks.sink import TOKEN
from tests.benchmarks.stack import Stack

TENANT = "bench"
BOT = "water"
RATE_RULE = "chat2desk-rate"
RAISED = 1_000_000
SECRET = "bench-secret"


class Operator:
    """An operator's calls to a running stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._tokens = tokens_of(stack.home / "keys", "operator")
        self._connections = AsyncExitStack()
        self._by_service: dict[str, Connection] = {}

    def to(self, service: str) -> Connection:
        if service not in self._by_service:
            connection = connect(self._stack.address_of(service), audience=service, tokens=self._tokens)
            self._connections.push_async_callback(connection.close)
            self._by_service[service] = connection
        return self._by_service[service]

    async def __aenter__(self) -> "Operator":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connections.aclose()

    async def set_up(self, channels: int, api_base: str) -> list[Target]:
        """A tenant with a bot and so many channels that answer to `api_base`; where their webhooks go.

        The call to limits stays; only the channels' own limit is out of the way.
        """
        tenant = tenant_pb2.Tenant(tenant_id=TENANT, display_name="Bench", time_zone="UTC", default_region="KG")
        await TenantClient(self.to("dialog")).create_tenant(
            tenant_pb2.CreateTenantRequest(tenant=tenant, request_id=_request_id())
        )
        bot = bot_pb2.Bot(tenant_id=TENANT, bot_id=BOT, form=bot_pb2.FormFlow(form_id="water-order"), locale="ru")
        await BotClient(self.to("dialog")).create_bot(
            bot_pb2.CreateBotRequest(tenant_id=TENANT, bot=bot, request_id=_request_id())
        )
        return [await self._create_channel(f"bench-{number}", api_base) for number in range(channels)]

    async def _create_channel(self, channel_id: str, api_base: str) -> Target:
        channel = channel_pb2.Channel(
            tenant_id=TENANT,
            channel_id=channel_id,
            provider=channel_pb2.PROVIDER_CHAT2DESK,
            bot_id=BOT,
            api_base=api_base,
        )
        secrets = channel_pb2.ChannelSecrets(token=TOKEN, webhook_secret=SECRET)
        await ChannelClient(self.to("delivery")).create_channel(
            channel_pb2.CreateChannelRequest(
                tenant_id=TENANT, channel=channel, secrets=secrets, request_id=_request_id()
            )
        )
        override = limits_pb2.Override(selector=limits_pb2.Selector(channel_id=channel_id), limit=RAISED)
        override.window.CopyFrom(duration_pb2.Duration(seconds=60))
        await LimitsClient(self.to("limits")).set_override(
            limits_pb2.SetOverrideRequest(
                tenant_id=TENANT, rule_id=RATE_RULE, override=override, request_id=_request_id()
            )
        )
        host = self._stack.address_of("edge")
        return Target(f"/webhooks/chat2desk/{channel_id}", host, SECRET)

    async def count_orders(self) -> int:
        """Orders of the bench's tenant."""
        client = OrderClient(self.to("dialog"))
        count, token = 0, ""
        while True:
            page = await client.list_orders(
                order_pb2.ListOrdersRequest(tenant_id=TENANT, page_size=500, page_token=token), timeout=30.0
            )
            count += len(page.orders)
            token = page.next_page_token
            if not token:
                return count

    def telemetry(self) -> TelemetryClient:
        return TelemetryClient(self.to("telemetry"))


def _request_id() -> str:
    return uuid4().hex
