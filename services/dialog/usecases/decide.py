"""Decide what a turn answers: what is known, what is allowed, what the flow says."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from services.dialog.domain.bots import Bot, FormSettings
from services.dialog.domain.failures import DecisionError, FailureKind
from services.dialog.domain.flows import (
    Budget,
    BudgetExceeded,
    Flow,
    Known,
    TurnInput,
    TurnTools,
)
from services.dialog.domain.retry import GiveUp, TooLate, TryAgain
from services.dialog.domain.turns import (
    Claimed,
    DeadLetter,
    Failure,
    Frozen,
    Outcome,
    Plan,
    Planned,
    Refused,
    Reserved,
    Turn,
    error_text,
    presentable,
)
from services.dialog.ports import (
    Chats,
    Contexts,
    Never,
    NotNow,
    Steps,
    Turns,
)
from services.dialog.usecases import spans
from services.dialog.usecases.journal import Meter, TurnJournal
from services.dialog.usecases.late_answers import LateAnswers, Verdicts
from services.dialog.usecases.plans import (
    given_up,
    inbound,
    limited,
    messages_of,
    plan_of,
    run_of,
)
from services.dialog.usecases.reservations import Reservations
from services.dialog.usecases.setbacks import (
    killed_too_many,
    stopped_by,
    too_many_faults,
    without_bot,
)
from services.kernel.clock import Clock
from services.kernel.errors import Kind, ParleyError
from services.kernel.ids import uuid7
from services.runtime import crashpoints
from services.runtime.content import as_text
from services.runtime.lanes import Guard, LeaseLost
from services.runtime.logs import get_logger

log = get_logger(__name__)

T = TypeVar("T")

TO_RENDER = 5.0
"""Seconds that a flow has beyond its budget, to say what came of a step that took all of it."""


class Decide:
    """Finds out what a turn is about, and asks its flow once."""

    def __init__(
        self,
        turns: Turns,
        steps: Steps,
        contexts: Contexts,
        reservations: Reservations,
        chats: Chats,
        late: LateAnswers,
        flow_for: Callable[[Bot], Flow],
        clock: Clock,
        budget: Budget,
        check_model: Callable[[], None],
        *,
        show_text: bool,
    ) -> None:
        """`check_model` raises DecisionError while the model is away; `show_text`: whether logs and spans may hold what
        is said."""
        self._turns = turns
        self._steps = steps
        self._contexts = contexts
        self._reservations = reservations
        self._chats = chats
        self._late = late
        self._flow_for = flow_for
        self._clock = clock
        self._budget = budget
        self._check_model = check_model
        self._show_text = show_text

    async def __call__(self, claimed: Claimed, guard: Guard) -> Planned | TryAgain | DeadLetter:
        """What a lane's next messages get; what was decided before holds. Raises LeaseLost, and NotNow when a service
        is away or at fault."""
        try:
            if isinstance(claimed.open_turn, Plan):
                messages = await messages_of(claimed.open_turn, self._turns, claimed)
                return Planned(claimed.lease, claimed.open_turn, messages, None)
            bot = claimed.bot
            if bot is None:
                return without_bot(claimed)
            early = bot.debounce.total_seconds() - claimed.head.age
            if early > 0 and claimed.lease.attempts == 1:
                return TryAgain(timedelta(seconds=early), counted=False, delays=claimed.lease.delays)
            return await self._new_plan(claimed, bot, guard)
        except LeaseLost:
            raise
        except Exception as error:
            stop = stopped_by(error)
            if claimed.bot is None or isinstance(claimed.open_turn, Plan) or not too_many_faults(claimed, stop):
                raise stop from error
            return await self._given_up(
                claimed, await self._unknown(claimed, claimed.bot), Failure("INTERNAL", str(stop))
            )

    async def _new_plan(self, claimed: Claimed, bot: Bot, guard: Guard) -> Planned | TryAgain:
        if killed_too_many(claimed):  # what has killed three workers may have done so anywhere: nothing more is tried
            failure = Failure("INTERNAL", f"the worker was lost {claimed.lease.losses} times")
            return await self._given_up(claimed, await self._unknown(claimed, bot), failure)
        try:
            turn = await self._begin(claimed, bot)
        except Never as error:
            return await self._given_up(claimed, await self._unknown(claimed, bot), Failure(error.reason, str(error)))
        verdicts = Verdicts(lambda error: self._late.verdict(claimed, turn, error))
        try:
            plan = await self._decide(claimed, turn, guard, verdicts)
        except DecisionError as error:
            return await self._failed(claimed, turn, guard, error, verdicts.of(error))
        return Planned(claimed.lease, plan, turn.messages, turn.started_at)

    async def _begin(self, claimed: Claimed, bot: Bot) -> Turn:
        """Find out what the turn is about. A turn that had called out before goes on with the inputs it had. Raises
        NotNow, and Never when the sender is not acceptable."""
        now, lease = self._clock.now(), claimed.lease
        frozen = claimed.open_turn if isinstance(claimed.open_turn, Frozen) else None
        if frozen is not None:
            return Turn(lease, frozen.turn_id, await messages_of(frozen, self._turns, claimed), frozen.inputs, now)
        messages = run_of(await self._turns.waiting(claimed)) if bot.debounce else [claimed.head]
        request = messages[-1].request
        known = await self._contexts.get(request.tenant_id, lease.lane_id, request.sender, lease.data_version)
        crashpoints.reach("dialog.after_get_context")
        turn_id = uuid7()
        inputs = TurnInput(
            turn_id=str(turn_id),
            bot=bot,
            messages=[inbound(message) for message in messages],
            known=known,
            now=now,
            default_region=claimed.default_region,
            time_zone=claimed.time_zone,
        )
        return Turn(lease, turn_id, messages, inputs, now)

    async def _unknown(self, claimed: Claimed, bot: Bot) -> Turn:
        """A turn about whose sender nothing can be known, or nothing is asked any more."""
        turn_id, messages = uuid7(), [claimed.head]
        if isinstance(claimed.open_turn, Frozen):  # given up as a whole, or what is left of it would share its id
            turn_id = claimed.open_turn.turn_id
            messages = [*await messages_of(claimed.open_turn, self._turns, claimed)]
        now = self._clock.now()
        inputs = TurnInput(turn_id=str(turn_id), bot=bot, messages=[], known=Known(), now=now)
        return Turn(claimed.lease, turn_id, messages, inputs, now)

    async def _decide(self, claimed: Claimed, turn: Turn, guard: Guard, verdicts: Verdicts) -> Plan:
        """The flow's plan. Raises DecisionError, and NotNow when limits cannot be asked."""
        if self._show_text:
            spans.show("messages", [message.text for message in turn.inputs.messages], turn.turn_id)
        try:
            flow = self._flow_for(turn.inputs.bot)
        except ParleyError as error:
            # A form that an older version had accepted, or that comes with Parley no more: the bot is broken.
            raise DecisionError(FailureKind.FATAL, error.reason, error.message) from error
        except Exception as error:
            raise _unexpected(turn, error) from error
        tools = await self._tools(claimed, turn, guard, verdicts)
        reserved = Reserved("", None)
        decided = await self._ask(flow.prepare, turn, tools, "prepare")
        if decided is None:
            self._check_model()
            answer = await self._reservations.reserve(claimed, turn)
            if isinstance(answer, Refused):
                return limited(turn, answer)
            reserved = answer
            try:
                decided = await self._ask(flow.decide, turn, tools, "decide")
            except DecisionError as error:
                error.reservation_id = reserved.reservation_id
                raise
        remaining = reserved.remaining
        if remaining is not None and not decided.charge_quota:
            remaining += 1
        decided = presentable(decided)
        if self._show_text:
            spans.show("replies", list(map(as_text, decided.replies)), turn.turn_id)
        return plan_of(turn, Outcome.ANSWERED, decided, reservation_id=reserved.reservation_id, remaining=remaining)

    async def _tools(self, claimed: Claimed, turn: Turn, guard: Guard, verdicts: Verdicts) -> TurnTools:
        meter = Meter(self._budget)
        previews = self._chats.previews(turn.last.chat, turn.last.message_id)
        if claimed.lease.attempts > 1 or isinstance(claimed.open_turn, Frozen):
            await previews.reset()  # whoever began before may have said something
        journal = TurnJournal(self._steps, turn, guard, meter)
        return TurnTools(journal, previews, meter.left, lambda error: isinstance(verdicts.of(error), GiveUp))

    async def _ask(
        self, ask: Callable[[TurnInput, TurnTools], Awaitable[T]], turn: Turn, tools: TurnTools, what: str
    ) -> T:
        """Ask the flow, for as long as the budget of time lasts. Raises DecisionError, NotNow and LeaseLost."""
        # All of a form is prepared.
        name = "decide form" if isinstance(turn.inputs.bot.flow, FormSettings) else f"{what} assistant"
        try:
            with spans.child(name):
                if not turn.inputs.bot.asks_model:  # it calls nobody but the journal, which has times of its own
                    return await ask(turn.inputs, tools)
                async with asyncio.timeout(max(0.0, tools.left().seconds) + TO_RENDER):
                    return await ask(turn.inputs, tools)
        except BudgetExceeded as error:
            if error.resource == "seconds":
                await tools.previews.reset()
            raise
        except (DecisionError, LeaseLost):
            raise
        except TimeoutError as error:
            await tools.previews.reset()
            raise BudgetExceeded("seconds", f"the decision took longer than {self._budget.seconds:g} s") from error
        except ParleyError as error:
            if error.kind is Kind.UNAVAILABLE:  # the journal's store
                raise NotNow(str(error)) from error
            raise _unexpected(turn, error) from error
        except Exception as error:
            raise _unexpected(turn, error) from error

    async def _failed(
        self, claimed: Claimed, turn: Turn, guard: Guard, error: DecisionError, verdict: TryAgain | TooLate | GiveUp
    ) -> Planned | TryAgain:
        """A decision failed: it is tried again, after an apology where the answer will be late, or given up."""
        if isinstance(verdict, GiveUp):
            failure = Failure(error.reason, str(error), fatal=error.kind is FailureKind.FATAL)
            return await self._given_up(claimed, turn, failure, error.reservation_id)
        if isinstance(verdict, TooLate):
            await self._late.announce(turn, guard)
            verdict = TryAgain(verdict.delay, counted=False)
        attempts = claimed.lease.attempts - (not verdict.counted)
        log.warning(
            "a decision failed",
            message_id=str(claimed.head.message_id),
            reason=error.reason,
            attempts=attempts,
            delay=verdict.delay.total_seconds(),
        )
        spans.failed(error.reason)
        return replace(verdict, failed=True, attempts=attempts, error=error_text(error.reason, error))

    async def _given_up(self, claimed: Claimed, turn: Turn, failure: Failure, reservation_id: str = "") -> Planned:
        held = reservation_id or await self._reservations.held(claimed)
        return Planned(claimed.lease, given_up(turn, failure, held), turn.messages, turn.started_at)


def _unexpected(turn: Turn, error: Exception) -> DecisionError:
    log.error("a flow failed", turn_id=str(turn.turn_id), bot_id=turn.inputs.bot.bot_id, exc_info=error)
    return DecisionError(FailureKind.TERMINAL, "INTERNAL", f"unexpected {type(error).__name__}")
