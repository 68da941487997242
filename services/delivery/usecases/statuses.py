"""Takes in what providers say of sent messages."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from services.delivery.domain import deliveries, statuses
from services.delivery.domain.attempts import ProviderStatus
from services.delivery.domain.channels import Channel
from services.delivery.domain.outbox import ReplyState
from services.delivery.domain.scrubbing import scrub, without_phones
from services.delivery.domain.statuses import Report
from services.delivery.usecases.changes import FoundPart, MessageKey, StatusChanges, StatusStore
from services.delivery.usecases.ports import Said
from services.runtime.crashpoints import reach
from services.runtime.logs import describe, get_logger

log = get_logger(__name__)

GATHER = 0.1
"""Seconds in which ids that become known are gathered for one look."""
MOST_IDS = 20_000
"""Ids that wait for that look. Statuses of any beyond these are found when it is their time to be looked at."""
BATCH = 500
"""Statuses that one look takes up."""


@dataclass(slots=True)
class _News:
    """What others must hear once a transaction is committed."""

    said: list[Said] = field(default_factory=list)
    due: bool = False
    """A lane has become due."""
    named: bool = False
    """A part has become known by its provider's id."""


class Statuses:
    """Keeps each status once, and lets it take effect as soon as its part is known.

    Two processes may store a status and the id that it names at the same time, and neither sees the other's. So each
    looks for the other's after its own commit, and whoever commits last finds both.
    """

    def __init__(self, store: StatusStore, *, said: Callable[[Sequence[Said]], None], due: Callable[[], None]) -> None:
        """`said` gets outcomes once they are stored. `due` hears that a lane has become due."""
        self._store = store
        self._said = said
        self._due = due
        self._named: list[MessageKey] = []
        self._woken = asyncio.Event()

    async def report(self, channel: Channel, report: Report, dedupe_key: str) -> bool:
        """Keeps a status, and lets it take effect now or when its part is known. True when it was kept before."""

        async def take(changes: StatusChanges) -> tuple[bool, bool, _News]:
            news = _News()
            target = await changes.target(channel.key, report)
            new = await changes.keep(channel, report, dedupe_key, placed=target is not None)
            if target is not None and new:
                await self._apply(changes, target, report, news)
                news.named = await self._name(changes, target, key)
            return new, target is not None, news

        key = (channel.key, report.provider_message_id)
        reach("delivery.before_status")
        new, placed, news = await self._store.transact(take)
        self._spread(news)
        if news.named:
            self.named([key])
        reach("delivery.after_status")
        if not (new and placed):
            await self._place(key)
        return not new

    def named(self, keys: Sequence[MessageKey]) -> None:
        """Providers' ids of messages are stored by now: `run` looks whether statuses came before them."""
        if len(self._named) < MOST_IDS:
            self._named.extend(keys)
            self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Places statuses as ids become known, until `stop` is set."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                woken = asyncio.create_task(self._woken.wait())
                await asyncio.wait({woken, stopping}, return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
                await asyncio.wait({stopping}, timeout=GATHER)
                self._woken.clear()
                keys, self._named = self._named, []
                try:
                    await self._place_each([(key, "") for key in await self._store.early(keys)] if keys else ())
                except Exception as error:
                    log.warning("statuses cannot be placed now; they are looked at again", error=describe(error))
        finally:
            stopping.cancel()

    async def look(self) -> bool:
        """Looks again at statuses that nobody could place, as a process may have died before it did. True when there
        are more to look at.
        """
        found = await self._store.unplaced(BATCH)
        await self._place_each([(status.key, status.external_id) for status in found if status.known])
        return len(found) == BATCH

    async def _place_each(self, keys: Sequence[tuple[MessageKey, str]]) -> None:
        """A status that cannot be read stops no other one."""
        for key, external_id in keys:
            try:
                await self._place(key, external_id)
            except self._store.away:
                raise
            except Exception as error:
                log.error("a status cannot be placed", channel_key=key[0], error=describe(error), alert=True)

    async def _place(self, key: MessageKey, external_id: str = "") -> None:
        """Lets all that was said of a message take effect, if its part is known."""

        async def place(changes: StatusChanges) -> _News:
            news = _News()
            target = await changes.target(key[0], Report(ProviderStatus.NONE, 0, key[1], external_id))
            if target is None:
                return news
            kept = await changes.unmatched(key, target.delivery.tenant_id)
            for _, report in kept:
                target = await self._apply(changes, target, report, news)
            if kept:
                await changes.matched(key[0], [dedupe_key for dedupe_key, _ in kept])
                await self._name(changes, target, key)
            return news

        self._spread(await self._store.transact(place))

    async def _apply(self, changes: StatusChanges, target: FoundPart, report: Report, news: _News) -> FoundPart:
        """Stores what follows from a report. Returns the target as it is then."""
        delivery = target.delivery
        report = replace(report, error=_scrubbed(report.error, target), word=without_phones(report.word))
        effect = statuses.apply(delivery.parts, target.index, target.attempt(report), report)
        if effect.parts is not None:
            changed = replace(delivery, parts=effect.parts)
            await changes.store_parts(changed, before=delivery.parts)
            if deliveries.state(effect.parts) is not deliveries.state(delivery.parts):
                await changes.lane_due_now(delivery.lane_id)
                news.due = True
            target = replace(target, delivery=changed)
        if ReplyState.DELIVERED in effect.outcomes or ReplyState.READ in effect.outcomes:
            await changes.mark(delivery, report.at, read=ReplyState.READ in effect.outcomes)
        for state in effect.outcomes:
            error = (report.error or "the provider could not send it") if state is ReplyState.DEAD else ""
            news.said.append(await changes.tell(delivery, state, report.at, error))
        return target

    async def _name(self, changes: StatusChanges, target: FoundPart, key: MessageKey) -> bool:
        """A part that was found by our own id is found by the provider's from now on. True when that is new."""
        return not target.is_known and await changes.name(key, target)

    def _spread(self, news: _News) -> None:
        if news.said:
            self._said(news.said)
        if news.due:
            self._due()


def _scrubbed(error: str, target: FoundPart) -> str:
    """Without what the part says: the text itself, or as it is in a status that was kept for later."""
    text = target.delivery.rendered[target.index].text
    return scrub(error, (text, without_phones(text), target.delivery.chat_id))
