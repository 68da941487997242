"""One turn from its claim to its end."""

from collections.abc import Callable, Sequence

from services.dialog.domain.bots import Bot
from services.dialog.domain.items import (
    TAKEN_BY_OPERATOR,
    Item,
    Mode,
    TimerDue,
    timers_after,
)
from services.dialog.domain.retry import TryAgain
from services.dialog.domain.turns import (
    Claimed,
    DeadLetter,
    Failure,
    MessageState,
    Outcome,
    Plan,
    Planned,
    PutOff,
    TurnEnd,
    Unreadable,
    Waiting,
    error_text,
)
from services.dialog.ports import Chats, Turns
from services.dialog.usecases import spans
from services.dialog.usecases.decide import Decide
from services.dialog.usecases.effects import CarriedOut, Effects
from services.dialog.usecases.plans import apology
from services.dialog.usecases.repeat import until_stored
from services.dialog.usecases.setbacks import (
    faulty,
    left_to_newer,
    stopped_by,
    too_many_faults,
    waits_for,
)
from services.dialog.usecases.timers import RunTimer
from services.kernel.clock import Clock
from services.kernel.errors import ParleyError
from services.runtime import crashpoints
from services.runtime.lanes import Guard, Lease, LeaseLost
from services.runtime.logs import get_logger

log = get_logger(__name__)

LEAVE = 8.0
"""Seconds for which this process takes no lane of a bot of which only a newer version can read something."""


class RunTurn:
    """The work of a leased lane: decide, commit the plan, carry it out, finish. After a crash at any line it goes on
    where the last commit left it: a plan that is committed is carried out again and never decided again."""

    def __init__(
        self,
        turns: Turns,
        decide: Decide,
        effects: Effects,
        chats: Chats,
        clock: Clock,
        wake: Callable[[float], None],
        leave: Callable[[Lease, float], None],
        ended: Callable[[TurnEnd, Sequence[Waiting]], None] = lambda end, messages: None,
    ) -> None:
        """`wake` tells the dispatcher in how many seconds a lane is due, `leave` for how long to take none like it.
        `ended` is told of each turn that has ended, with its messages (none: a dead letter)."""
        self._turns = turns
        self._decide = decide
        self._effects = effects
        self._chats = chats
        self._clock = clock
        self._run_timer = RunTimer(turns, self._leave_to_newer)
        self._wake = wake
        self._leave = leave
        self._ended = ended

    async def __call__(self, claimed: Item, guard: Guard) -> bool:
        """Work on a lane; whether more waits in it now. Raises LeaseLost."""
        if isinstance(claimed, TimerDue):
            return await self._run_timer(claimed)
        if isinstance(claimed, Unreadable):
            return await self._pass_on(claimed)
        crashpoints.reach("dialog.after_claim")
        head = claimed.head
        with spans.consumer("process inbox", head.traceparent, head.tracestate) as span:
            if span.is_recording():
                span.set_attributes(_attributes(claimed))
            return await self._run(claimed, guard)

    async def _run(self, claimed: Claimed, guard: Guard) -> bool:
        lease, head = claimed.lease, claimed.head
        planned = isinstance(claimed.open_turn, Plan)
        # A message keeps the number of decisions that were begun for it, whatever carrying out the plan takes.
        attempts = None if planned else lease.attempts
        if lease.mode == Mode.OPERATOR and not planned:
            return await self._pass_to_operator(claimed)
        try:
            decided = await self._decide(claimed, guard)
            if isinstance(decided, TryAgain):
                return await self._put_off(PutOff(lease, head.message_id, decided))
            if isinstance(decided, DeadLetter):
                return await self._bury(lease, decided)
            new = await self._commit(claimed, decided)
            planned = True
            for other in new.messages[1:]:
                spans.link(other.traceparent, other.tracestate)
            done = await self._effects.carry_out(new.plan, new.last, lease.lane_id, guard)
            await self._mark_bot(claimed.bot, new.plan)
            return await self._finish(new, done, attempts)
        except LeaseLost:
            raise
        except Exception as error:
            stop = stopped_by(error)
            if not planned and too_many_faults(claimed, stop):
                return await self._bury(lease, faulty(claimed, stop))
            again = waits_for(stop, lease, planned=planned, attempts=attempts if planned else None)
            return await self._put_off(PutOff(lease, head.message_id, again))

    async def _commit(self, claimed: Claimed, new: Planned) -> Planned:
        """Commit a plan, or, when it holds what cannot be stored, one that says sorry; which it was."""
        if new.committed:
            return new
        with spans.child("commit plan"):
            try:
                await until_stored(lambda: self._turns.commit_plan(new))
                return new
            except ParleyError as error:
                log.error("a plan cannot be stored", turn_id=str(new.plan.turn_id), error=str(error))
                sorry = apology(new, claimed.bot, Failure("INTERNAL", f"the plan cannot be stored: {error}"))
            await until_stored(lambda: self._turns.commit_plan(sorry))
            return sorry

    async def _mark_bot(self, bot: Bot | None, plan: Plan) -> None:
        """A fatal failure breaks the bot that was asked; a model that answers mends it."""
        if bot is None:
            return
        broken = ""
        if plan.failure is not None and plan.failure.fatal:
            broken = error_text(plan.failure.reason, plan.failure.message)
            log.error("a bot is broken", tenant_id=bot.tenant_id, bot_id=bot.bot_id, reason=plan.failure.reason)
        elif not (bot.broken_reason and plan.outcome is Outcome.ANSWERED and plan.decided.charge_quota):
            return
        await self._turns.mark_broken(bot.tenant_id, bot.bot_id, plan.bot_revision, broken)

    async def _finish(self, planned: Planned, done: CarriedOut, attempts: int | None) -> bool:
        failure = planned.plan.failure
        if failure is not None:
            spans.failed(failure.reason)
        end = TurnEnd(
            lease=planned.lease,
            turn_id=planned.plan.turn_id,
            message_ids=[message.message_id for message in planned.messages],
            state=MessageState.TERMINAL if failure else MessageState.COMPLETED,
            attempts=attempts,
            last_error=error_text(failure.reason, failure.message) if failure else done.error,
            terminal_reason=failure.reason if failure else "",
            replies=done.replies,
            data_version=done.version,
            timers=timers_after(planned, self._clock.now()),
        )
        crashpoints.reach("dialog.before_finish_commit")
        pending = await until_stored(lambda: self._turns.finish(end))
        crashpoints.reach("dialog.after_finish_commit")
        for message in planned.messages:
            if message.chat:
                self._chats.done(message.chat, message.message_id)
        self._ended(end, planned.messages)
        return pending > 0

    async def _pass_to_operator(self, claimed: Claimed) -> bool:
        """An operator has the conversation and reads the message; whether more waits in the lane."""
        head = claimed.head
        end = TurnEnd(
            lease=claimed.lease,
            turn_id=None,
            message_ids=[head.message_id],
            state=MessageState.COMPLETED,
            attempts=0,
            terminal_reason=TAKEN_BY_OPERATOR,
        )
        pending = await until_stored(lambda: self._turns.finish(end))
        if head.chat:
            self._chats.done(head.chat, head.message_id)
        return pending > 0

    async def _put_off(self, item: PutOff) -> bool:
        """The lane goes for a while."""
        await until_stored(lambda: self._turns.put_off(item))
        self._wake(item.again.delay.total_seconds())
        crashpoints.reach("dialog.after_put_off")
        return False

    async def _bury(self, lease: Lease, letter: DeadLetter) -> bool:
        """End a message that nobody can answer; whether more waits in the lane."""
        spans.failed(letter.reason)
        message_id = letter.message_id
        log.error("a message cannot be answered", message_id=str(message_id), reason=letter.reason, error=letter.error)
        end = TurnEnd(
            lease=lease,
            turn_id=None,
            message_ids=[message_id],
            state=MessageState.TERMINAL,
            attempts=letter.attempts,
            last_error=letter.error,
            terminal_reason=letter.reason,
        )
        pending = await until_stored(lambda: self._turns.finish(end))
        if letter.chat:
            self._chats.done(letter.chat, message_id)
        self._ended(end, [])
        return pending > 0

    async def _pass_on(self, item: Unreadable) -> bool:
        """Leave a lane that cannot be read to a newer version, or go on without its message."""
        what = left_to_newer(item)
        if isinstance(what, DeadLetter):
            return await self._bury(item.lease, what)
        return await self._leave_to_newer(PutOff(item.lease, item.message_id, what))

    async def _leave_to_newer(self, item: PutOff) -> bool:
        self._leave(item.lease, LEAVE)
        return await self._put_off(item)


def asks_model(item: Item) -> bool:
    """Whether the work on a lane will likely ask a model, and so be long; not when a plan has to be carried out."""
    if not isinstance(item, Claimed):
        return False
    return not isinstance(item.open_turn, Plan) and item.bot is not None and item.bot.asks_model


def _attributes(claimed: Claimed) -> dict[str, str | int]:
    return {
        "messaging.operation.name": "process",
        "messaging.destination.name": "inbox",
        "parley.tenant_id": claimed.head.request.tenant_id,
        "parley.message_id": str(claimed.head.message_id),
        "parley.conversation_id": str(claimed.lease.lane_id),
        "parley.attempt": claimed.lease.attempts,
    }
