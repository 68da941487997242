"""Reserve, commit, release: Redis decides, Postgres remembers."""

from collections.abc import Sequence
from itertools import chain

from parley.limits.v1 import limits_pb2 as pb

from services.kernel.clock import Clock
from services.kernel.errors import Kind, ParleyError, not_found, storage_unavailable
from services.limits.convert import use
from services.limits.domain.algorithms.base import Wanted
from services.limits.domain.asks import TTL, Answer, Ask, CounterKey, Verdict, ask_of, hold_of, usage_asks
from services.limits.domain.periods import Calendar
from services.limits.domain.reservations import Origin, ReservationIds, decode_body
from services.limits.domain.settlements import Charged, Settled, Settlement
from services.limits.ports import Away, Counters, Ledger
from services.limits.usecases.decide import Decide, origin
from services.limits.usecases.rulebook import RuleBook


class Limits:
    """All that is asked about use. Every method takes a batch, and one call is a batch of one."""

    def __init__(self, book: RuleBook, counters: Counters, ledger: Ledger, ids: ReservationIds, clock: Clock) -> None:
        self._book = book
        self._counters = counters
        self._ledger = ledger
        self._ids = ids
        self._clock = clock
        self._calendar = Calendar()
        self._decide = Decide(book, counters, ledger)

    def _now(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    async def reserve(self, requests: Sequence[pb.ReserveRequest]) -> list[pb.ReserveResponse | ParleyError]:
        """Holds units under all rules that match, or under none."""
        now = self._now()
        results: list[pb.ReserveResponse | ParleyError] = [use.UNLIMITED] * len(requests)
        asks: list[tuple[int, Ask]] = []
        for index, request in enumerate(requests):
            try:
                ask = ask_of(self._book.rules, self._calendar, now, use.reserve_from(request))
            except ParleyError as error:
                results[index] = error
            else:
                if ask is not None:
                    asks.append((index, ask))
        if asks:
            decided = await self._decide([ask for _, ask in asks], now, hold=True)
            for (index, ask), (answer, by_redis) in zip(asks, decided, strict=True):
                results[index] = (
                    answer
                    if isinstance(answer, ParleyError)
                    else self._reserved(ask, answer, origin(ask, by_redis), now)
                )
        return results

    def learn_zones(self, requests: Sequence[pb.ReserveRequest]) -> None:
        """Takes over the time zones of tenants that requests name, from callers who know them."""
        for request in requests:
            if request.time_zone:
                self._book.learn_zone(request.tenant_id, request.time_zone)

    async def check(self, request: pb.CheckRequest) -> pb.CheckResponse:
        """Tells what a Reserve would answer."""
        now = self._now()
        ask = ask_of(self._book.rules, self._calendar, now, use.check_from(request))
        if ask is None:
            return pb.CheckResponse(allowed=True)
        [(answer, _)] = await self._decide([ask], now, hold=False)
        if isinstance(answer, ParleyError):
            raise answer
        return use.checked(ask, answer, now)

    async def usage(self, request: pb.GetUsageRequest) -> pb.GetUsageResponse:
        """Tells where a subject stands under every rule that matches it."""
        now, subject = self._now(), use.subject_from(request.subject)
        asks = usage_asks(
            self._book.rules,
            self._calendar,
            now,
            tenant_id=request.tenant_id,
            resource=request.resource,
            subject=subject,
        )
        if not asks:
            return pb.GetUsageResponse()
        found = []
        for ask, (answer, _) in zip(asks, await self._decide(asks, now, hold=False), strict=True):
            if isinstance(answer, ParleyError):
                raise answer
            found.append(use.statuses(ask.holds, answer.uses))
        return pb.GetUsageResponse(statuses=sorted(chain(*found), key=lambda status: status.rule_id))

    async def commit(self, requests: Sequence[pb.CommitRequest]) -> list[pb.CommitResponse | ParleyError]:
        """Charges what was used of reservations, each once, in the period in which they were made."""
        wanted: list[str | ParleyError] = []
        settlements: dict[str, Settlement] = {}
        for request in requests:
            try:
                reservation = self._ids.read(request.reservation_id, request.tenant_id)
                amounts = use.amounts_from(request.amounts)
            except ParleyError as error:
                wanted.append(error)
            else:
                units = request.units if request.HasField("units") else None
                wanted.append(reservation.body.key)
                settlements.setdefault(reservation.body.key, Settlement(reservation, units, amounts))
        committed = await self._charge(settlements) if settlements else {}
        results: list[pb.CommitResponse | ParleyError] = []
        for each in wanted:
            if isinstance(each, ParleyError):
                results.append(each)
            else:
                results.append(committed[each])
                committed[each] = pb.CommitResponse(statuses=committed[each].statuses, replayed=True)
        return results

    async def _charge(self, settlements: dict[str, Settlement]) -> dict[str, pb.CommitResponse]:
        lasting = [each for each in settlements.values() if each.reservation.is_counted_in_postgres]
        charged: dict[str, Charged] = await self._ledger.charge(lasting) if lasting else {}
        settled: dict[str, Settled] = {}
        try:
            found = await self._counters.commit([*settlements.values()], charged, epoch=self._book.epoch)
            settled = dict(zip(settlements, found, strict=True))
        except Away:
            if lasting:
                await self._book.redis_missed()
        held_here = [key for key, each in settlements.items() if each.reservation.origin is Origin.POSTGRES]
        if held_here:
            await self._ledger.drop_holds(held_here)
        return {key: use.committed(each, charged.get(key), settled.get(key)) for key, each in settlements.items()}

    async def release(self, request: pb.ReleaseRequest) -> None:
        """Gives back what a reservation holds; while Redis is away that happens when the hold expires."""
        reservation = self._ids.read(request.reservation_id, request.tenant_id)
        if reservation.origin is Origin.POSTGRES:
            await self._ledger.drop_holds([reservation.body.key])
        try:
            await self._counters.release(reservation)
        except Away:
            self._book.poke()

    async def reset(self, request: pb.ResetUsageRequest) -> pb.ResetUsageResponse:
        """Sets a subject's use under one rule back to zero, with what is held."""
        rule = self._book.rules.of(request.tenant_id).get(request.rule_id)
        if rule is None:
            raise not_found("RULE_NOT_FOUND", "rule", "rule_id", request.rule_id)
        nothing = Wanted(self._now(), TTL, 0, 0, {}, self._calendar)
        hold = hold_of(rule, use.subject_from(request.subject), nothing)
        key = None
        if hold.is_counted_in_postgres:
            key = CounterKey(request.tenant_id, hold.rule_id, hold.value, hold.period)

        async def in_redis() -> None:
            try:
                await self._counters.reset(request.tenant_id, hold, 0, epoch=self._book.epoch)
            except Away:
                raise storage_unavailable("Redis") from None

        version = await self._ledger.reset(request, key, in_redis)
        if key is None or version is None:
            return pb.ResetUsageResponse()
        try:
            await self._counters.reset(request.tenant_id, hold, version, epoch=self._book.epoch)
        except Away:
            await self._book.redis_missed()
        return pb.ResetUsageResponse()

    def _reserved(self, ask: Ask, answer: Answer, origin: Origin, now: int) -> pb.ReserveResponse | ParleyError:
        if answer.verdict is Verdict.REFUSED:
            return use.refused(ask, answer, now)
        if answer.verdict is Verdict.REPLAYED and decode_body(answer.body).digest != ask.digest:
            message = "The request id was used before with another request; choose a new one."
            return ParleyError(Kind.EXISTS, "REQUEST_ID_REUSED", message)
        reservation_id = self._ids.make(answer.body, origin, answer.at, answer.expires)
        return use.granted(ask, answer, reservation_id)
