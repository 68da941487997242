"""Keep bots. Each change is one transaction, happens once per request id, and holds for the next turn everywhere."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from parley.dialog.v1 import bot_pb2

from services.dialog.convert.bots import bot_from_proto, bot_to_proto
from services.dialog.domain.bots import (
    BY_OWNER,
    FLOW_KINDS,
    Bot,
    FlowSettings,
    UnknownFlow,
)
from services.kernel.errors import FieldViolation, Kind, ParleyError, invalid_field, wrong_state
from services.runtime import pages
from services.runtime.validation import check

Response = TypeVar("Response", bound=Message)
PAGE = 50

_WRITABLE = BY_OWNER - {"flow"} | FLOW_KINDS.keys()


class BotRows(Protocol):
    """Bots within a transaction. Changes count the revision up and take a new stamp."""

    async def insert(self, bot: Bot) -> Bot:
        """Raises ALREADY_EXISTS and TENANT_NOT_FOUND."""

    async def lock(self, tenant_id: str, bot_id: str) -> Bot:
        """Raises BOT_NOT_FOUND."""

    async def write(self, bot: Bot) -> Bot: ...

    async def delete(self, tenant_id: str, bot_id: str) -> None: ...

    async def wake_lanes(self, tenant_id: str, bot_id: str) -> None:
        """Make the first lanes due that wait for this bot, and note that the others are to be woken too."""

    async def let_sleep(self, tenant_id: str, bot_id: str) -> None:
        """Wake no more of its lanes."""


class BotStore(Protocol):
    async def once(
        self,
        request: Message,
        response: type[Response],
        method: str,
        work: Callable[[BotRows], Awaitable[Response]],
    ) -> Response:
        """Do the work in a transaction, once per request id."""

    async def get(self, tenant_id: str, bot_id: str) -> Bot:
        """Raises BOT_NOT_FOUND."""

    async def list(self, tenant_id: str, after: str, limit: int) -> Sequence[Bot]: ...


class Channels(Protocol):
    """The delivery service's channels."""

    async def of_bot(self, tenant_id: str, bot_id: str) -> Sequence[str]:
        """Ids of some of the channels that belong to a bot."""


class Bots:
    """The use cases of BotService."""

    def __init__(
        self,
        store: BotStore,
        channels: Channels,
        check_flow: Callable[[FlowSettings], None],
        wake: Callable[[], None],
    ) -> None:
        """`check_flow` raises INVALID_FORM or FORM_NOT_FOUND; `wake` tells workers that lanes may be due."""
        self._store = store
        self._channels = channels
        self._check_flow = check_flow
        self._wake = wake

    async def create(self, request: bot_pb2.CreateBotRequest) -> bot_pb2.CreateBotResponse:
        if request.bot.tenant_id != request.tenant_id:
            raise invalid_field("bot.tenant_id", "must be the request's tenant_id")
        bot = replace(bot_from_proto(request.bot), enabled=True, broken_reason="", revision=1)
        await self._check(bot.flow)

        async def work(rows: BotRows) -> bot_pb2.CreateBotResponse:
            return bot_pb2.CreateBotResponse(bot=bot_to_proto(await rows.insert(bot)))

        return await self._store.once(request, bot_pb2.CreateBotResponse, "CreateBot", work)

    async def get(self, request: bot_pb2.GetBotRequest) -> bot_pb2.GetBotResponse:
        return bot_pb2.GetBotResponse(bot=bot_to_proto(await self._store.get(request.tenant_id, request.bot_id)))

    async def update(self, request: bot_pb2.UpdateBotRequest) -> bot_pb2.UpdateBotResponse:
        if not request.bot.bot_id:
            raise invalid_field("bot.bot_id", "is required")
        for path in request.update_mask.paths:
            check_path(path)

        async def work(rows: BotRows) -> bot_pb2.UpdateBotResponse:
            stored = await rows.lock(request.tenant_id, request.bot.bot_id)
            changed = merged(stored, request)
            if changed.flow != stored.flow:  # one that an older version took may be refused now, and still be renamed
                await self._check(changed.flow)
                changed = replace(changed, broken_reason="")
            return bot_pb2.UpdateBotResponse(bot=bot_to_proto(await rows.write(changed)))

        return await self._store.once(request, bot_pb2.UpdateBotResponse, "UpdateBot", work)

    async def delete(self, request: bot_pb2.DeleteBotRequest) -> bot_pb2.DeleteBotResponse:
        """Raises IN_USE while channels belong to the bot."""

        channels = await self._channels.of_bot(request.tenant_id, request.bot_id)
        if channels:
            message = f"The bot still answers on {', '.join(map(repr, channels))}; delete these channels first."
            raise ParleyError(Kind.PRECONDITION, "IN_USE", message, metadata={"id": request.bot_id})

        async def work(rows: BotRows) -> bot_pb2.DeleteBotResponse:
            await rows.lock(request.tenant_id, request.bot_id)
            await rows.delete(request.tenant_id, request.bot_id)
            await rows.wake_lanes(request.tenant_id, request.bot_id)  # nobody will answer: each is a dead letter now
            return bot_pb2.DeleteBotResponse()

        response = await self._store.once(request, bot_pb2.DeleteBotResponse, "DeleteBot", work)
        self._wake()
        return response

    async def enable(self, request: bot_pb2.EnableBotRequest) -> bot_pb2.EnableBotResponse:
        async def work(rows: BotRows) -> bot_pb2.EnableBotResponse:
            bot = await rows.lock(request.tenant_id, request.bot_id)
            bot = await rows.write(replace(bot, enabled=True, broken_reason=""))
            await rows.wake_lanes(request.tenant_id, request.bot_id)
            return bot_pb2.EnableBotResponse(bot=bot_to_proto(bot))

        response = await self._store.once(request, bot_pb2.EnableBotResponse, "EnableBot", work)
        self._wake()
        return response

    async def disable(self, request: bot_pb2.DisableBotRequest) -> bot_pb2.DisableBotResponse:
        async def work(rows: BotRows) -> bot_pb2.DisableBotResponse:
            bot = await rows.lock(request.tenant_id, request.bot_id)
            await rows.let_sleep(request.tenant_id, request.bot_id)
            return bot_pb2.DisableBotResponse(bot=bot_to_proto(await rows.write(replace(bot, enabled=False))))

        return await self._store.once(request, bot_pb2.DisableBotResponse, "DisableBot", work)

    async def _check(self, flow: FlowSettings) -> None:
        """In a thread: compiling the largest form takes longer than others on the loop should wait."""
        await asyncio.to_thread(self._check_flow, flow)

    async def list(self, request: bot_pb2.ListBotsRequest) -> bot_pb2.ListBotsResponse:
        filters = request.tenant_id
        position = pages.decode(request.page_token, "ListBots", filters)
        size = request.page_size or PAGE
        bots = await self._store.list(request.tenant_id, str(position[0]) if position else "", size + 1)
        response = bot_pb2.ListBotsResponse(bots=map(bot_to_proto, bots[:size]))
        if len(bots) > size:
            response.next_page_token = pages.encode("ListBots", filters, [bots[size - 1].bot_id])
        return response


def check_path(path: str) -> None:
    """Raise INVALID_UPDATE_MASK for a field that does not exist or that nobody may set."""
    name, _, rest = path.partition(".")
    fields = bot_pb2.Bot.DESCRIPTOR.fields_by_name
    known = name in _WRITABLE
    if known and rest:
        inner = fields[name].message_type
        known = name in FLOW_KINDS and inner is not None and rest in inner.fields_by_name
    if not known:
        why = "EnableBot and DisableBot change it" if name == "enabled" else "is not a field that can be changed"
        raise ParleyError(
            Kind.INVALID,
            "INVALID_UPDATE_MASK",
            f"update_mask: {path!r} {why}.",
            (FieldViolation("update_mask", why),),
            {"field": path},
        )


def merged(bot: Bot, request: bot_pb2.UpdateBotRequest) -> Bot:
    """The bot after a change. Raises INVALID_FIELD when it would not be valid then, and WRONG_STATE for one that a
    newer version has stored: its settings would be lost."""
    if isinstance(bot.flow, UnknownFlow):
        raise wrong_state(
            f"The flow {bot.flow.name!r} is not known to this version, so the bot stays as it is.", "unknown"
        )
    changed = bot_to_proto(bot)
    request.update_mask.MergeMessage(request.bot, changed, replace_message_field=True, replace_repeated_field=True)
    invalid = check(changed)
    if invalid is not None:
        raise invalid
    return bot_from_proto(changed)
