"""The edge's mirror of all channels and of the secrets that prove their webhooks."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cachetools import TTLCache

from parley.delivery.v1 import channel_pb2

from parley_client.delivery import ChannelClient
from parley_client.errors import CallError, NotFound
from services.edge.failure_limit import FailureLimit
from services.edge.problems import Problem, from_call_error
from services.runtime.background import following

UNKNOWN = 10_000
"""Ids that are remembered as unknown."""


@dataclass(frozen=True)
class Entry:
    """A channel and the secrets that prove its webhooks, by name."""

    channel: channel_pb2.Channel
    secrets: Mapping[str, str]


class ChannelMirror:
    """Knows every channel without a call. Delivery is asked for an unknown one before the caller gets a 404."""

    def __init__(
        self, client: ChannelClient, failures: FailureLimit, *, forget_after: float = 2.0, ask_timeout: float = 1.5
    ) -> None:
        """`forget_after`: seconds for which an unknown id is not asked for again; `ask_timeout`: seconds."""
        self._client = client
        self._failures = failures
        self._entries: dict[str, Entry] = {}
        self._unknown: TTLCache[str, None] = TTLCache(UNKNOWN, forget_after, timer=_time)
        self._ask_timeout = ask_timeout
        self.ready = asyncio.Event()
        self.watch = following("channels", self._follow)

    async def find(self, channel_id: str, stranger: str | None = None) -> Entry:
        """Returns the channel. Raises Problem: 404 when there is none, 503 when delivery is away.

        `stranger`: the address of a caller who has proven nothing yet, and hears 429 after too many failures.
        """
        entry = self._entries.get(channel_id)
        if entry is None:
            entry = await self._look_up(channel_id, stranger)
        if entry is None and stranger is not None:
            raise self._failures.failed(stranger, "channel", _no_such_channel(channel_id))
        if entry is None:
            raise _no_such_channel(channel_id)
        return entry

    async def _look_up(self, channel_id: str, stranger: str | None) -> Entry | None:
        if channel_id in self._unknown:
            return None
        if stranger is None or not self.ready.is_set():  # before the first round all channels are unknown
            return await self._ask(channel_id)
        with self._failures.looking_up(stranger):
            return await self._ask(channel_id)

    async def _ask(self, channel_id: str) -> Entry | None:
        try:
            answer = await self._client.get_channel(
                channel_pb2.GetChannelRequest(channel_id=channel_id), timeout=self._ask_timeout
            )
        except NotFound:
            self._unknown[channel_id] = None
            return None
        except CallError as error:
            if error.reason == "INVALID_FIELD":
                return None
            problem = from_call_error(error)
            raise Problem(503, problem.reason, problem.detail, retry_after=problem.retry_after or 1.0) from None
        return self._keep(answer)

    def _keep(self, told: channel_pb2.GetChannelResponse | channel_pb2.WatchChannelsResponse.Changed) -> Entry:
        channel = told.channel
        known = self._entries.get(channel.channel_id)
        if known is not None and known.channel.revision > channel.revision:
            return known
        # Delivery of the version before has one secret, in a field of its own.
        entry = Entry(channel, dict(told.secrets) or {"webhook_secret": told.webhook_secret})
        self._entries[channel.channel_id] = entry
        self._unknown.pop(channel.channel_id, None)
        return entry

    async def _follow(self, stands: Callable[[], None]) -> None:
        first_round: set[str] | None = set()
        async for event in self._client.watch_channels(channel_pb2.WatchChannelsRequest()):
            which = event.WhichOneof("event")
            if which == "changed":
                self._keep(event.changed)
                if first_round is not None:
                    first_round.add(event.changed.channel.channel_id)
            elif which == "deleted":
                self._entries.pop(event.deleted.channel_id, None)
            elif which == "ready" and first_round is not None:
                for gone in self._entries.keys() - first_round:
                    del self._entries[gone]
                first_round = None
                self.ready.set()
                stands()


def _no_such_channel(channel_id: str) -> Problem:
    shown = channel_id[:64]
    return Problem(404, "CHANNEL_NOT_FOUND", f"There is no channel {shown!r}; `parley channels list` shows all.")


def _time() -> float:
    return asyncio.get_running_loop().time()
