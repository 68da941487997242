"""The edge's mirror of all channels and their webhook secrets."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from parley.delivery.v1 import channel_pb2

from parley_client.delivery import ChannelClient
from parley_client.errors import CallError, NotFound
from services.edge.guesses import Guesses
from services.edge.problems import Problem, from_call_error
from services.runtime.background import following


@dataclass(frozen=True)
class Entry:
    """A channel and what its webhook must show."""

    channel: channel_pb2.Channel
    webhook_secret: str


class ChannelMirror:
    """Knows every channel without a call. What it does not know it asks for, before anybody hears 404."""

    def __init__(
        self, client: ChannelClient, guesses: Guesses, *, forget_after: float = 2.0, ask_timeout: float = 1.5
    ) -> None:
        """`forget_after`: seconds for which an unknown id is not asked for again; `ask_timeout`: seconds."""
        self._client = client
        self._guesses = guesses
        self._entries: dict[str, Entry] = {}
        self._unknown: dict[str, float] = {}
        self._forget_after = forget_after
        self._ask_timeout = ask_timeout
        self.ready = asyncio.Event()
        self.watch = following("channels", self._follow)

    async def find(self, channel_id: str, stranger: str | None = None) -> Entry:
        """The channel. Raises Problem: 404 when there is none, 503 when nobody can tell.

        `stranger`: the address of a caller who has proven nothing yet, and hears 429 after too many failures.
        """
        entry = self._entries.get(channel_id)
        if entry is None:
            entry = await self._look_up(channel_id, stranger)
        if entry is None and stranger is not None:
            raise self._guesses.failed(stranger, "channel", _no_such_channel(channel_id))
        if entry is None:
            raise _no_such_channel(channel_id)
        return entry

    async def _look_up(self, channel_id: str, stranger: str | None) -> Entry | None:
        if self._unknown.get(channel_id, 0.0) > asyncio.get_running_loop().time():
            return None
        if stranger is None or not self.ready.is_set():  # before the first round every channel looks unknown
            return await self._ask(channel_id)
        with self._guesses.asking(stranger):
            return await self._ask(channel_id)

    async def _ask(self, channel_id: str) -> Entry | None:
        try:
            answer = await self._client.get_channel(
                channel_pb2.GetChannelRequest(channel_id=channel_id), timeout=self._ask_timeout
            )
        except NotFound:
            if len(self._unknown) > 10_000:
                self._unknown.clear()
            self._unknown[channel_id] = asyncio.get_running_loop().time() + self._forget_after
            return None
        except CallError as error:
            if error.reason == "INVALID_FIELD":
                return None
            problem = from_call_error(error)
            raise Problem(503, problem.reason, problem.detail, retry_after=problem.retry_after or 1.0) from None
        return self._keep(answer.channel, answer.webhook_secret)

    def _keep(self, channel: channel_pb2.Channel, secret: str) -> Entry:
        known = self._entries.get(channel.channel_id)
        if known is not None and known.channel.revision > channel.revision:
            return known
        entry = Entry(channel, secret)
        self._entries[channel.channel_id] = entry
        self._unknown.pop(channel.channel_id, None)
        return entry

    async def _follow(self, stands: Callable[[], None]) -> None:
        first_round: set[str] | None = set()
        async for event in self._client.watch_channels(channel_pb2.WatchChannelsRequest()):
            which = event.WhichOneof("event")
            if which == "changed":
                self._keep(event.changed.channel, event.changed.webhook_secret)
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
