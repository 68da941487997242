"""Reserve, commit, release: Redis decides, Postgres remembers."""

from collections.abc import Sequence
from itertools import chain

from parley.limits.v1 import limits_pb2 as pb

from services.kernel.clock import Clock
from services.kernel.errors import Kind, ParleyError, storage_unavailable
from services.limits import present
from services.limits.days import Days
from services.limits.deciding import Deciding, origin
from services.limits.domain import Subject
from services.limits.lines import TTL, ask_of, bare_value, line_of, usage_asks
from services.limits.ports import (
    Answer,
    Ask,
    Away,
    Charged,
    CounterKey,
    Counters,
    Ledger,
    Settled,
    Use,
    Verdict,
)
from services.limits.rulebook import RuleBook
from services.limits.tokens import Origin, Reservation, Tokens, decode_body


class Limits:
    """All that is asked about use. Every method takes a batch, and one call is a batch of one."""

    def __init__(self, book: RuleBook, counters: Counters, ledger: Ledger, tokens: Tokens, clock: Clock) -> None:
        self._book = book
        self._counters = counters
        self._ledger = ledger
        self._tokens = tokens
        self._clock = clock
        self._days = Days()
        self._deciding = Deciding(book, counters, ledger)

    def _now(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    async def reserve(self, requests: Sequence[pb.ReserveRequest]) -> list[pb.ReserveResponse | ParleyError]:
        """Holds units under all rules that match, or under none."""
        now = self._now()
        results: list[pb.ReserveResponse | ParleyError] = [present.UNLIMITED] * len(requests)
        asks: list[tuple[int, Ask]] = []
        for index, request in enumerate(requests):
            try:
                ask = self._ask(request, now)
            except ParleyError as error:
                results[index] = error
            else:
                if ask is not None:
                    asks.append((index, ask))
        if asks:
            decided = await self._deciding.decide([ask for _, ask in asks], now, hold=True)
            for (index, ask), (answer, by_redis) in zip(asks, decided, strict=True):
                results[index] = (
                    answer
                    if isinstance(answer, ParleyError)
                    else self._reserved(ask, answer, origin(ask, by_redis), now)
                )
        return results

    def learn_zones(self, requests: Sequence[pb.ReserveRequest]) -> None:
        """Take over the time zones of tenants that requests name, from callers who know them."""
        for request in requests:
            if request.time_zone:
                self._book.learn_zone(request.tenant_id, request.time_zone)

    async def check(self, request: pb.CheckRequest) -> pb.CheckResponse:
        """What a Reserve would answer."""
        now = self._now()
        ask = ask_of(
            self._book.rules,
            self._days,
            now,
            tenant_id=request.tenant_id,
            request_id="",
            resource=request.resource,
            subject=_subject(request.subject),
            units=request.units or 1,
        )
        if ask is None:
            return pb.CheckResponse(allowed=True)
        [(answer, _)] = await self._deciding.decide([ask], now, hold=False)
        if isinstance(answer, ParleyError):
            raise answer
        return present.checked(ask, answer, now)

    async def usage(self, request: pb.GetUsageRequest) -> pb.GetUsageResponse:
        """Where a subject stands under every rule that matches it."""
        now = self._now()
        asks = usage_asks(
            self._book.rules,
            self._days,
            now,
            tenant_id=request.tenant_id,
            resource=request.resource,
            subject=_subject(request.subject),
        )
        if not asks:
            return pb.GetUsageResponse()
        found = []
        for ask, (answer, _) in zip(asks, await self._deciding.decide(asks, now, hold=False), strict=True):
            if isinstance(answer, ParleyError):
                raise answer
            found.append(present.statuses(ask.lines, answer.uses))
        return pb.GetUsageResponse(statuses=sorted(chain(*found), key=lambda status: status.rule_id))

    async def commit(self, requests: Sequence[pb.CommitRequest]) -> list[pb.CommitResponse | ParleyError]:
        """Charges reservations, each once, on the day on which they were made."""
        wanted: list[str | ParleyError] = []
        reservations: dict[str, Reservation] = {}
        for request in requests:
            try:
                reservation = self._tokens.read(request.reservation_id, request.tenant_id)
            except ParleyError as error:
                wanted.append(error)
            else:
                wanted.append(reservation.body.key)
                reservations.setdefault(reservation.body.key, reservation)
        committed = await self._charge(reservations) if reservations else {}
        results: list[pb.CommitResponse | ParleyError] = []
        for each in wanted:
            if isinstance(each, ParleyError):
                results.append(each)
            else:
                results.append(committed[each])
                committed[each] = pb.CommitResponse(statuses=committed[each].statuses, replayed=True)
        return results

    async def _charge(self, reservations: dict[str, Reservation]) -> dict[str, pb.CommitResponse]:
        counted = [each for each in reservations.values() if any(line.is_quota for line in each.body.lines)]
        charged = await self._ledger.charge(counted) if counted else {}
        settled: dict[str, Settled] = {}
        try:
            items = [(each, charged[key].counts if key in charged else {}) for key, each in reservations.items()]
            found = await self._counters.commit(items, epoch=self._book.epoch)
            settled = dict(zip(reservations, found, strict=True))
        except Away:
            if counted:
                await self._book.redis_missed()
        held_here = [key for key, each in reservations.items() if each.origin is Origin.POSTGRES]
        if held_here:
            await self._ledger.drop_holds(held_here)
        return {key: _committed(each, charged.get(key), settled.get(key)) for key, each in reservations.items()}

    async def release(self, request: pb.ReleaseRequest) -> None:
        """Gives back what a reservation holds; while Redis is away that happens when the hold expires."""
        reservation = self._tokens.read(request.reservation_id, request.tenant_id)
        if reservation.origin is Origin.POSTGRES:
            await self._ledger.drop_holds([reservation.body.key])
        try:
            await self._counters.release(reservation)
        except Away:
            self._book.poke()

    async def reset(self, request: pb.ResetUsageRequest) -> pb.ResetUsageResponse:
        """Sets a subject's use under one rule back to zero, with what is held."""
        now = self._now()
        rule = self._book.rules.of(request.tenant_id).get(request.rule_id)
        if rule is None:
            raise ParleyError(
                Kind.NOT_FOUND,
                "RULE_NOT_FOUND",
                f"There is no rule {request.rule_id!r}.",
                metadata={"rule_id": request.rule_id},
            )
        subject = _subject(request.subject)
        line = line_of(rule, subject, bare_value(rule, subject), self._days, now, TTL)
        key = CounterKey(request.tenant_id, line.rule_id, line.value, line.day) if line.is_quota else None

        async def window() -> None:
            try:
                await self._counters.reset(request.tenant_id, line, 0, epoch=self._book.epoch)
            except Away:
                raise storage_unavailable("Redis") from None

        version = await self._ledger.reset(request, key, window)
        if key is None or version is None:
            return pb.ResetUsageResponse()
        try:
            await self._counters.reset(request.tenant_id, line, version, epoch=self._book.epoch)
        except Away:
            await self._book.redis_missed()
        return pb.ResetUsageResponse()

    def _ask(self, request: pb.ReserveRequest, now: int) -> Ask | None:
        ttl = request.ttl.ToMilliseconds() if request.HasField("ttl") else TTL
        return ask_of(
            self._book.rules,
            self._days,
            now,
            tenant_id=request.tenant_id,
            request_id=request.request_id,
            resource=request.resource,
            subject=_subject(request.subject),
            units=request.units or 1,
            ttl=max(ttl, 1),
            max_wait=request.max_wait.ToMilliseconds(),
            lasts=request.lasts.ToMilliseconds(),
        )

    def _reserved(self, ask: Ask, answer: Answer, origin: Origin, now: int) -> pb.ReserveResponse | ParleyError:
        if answer.verdict is Verdict.REFUSED:
            return present.refused(ask, answer, now)
        if answer.verdict is Verdict.REPLAYED and decode_body(answer.body).digest != ask.digest:
            message = "The request id was used before with another request; choose a new one."
            return ParleyError(Kind.EXISTS, "REQUEST_ID_REUSED", message)
        token = self._tokens.make(answer.body, origin, answer.at, answer.expires)
        return present.granted(ask, answer, token)


def _subject(subject: pb.Subject) -> Subject:
    return Subject(subject.bot_id, subject.channel_id, subject.contact_id)


def _committed(reservation: Reservation, charged: Charged | None, settled: Settled | None) -> pb.CommitResponse:
    lines = [(index, line) for index, line in enumerate(reservation.body.lines) if line.is_quota]
    if charged is None:
        return pb.CommitResponse(replayed=settled is not None and settled.replayed)
    uses = [
        Use(settled.uses[index] if settled is not None else charged.counts[line.rule_id].used) for index, line in lines
    ]
    statuses = present.statuses([line for _, line in lines], uses)
    return pb.CommitResponse(statuses=statuses, replayed=not charged.fresh)
