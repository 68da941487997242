"""Decide what to answer: what is known, what is allowed, what the flow says."""

import asyncio
from collections.abc import Callable

from services.dialog.domain import (
    Bot,
    DecisionError,
    FailureKind,
    Flow,
    FormSettings,
    TurnInput,
    TurnPlan,
    TurnTools,
)
from services.dialog.turns import Claimed, Frozen, Outcome, Plan, Refused, Reserved, presentable
from services.dialog.usecases import spans
from services.dialog.usecases.begun import Begun, inbound, limited, messages_of, plan_of, run_of
from services.dialog.usecases.journal import TurnJournal
from services.dialog.usecases.ports import Chats, Contexts, FrozenTurn, Never, NotNow, Quota, Turns
from services.kernel.clock import Clock
from services.kernel.errors import Kind, ParleyError
from services.kernel.ids import uuid7
from services.runtime import crashpoints
from services.runtime.lanes import Guard, LeaseLost
from services.runtime.logs import get_logger

log = get_logger(__name__)


class Decide:
    """Begins turns and decides them."""

    def __init__(
        self,
        turns: Turns,
        contexts: Contexts,
        quota: Quota,
        chats: Chats,
        flow_for: Callable[[Bot], Flow],
        clock: Clock,
        longest: float,
        check_model: Callable[[], None],
        *,
        show_text: bool,
    ) -> None:
        """`longest`: seconds that a decision may take; `check_model` raises DecisionError while the model is away;
        `show_text`: whether logs and spans may hold what is said."""
        self._turns = turns
        self._contexts = contexts
        self._quota = quota
        self._chats = chats
        self._flow_for = flow_for
        self._clock = clock
        self._longest = longest
        self._check_model = check_model
        self._show_text = show_text

    async def begin(self, claimed: Claimed, bot: Bot) -> Begun:
        """Find out what the turn is about. A turn that had called out before goes on with the inputs it had. Raises
        NotNow, and Never when the sender is not acceptable."""
        now = self._clock.now()
        frozen = claimed.open_turn if isinstance(claimed.open_turn, Frozen) else None
        if frozen is not None:
            return Begun(frozen.turn_id, await messages_of(frozen, self._turns, claimed), frozen.inputs, now)
        messages = run_of(await self._turns.waiting(claimed)) if bot.debounce else [claimed.head]
        request, lease = messages[-1].request, claimed.lease
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
        )
        return Begun(turn_id, messages, inputs, now)

    async def decide(self, claimed: Claimed, begun: Begun, guard: Guard) -> Plan:
        """The plan of a turn. Raises DecisionError, and NotNow when limits cannot be asked."""
        if self._show_text:
            spans.show("messages", [message.text for message in begun.inputs.messages], begun.turn_id)
        plan = await self._plan(claimed, begun, guard)
        if self._show_text:
            spans.show("replies", plan.decided.replies, begun.turn_id)
        return plan

    async def _plan(self, claimed: Claimed, begun: Begun, guard: Guard) -> Plan:
        try:
            flow = self._flow_for(begun.inputs.bot)
            uses_model = flow.uses_model(begun.inputs)
        except ParleyError as error:
            # A form that an older version had accepted, or that comes with Parley no more: the bot is broken.
            raise DecisionError(FailureKind.FATAL, error.reason, error.message) from error
        except Exception as error:
            raise self._unexpected(begun, error) from error
        reserved = Reserved("", None)
        if uses_model:
            self._check_model()
            answer = await self._reserve(claimed, begun)
            if isinstance(answer, Refused):
                return limited(begun, answer)
            reserved = answer
        try:
            decided = await self._ask(flow, claimed, begun, guard, uses_model)
        except DecisionError as error:
            error.reservation_id = reserved.reservation_id
            raise
        remaining = reserved.remaining
        if remaining is not None and not decided.charge_quota:
            remaining += 1
        return plan_of(
            begun, Outcome.ANSWERED, presentable(decided), reservation_id=reserved.reservation_id, remaining=remaining
        )

    async def _reserve(self, claimed: Claimed, begun: Begun) -> Reserved | Refused:
        """Each time that a message is queued, one hold stands for it: an attempt finds the hold of the one before, and
        makes a new one when that has expired. An operator's retry queues it anew. A hold is settled by a committed plan
        only: who has lost the lane unawares can settle nothing that its new owner answers under."""
        try:
            answer = await self._hold(claimed, begun.inputs)
        except Never as error:
            raise DecisionError(FailureKind.TERMINAL, error.reason, str(error)) from error
        crashpoints.reach("dialog.after_model_reserve")
        return answer

    async def held(self, claimed: Claimed) -> str:
        """The reservation of a turn that is given up undecided, to be given back with it: what earlier attempts have
        held. Empty when there is none, as far as can be told now; then it expires."""
        if not isinstance(claimed.open_turn, Frozen):
            return ""
        try:
            answer = await self._hold(claimed, claimed.open_turn.inputs)
        except (NotNow, Never) as error:
            log.warning("a reservation is left to expire", turn_id=str(claimed.open_turn.turn_id), error=str(error))
            return ""
        return answer.reservation_id if isinstance(answer, Reserved) else ""

    async def _hold(self, claimed: Claimed, inputs: TurnInput) -> Reserved | Refused:
        head, contact_id = claimed.head, inputs.known.contact_id
        request_id = f"{head.message_id}/{head.seq}/{contact_id}"  # a hold is one contact's
        return await self._quota.reserve(head.request, contact_id, request_id, claimed.time_zone)

    async def _ask(self, flow: Flow, claimed: Claimed, begun: Begun, guard: Guard, uses_model: bool) -> TurnPlan:
        last = begun.last
        frozen = FrozenTurn(begun.turn_id, begun.first.seq, last.seq, last.message_id, begun.inputs, begun.started_at)
        previews = self._chats.previews(last.chat, last.message_id)
        tools = TurnTools(TurnJournal(self._turns, claimed, frozen, guard), previews)
        if claimed.lease.attempts > 1 or isinstance(claimed.open_turn, Frozen):
            await previews.reset()  # whoever began before may have said something
        try:
            with spans.child("decide form" if isinstance(begun.inputs.bot.flow, FormSettings) else "decide assistant"):
                if not uses_model:
                    return await flow.decide(begun.inputs, tools)
                async with asyncio.timeout(self._longest):
                    return await flow.decide(begun.inputs, tools)
        except (DecisionError, LeaseLost):
            raise
        except TimeoutError as error:
            await previews.reset()
            message = f"the decision took longer than {self._longest:g} s"
            raise DecisionError(FailureKind.RETRYABLE, "MODEL_TIMEOUT", message) from error
        except ParleyError as error:
            if error.kind is Kind.UNAVAILABLE:  # the journal's store
                raise NotNow(str(error)) from error
            raise self._unexpected(begun, error) from error
        except Exception as error:
            raise self._unexpected(begun, error) from error

    def _unexpected(self, begun: Begun, error: Exception) -> DecisionError:
        log.error("a flow failed", turn_id=str(begun.turn_id), bot_id=begun.inputs.bot.bot_id, exc_info=error)
        return DecisionError(FailureKind.TERMINAL, "INTERNAL", f"unexpected {type(error).__name__}")
