"""Carry out a committed plan and end its turn."""

from collections.abc import Callable, Sequence

from services.dialog.domain import Bot
from services.dialog.turns import Claimed, Finish, Outcome, Plan, State, Waiting, error_text
from services.dialog.usecases import spans
from services.dialog.usecases.effects import Effects
from services.dialog.usecases.patience import until_stored
from services.dialog.usecases.ports import Chats, Turns
from services.dialog.usecases.trouble import Trouble, why
from services.runtime import crashpoints
from services.runtime.lanes import Guard, LeaseLost
from services.runtime.logs import get_logger

log = get_logger(__name__)


Ended = Callable[[Finish, Sequence[Waiting]], None]
"""Is told of each turn that has ended, with its messages."""


class CarryOut:
    """The second half of a turn. What stops it is waited for; nothing is decided again."""

    def __init__(self, turns: Turns, effects: Effects, chats: Chats, trouble: Trouble, ended: Ended) -> None:
        self._turns = turns
        self._effects = effects
        self._chats = chats
        self._trouble = trouble
        self._ended = ended

    async def __call__(self, claimed: Claimed, plan: Plan, messages: Sequence[Waiting], guard: Guard) -> bool:
        """Whether more waits in the lane now. Raises LeaseLost."""
        # The message keeps the number of decisions that were begun for it, whatever carrying out the plan takes.
        attempts = None if isinstance(claimed.open_turn, Plan) else claimed.lease.attempts
        try:
            return await self._effects_and_end(claimed, plan, messages, guard, attempts)
        except LeaseLost:
            raise
        except Exception as error:
            await self._trouble.waits(claimed, why(error), planned=True, attempts=attempts)
            return False

    async def _effects_and_end(
        self, claimed: Claimed, plan: Plan, messages: Sequence[Waiting], guard: Guard, attempts: int | None
    ) -> bool:
        last = messages[-1]
        for other in messages[1:]:
            spans.link(other.traceparent, other.tracestate)
        done = await self._effects.carry_out(plan, last, claimed.lease.lane_id, guard)
        failure = plan.failure
        if failure is not None:
            spans.failed(failure.reason)
        await self._mark_bot(claimed.bot, plan)
        return await self._finish(
            Finish(
                lease=claimed.lease,
                turn_id=plan.turn_id,
                message_ids=[message.message_id for message in messages],
                state=State.TERMINAL if failure else State.COMPLETED,
                attempts=attempts,
                last_error=error_text(failure.reason, failure.message) if failure else done.error,
                terminal_reason=failure.reason if failure else "",
                replies=done.replies,
                data_version=done.version,
            ),
            messages,
        )

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

    async def _finish(self, item: Finish, messages: Sequence[Waiting]) -> bool:
        crashpoints.reach("dialog.before_finish_commit")
        pending = await until_stored(lambda: self._turns.finish(item))
        crashpoints.reach("dialog.after_finish_commit")
        for message in messages:
            if message.chat:
                self._chats.done(message.chat, message.message_id)
        self._ended(item, messages)
        return pending > 0
