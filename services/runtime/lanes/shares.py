"""Who may have how many of a process's places: so that no tenant, share or slow kind of work takes them all.

Pure bookkeeping. The rule is that of a switch which shares its memory between ports (dynamic thresholds): each may hold
a multiple of what is left, so that one alone gets most, many get less each, and a newcomer always finds room.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

Share = tuple[str, str]
"""A tenant, and what takes a share of its places: a bot, a channel."""

LOOK_EVERY = 1.0
"""Seconds between two claims at most that look at whose lanes they take."""
_KNOWN = 512
"""Shares that are known to ask a model though they hold no place now."""


@dataclass(frozen=True, slots=True)
class Fairness:
    """How many times as many places as are left somebody may hold; a place that is left always goes to who has none.

    With the values given here one busy share gets two thirds of the places: of 64 places, `s` with
    `s <= share * (tenant * left - s)` and `left = 65 - s` is at most 43.
    """

    tenant: float = 3.0
    """A tenant, of all that is left."""
    share: float = 2.0
    """A share, of what is left for its tenant."""
    asking: float = 3.0
    """All work that asks a model, of all that is left; twice as much for shares that hold no place yet."""


FAIR = Fairness()
FREE_FOR_ALL = Fairness(1e9, 1e9, 1e9)
"""First come, first served."""


class Group(NamedTuple):
    """A share as a claim must know it. `held` is None for one of which no lane is wanted now."""

    tenant_id: str
    share: str
    held: int | None
    asks: bool


@dataclass(frozen=True, slots=True)
class Room:
    """What a claim may take: `free` places, and who holds the others.

    `asking` of them are held by work that asks a model. `alone`: a lane that was lost twice may be taken. `after` is
    the share after which a claim looks for others when the oldest lanes tell too little. `at_once` lanes are no more
    than is fair whosever they are; 0: who they belong to matters.
    """

    free: int
    groups: tuple[Group, ...] = ()
    asking: int = 0
    alone: bool = True
    after: Share = ("", "")
    fairness: Fairness = FAIR
    at_once: int = 0


class Shares:
    """The places of one process. Times are the event loop's."""

    def __init__(self, places: int, fairness: Fairness) -> None:
        self._places = places
        self._fairness = fairness
        self._held: Counter[Share] = Counter()
        self._asking: Counter[Share] = Counter()
        self._known: OrderedDict[Share, None] = OrderedDict()
        self._barred: dict[Share, float] = {}
        self._alone = 0
        self._after: Share = ("", "")
        self._crowded = True
        self._look_again = 0.0

    @property
    def free(self) -> int:
        return self._places - self._held.total()

    def take(self, share: Share, *, asks: bool, alone: bool) -> None:
        """Work on a lane of that share begins."""
        self._held[share] += 1
        self._alone += alone
        if asks:
            self._asking[share] += 1
            self._known[share] = None
            self._known.move_to_end(share)
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        elif not self._asking[share]:
            self._known.pop(share, None)

    def give_back(self, share: Share, *, asks: bool, alone: bool) -> None:
        """It has ended."""
        self._alone -= alone
        for counted in (self._held, self._asking) if asks else (self._held,):
            counted[share] -= 1
            if not counted[share]:
                del counted[share]

    def admits(self, share: Share, now: float, *, asks: bool) -> bool:
        """Whether a claim would take one more lane of that share."""
        free, fair = self.free, self._fairness
        if free <= 0 or self._barred.get(share, now) > now:
            return False
        nth = 1 + self._held[share]
        nth_of_tenant = 1 + sum(held for (tenant_id, _), held in self._held.items() if tenant_id == share[0])
        asking = fair.asking * (2 if nth == 1 else 1) * free
        return (
            nth_of_tenant <= max(1.0, fair.tenant * free)
            and nth <= max(1.0, fair.share * (fair.tenant * free - nth_of_tenant))
            and not (asks and self._asking.total() >= asking)
        )

    def bar(self, share: Share, until: float) -> None:
        """This process takes no lane of that share until then."""
        self._barred[share] = until

    def looked(self, after: Share, *, crowded: bool = True) -> None:
        """The last claim looked at shares up to this one; ("", "") when it came to the end. `crowded`: it left some."""
        self._after = after
        self._crowded = crowded

    def room(self, now: float) -> Room:
        self._barred = {share: until for share, until in self._barred.items() if until > now}
        groups = [
            Group(*share, None if share in self._barred else self._held[share], share in self._known)
            for share in {**self._held, **self._barred, **self._to_mention()}
        ]
        at_once = self._at_once(now)
        asking = self._asking.total()
        return Room(self.free, tuple(groups), asking, not self._alone, self._after, self._fairness, at_once)

    def _at_once(self, now: float) -> int:
        """How many lanes could all be of the share that holds the most and still be no more than its own.

        With `k` more it holds `share + k <= s * (t * (free + 1 - k) - tenant - k)`, and so on for tenants and all that
        ask a model. Every second who they belong to is looked at anyway, for lanes that only such a claim takes.
        """
        if self._crowded or self._barred or now >= self._look_again:
            self._look_again = now + LOOK_EVERY
            return 0
        tenants: Counter[str] = Counter()
        for (tenant_id, _), held in self._held.items():
            tenants[tenant_id] += held
        tenant, share = max(tenants.values(), default=0), max(self._held.values(), default=0)
        free, fair = self.free + 1, self._fairness
        bounds = (
            self.free,
            (fair.share * (fair.tenant * free - tenant) - share) / (1 + fair.share * (fair.tenant + 1)),
            (fair.tenant * free - tenant) / (1 + fair.tenant),
            (fair.asking * free - self._asking.total()) / (1 + fair.asking),
        )
        return max(0, int(min(bounds)))

    def _to_mention(self) -> "OrderedDict[Share, None] | dict[Share, None]":
        """Known to ask a model: told only when that may matter, so that an ordinary claim stays short."""
        return self._known if 4 * self._asking.total() >= self._places else {}
