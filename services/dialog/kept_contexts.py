"""What dialog keeps of the contexts that it read and saved, so that it need not ask for those of conversations that go
on.

Kept is what context said at a version, with what lanes of this process have saved since. It is given out only while it
is current for all that anybody can know:

- The lane's row names the version of the last save by a lane, of whatever process. What is older is not given out.
- Whatever else changes a conversation or a contact is told through Redis (`services.runtime.changes`). A change that
  was told is remembered for longer than a call takes, so that what was read before it is not kept after it.
- When that connection breaks, or nothing is heard of the other side's heartbeat, all of it goes; and what is asked for
  in the first seconds after that is not kept, because a process of context may not have noticed that it is deaf.
- Nothing is kept beyond the end of its first namespace, nor for long after context was asked.
"""

import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple
from uuid import UUID

from parley.context.v1 import context_pb2

from services.runtime.context_changes import CONTACT, CONVERSATION, Change

LONGEST_SECONDS = 60.0
"""Seconds after which context is asked again, whatever was saved meanwhile."""
SETTLE_SECONDS = 5.0
"""Seconds after the connection stands in which nothing is kept: longer than a call, and than a process of context
believes in a connection of its own that is dead."""
TOLD_SECONDS = 10.0
"""Seconds for which a told change is remembered: longer than a call, and than a process of context is deaf."""
MOST_TOLD = 10_000
"""Changes that are remembered. When there are more, everything goes instead."""
LARGEST = 64 * 1024
"""Bytes of one context that is kept: far below those from which context shortens a history."""
ENTRY_BYTES = 512
"""What keeping an entry takes beside its bytes, about."""
MOST_ENTRIES = 50
"""Messages that context keeps of a history."""


class Key(NamedTuple):
    """A conversation or a contact of a tenant."""

    tenant_id: str
    id: UUID


@dataclass(frozen=True, slots=True)
class Kept:
    """A `GetContextResponse` as bytes, and until when it holds, in monotonic seconds."""

    data: bytes
    version: int
    contact: Key
    contact_version: int
    until: float


class KeptContexts:
    """At most so many bytes; what was used longest ago goes first."""

    def __init__(self, most_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_bytes = most_bytes
        self._clock = clock
        self._kept: OrderedDict[Key, Kept] = OrderedDict()
        self._of_contact: defaultdict[Key, set[Key]] = defaultdict(set)
        self._bytes = 0
        self._told: OrderedDict[tuple[str, Key], tuple[float, int]] = OrderedDict()
        """By document, oldest first: when it was told, and the version below which nothing of it is kept."""
        self._from: float | None = None
        """What is asked for from then on may be kept; None while nobody would tell of changes."""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        return self._bytes

    def now(self) -> float:
        return self._clock()

    def hears(self) -> None:
        """From now on changes are told."""
        self.deaf()
        self._from = self._clock() + SETTLE_SECONDS

    def deaf(self) -> None:
        """Changes are not told any more, or some may have been missed."""
        self._from = None
        self._kept.clear()
        self._of_contact.clear()
        self._told.clear()
        self._bytes = 0

    def told(self, change: Change) -> None:
        """Somebody other than a lane of dialog has changed a document."""
        key, now = Key(change.tenant_id, change.id), self._clock()
        _, before = self._told.pop((change.kind, key), (0.0, 0))
        self._told[change.kind, key] = now, max(before, change.version)
        if change.kind == CONVERSATION:
            self.take(key)
        else:
            for conversation in list(self._of_contact.get(key, ())):
                self.take(conversation)
        while next(iter(self._told.values()))[0] + TOLD_SECONDS < now:
            self._told.popitem(last=False)
        if len(self._told) > MOST_TOLD:
            self.hears()

    def holds(self, conversation: Key, at_least: int) -> bool:
        """Whether `find` would find something now."""
        kept = self._kept.get(conversation)
        if kept is None or kept.version < at_least:
            return False
        if kept.until <= self._clock():
            self.take(conversation)
            return False
        return True

    def find(self, conversation: Key, at_least: int) -> context_pb2.GetContextResponse | None:
        """What is known of a conversation whose lane has saved this version; None when context has to be asked."""
        if not self.holds(conversation, at_least):
            return None
        self._kept.move_to_end(conversation)
        return context_pb2.GetContextResponse.FromString(self._kept[conversation].data)

    def keep(self, conversation: Key, answer: context_pb2.GetContextResponse, asked: float) -> None:
        """Keep what context answered when it was asked then, by `now`."""
        if not answer.contact_id or not _tells_its_end(answer.snapshot, answer.HasField("expires_in")):
            return
        until = asked + LONGEST_SECONDS
        if answer.HasField("expires_in"):
            until = min(until, asked + answer.expires_in.ToNanoseconds() / 1e9)
        contact = Key(conversation.tenant_id, UUID(answer.contact_id))
        data = answer.SerializeToString()
        self._put(conversation, Kept(data, answer.version, contact, answer.contact_version, until), asked)

    def take(self, conversation: Key) -> Kept | None:
        """Keep a conversation's context no longer; what it was."""
        kept = self._kept.pop(conversation, None)
        if kept is not None:
            self._bytes -= len(kept.data) + ENTRY_BYTES
            others = self._of_contact[kept.contact]
            others.discard(conversation)
            if not others:
                del self._of_contact[kept.contact]
        return kept

    def keep_saved(
        self,
        conversation: Key,
        base: Kept | None,
        request: context_pb2.SaveContextRequest,
        saved: context_pb2.SaveContextResponse,
        asked: float,
    ) -> None:
        """Keep what a save has made of `base`, which was taken before it. Only when nobody saved in between."""
        if base is None or saved.replayed or saved.version != base.version + 1 or base.until <= self._clock():
            return
        answer = context_pb2.GetContextResponse.FromString(base.data)
        if not merge(answer.snapshot, request) or not _tells_its_end(answer.snapshot, saved.HasField("expires_in")):
            return
        answer.version, until = saved.version, base.until
        if saved.HasField("expires_in"):
            until = min(until, asked + saved.expires_in.ToNanoseconds() / 1e9)
        after = replace(base, data=answer.SerializeToString(), version=saved.version, until=until)
        self._put(conversation, after, asked)

    def _put(self, conversation: Key, kept: Kept, asked: float) -> None:
        self.take(conversation)
        if self._from is None or asked < self._from or len(kept.data) > LARGEST:
            return
        if kept.version < self._least(CONVERSATION, conversation):
            return
        if kept.contact_version < self._least(CONTACT, kept.contact):
            return
        self._kept[conversation] = kept
        self._of_contact[kept.contact].add(conversation)
        self._bytes += len(kept.data) + ENTRY_BYTES
        while self._bytes > self._most_bytes:
            self.take(next(iter(self._kept)))

    def _least(self, kind: str, key: Key) -> int:
        return self._told.get((kind, key), (0.0, 0))[1]


def merge(snapshot: context_pb2.Snapshot, request: context_pb2.SaveContextRequest) -> bool:
    """Change a snapshot as context does with a turn's save; False for a save of which dialog makes none."""
    for path in request.update_mask.paths:
        if path == "dialog":
            snapshot.dialog.CopyFrom(request.changes.dialog)
        elif path == "messages":
            snapshot.messages.CopyFrom(request.changes.messages)
        else:
            return False
    entries = snapshot.messages.entries
    entries.extend(request.append_messages)
    del entries[:-MOST_ENTRIES]
    return True


def _tells_its_end(snapshot: context_pb2.Snapshot, told: bool) -> bool:
    """Whether it is known when what is in a snapshot expires; an older version of context does not say."""
    return told or not snapshot.ByteSize()
