"""One turn from its claim to its end: decide once, commit the plan, carry it out, finish."""

from datetime import datetime

from services.dialog.domain import Bot, DecisionError, FailureKind, Known, TurnInput
from services.dialog.turns import Claimed, Failure, Frozen, NewPlan, Plan, Unreadable, error_text
from services.dialog.usecases import spans
from services.dialog.usecases.begun import Begun, given_up, messages_of
from services.dialog.usecases.carry_out import CarryOut, Ended
from services.dialog.usecases.decide import Decide
from services.dialog.usecases.effects import Effects
from services.dialog.usecases.lateness import Lateness
from services.dialog.usecases.patience import until_stored
from services.dialog.usecases.ports import Chats, Never, NotNow, Turns
from services.dialog.usecases.trouble import Trouble, killed_too_many, too_many_faults, why
from services.kernel.clock import Clock
from services.kernel.errors import ParleyError
from services.kernel.ids import uuid7
from services.runtime import crashpoints
from services.runtime.lanes import Guard, LeaseLost
from services.runtime.logs import get_logger

log = get_logger(__name__)


class RunTurn:
    """The work of a leased lane. After a crash at any line it goes on where the last commit left it: a plan that is
    committed is carried out again and never decided again."""

    def __init__(
        self,
        turns: Turns,
        decide: Decide,
        effects: Effects,
        lateness: Lateness,
        chats: Chats,
        clock: Clock,
        trouble: Trouble,
        ended: Ended = lambda item, messages: None,
    ) -> None:
        self._turns = turns
        self._decide = decide
        self._carry_out = CarryOut(turns, effects, chats, trouble, ended)
        self._lateness = lateness
        self._clock = clock
        self._trouble = trouble

    async def __call__(self, claimed: Claimed | Unreadable, guard: Guard) -> bool:
        """Work on a lane; whether more waits in it now. Raises LeaseLost."""
        if isinstance(claimed, Unreadable):
            return await self._trouble.unreadable(claimed)
        head = claimed.head
        crashpoints.reach("dialog.after_claim")
        with spans.consumer("process inbox", head.traceparent, head.tracestate) as span:
            if span.is_recording():
                span.set_attributes(_attributes(claimed))
            try:
                return await self._run(claimed, guard)
            except LeaseLost:
                raise
            except Exception as error:
                return await self._put_off(claimed, why(error), guard)

    async def _put_off(self, claimed: Claimed, error: NotNow, guard: Guard) -> bool:
        """The turn waits; a fault that stays is told to the person, and the message is a dead letter."""
        planned = isinstance(claimed.open_turn, Plan)
        if planned or not too_many_faults(claimed, error):
            await self._trouble.waits(claimed, error, planned=planned)
            return False
        failure = Failure("INTERNAL", str(error))
        try:
            if claimed.bot is not None:
                begun = await self._unknown(claimed, claimed.bot)
                new = await self._given_up(claimed, begun, failure)
                return await self._carry_out(claimed, await self._commit(claimed, begun, new), begun.messages, guard)
        except LeaseLost:
            raise
        except Exception as again:
            log.error("a turn cannot be given up in good order", lane_id=str(claimed.lease.lane_id), exc_info=again)
        head, text = claimed.head, error_text(failure.reason, failure.message)
        attempts = claimed.lease.attempts
        return await self._trouble.dead(
            claimed.lease, [head.message_id], failure.reason, text, chat=head.chat, attempts=attempts
        )

    async def _run(self, claimed: Claimed, guard: Guard) -> bool:
        bot = claimed.bot
        if isinstance(claimed.open_turn, Plan):
            messages = await messages_of(claimed.open_turn, self._turns, claimed)
            return await self._carry_out(claimed, claimed.open_turn, messages, guard)
        if bot is None:
            return await self._without_bot(claimed)
        early = bot.debounce.total_seconds() - claimed.head.age
        if early > 0 and claimed.lease.attempts == 1:
            await self._trouble.later(claimed, early)
            return False
        # What has killed three workers may have done so anywhere: nothing more is tried with it.
        given_up_now = killed_too_many(claimed)
        try:
            begun = await (self._unknown(claimed, bot) if given_up_now else self._decide.begin(claimed, bot))
            new = await self._decided(claimed, begun, guard)
        except Never as error:
            begun = await self._unknown(claimed, bot)
            new = await self._given_up(claimed, begun, Failure(error.reason, str(error)))
        if new is None:
            return False
        plan = await self._commit(claimed, begun, new)
        return await self._carry_out(claimed, plan, begun.messages, guard)

    async def _commit(self, claimed: Claimed, begun: Begun, new: NewPlan) -> Plan:
        """Commit a plan, or, when it holds what cannot be stored, one that says sorry; which it was."""
        with spans.child("commit plan"):
            try:
                await until_stored(lambda: self._turns.commit_plan(new))
                return new.plan
            except ParleyError as error:
                log.error("a plan cannot be stored", turn_id=str(begun.turn_id), error=str(error))
                failure = Failure("INTERNAL", f"the plan cannot be stored: {error}")
                sorry = given_up(begun, failure, new.plan.reservation_id)
                instead = self._new_plan(claimed, begun, sorry)
            await until_stored(lambda: self._turns.commit_plan(instead))
            return sorry

    async def _decided(self, claimed: Claimed, begun: Begun, guard: Guard) -> NewPlan | None:
        """The turn's plan; None when it failed and is tried again later."""
        if killed_too_many(claimed):
            failure = Failure("INTERNAL", f"the worker was lost {claimed.lease.losses} times")
            return await self._given_up(claimed, begun, failure)
        try:
            return self._new_plan(claimed, begun, await self._decide.decide(claimed, begun, guard))
        except DecisionError as error:
            again = await self._lateness.after(claimed, begun, guard, error)
            if again is not None:
                await self._trouble.failed(claimed, error, again)
                return None
            failure = Failure(error.reason, str(error), fatal=error.kind is FailureKind.FATAL)
            return await self._given_up(claimed, begun, failure, error.reservation_id)

    async def _without_bot(self, claimed: Claimed) -> bool:
        """Nobody can answer: a dead letter, which can be retried once the bot exists."""
        head = claimed.head
        error = f"BOT_NOT_FOUND: There is no bot {head.request.bot_id!r}."
        attempts = claimed.lease.attempts
        return await self._trouble.dead(
            claimed.lease, [head.message_id], "BOT_NOT_FOUND", error, chat=head.chat, attempts=attempts
        )

    def _new_plan(self, claimed: Claimed, begun: Begun, plan: Plan) -> NewPlan:
        last = begun.last
        return NewPlan(claimed.lease, plan, last.request, last.message_id, begun.started_at)

    async def _given_up(self, claimed: Claimed, begun: Begun, failure: Failure, reservation_id: str = "") -> NewPlan:
        held = reservation_id or await self._decide.held(claimed)
        return self._new_plan(claimed, begun, given_up(begun, failure, held))

    async def _unknown(self, claimed: Claimed, bot: Bot) -> Begun:
        """A turn about whose sender nothing can be known, or nothing is asked any more."""
        turn_id, messages = uuid7(), [claimed.head]
        if isinstance(claimed.open_turn, Frozen):  # given up as a whole, or what is left of it would share its id
            turn_id = claimed.open_turn.turn_id
            messages = [*await messages_of(claimed.open_turn, self._turns, claimed)]
        now: datetime = self._clock.now()
        inputs = TurnInput(turn_id=str(turn_id), bot=bot, messages=[], known=Known(), now=now)
        return Begun(turn_id, messages, inputs, now)


def asks_model(claimed: Claimed | Unreadable) -> bool:
    """Whether the work on a lane will likely ask a model, and so be long; not when a plan has to be carried out."""
    if isinstance(claimed, Unreadable):
        return False
    return not isinstance(claimed.open_turn, Plan) and claimed.bot is not None and claimed.bot.asks_model


def _attributes(claimed: Claimed) -> dict[str, str | int]:
    return {
        "messaging.operation.name": "process",
        "messaging.destination.name": "inbox",
        "parley.tenant_id": claimed.head.request.tenant_id,
        "parley.message_id": str(claimed.head.message_id),
        "parley.conversation_id": str(claimed.lease.lane_id),
        "parley.attempt": claimed.lease.attempts,
    }
