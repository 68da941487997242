"""Carry out a committed plan: save the context, hand over the replies, settle the quota. Each effect happens once per
key, so that a plan can be carried out again after a crash."""

import asyncio
from dataclasses import dataclass
from uuid import UUID

from services.dialog.turns import Plan, ReplyState, SentReply, Waiting, error_text
from services.dialog.usecases.patience import until_done
from services.dialog.usecases.ports import Contexts, Deliveries, Never, NotNow, Quota
from services.runtime import crashpoints
from services.runtime.lanes import Guard
from services.runtime.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CarriedOut:
    """What became of a plan's effects. `error` tells of one that can never be carried out, other than a reply."""

    replies: tuple[SentReply, ...]
    version: int | None
    error: str = ""


class Effects:
    """Carries out plans. What fails for now is repeated without limit, as long as the lease lasts."""

    def __init__(self, contexts: Contexts, deliveries: Deliveries, quota: Quota) -> None:
        self._contexts = contexts
        self._deliveries = deliveries
        self._quota = quota

    async def carry_out(self, plan: Plan, last: Waiting, conversation_id: UUID, guard: Guard) -> CarriedOut:
        """All effects of a plan, together. `last` is the last message that it answers. Raises LeaseLost."""
        crashpoints.reach("dialog.before_effects")
        tenant_id = last.request.tenant_id
        save = self._save(plan, tenant_id, conversation_id, guard)
        send = self._send(plan, last, conversation_id, guard)
        problem, later = "", ""
        if plan.reservation_id:
            settle = self._settle(plan, tenant_id, guard)
            (version, problem), sent, later = await asyncio.gather(save, send, settle)
        elif last.chat:  # nothing to send, so nothing to do at the same time
            (version, problem), sent = await save, await send
        else:
            (version, problem), sent = await asyncio.gather(save, send)
        crashpoints.reach("dialog.after_effects")
        return CarriedOut(sent, version, problem or later)

    async def _save(self, plan: Plan, tenant_id: str, conversation_id: UUID, guard: Guard) -> tuple[int | None, str]:
        decided = plan.decided
        if decided.dialog is None and not decided.remember and not decided.clear_history:
            return None, ""
        try:
            version = await until_done(lambda: self._contexts.save(tenant_id, conversation_id, plan), guard)
        except Never as error:
            log.error("a context cannot be saved", turn_id=str(plan.turn_id), reason=error.reason, error=str(error))
            return None, error_text(f"context not saved: {error.reason}", error)
        crashpoints.reach("dialog.after_save_context")
        return version, ""

    async def _send(self, plan: Plan, last: Waiting, conversation_id: UUID, guard: Guard) -> tuple[SentReply, ...]:
        """One reply after the other, so that they are stored in their order."""
        if last.chat:
            return tuple(SentReply(ReplyState.RETURNED) for _ in plan.decided.replies)
        sent = []
        for index, text in enumerate(plan.decided.replies):

            async def hand_over(index: int = index, text: str = text) -> UUID:
                message_id = last.message_id
                return await self._deliveries.send(last.request, conversation_id, message_id, plan.turn_id, index, text)

            try:
                sent.append(SentReply(ReplyState.QUEUED, await until_done(hand_over, guard)))
            except Never as error:
                log.error("a reply cannot be sent", turn_id=str(plan.turn_id), reason=error.reason, error=str(error))
                sent.append(SentReply(ReplyState.DEAD, None, error_text(error.reason, error)))
            crashpoints.reach("dialog.after_send_message")
        return tuple(sent)

    async def _settle(self, plan: Plan, tenant_id: str, guard: Guard) -> str:
        try:
            if plan.decided.charge_quota:
                await until_done(lambda: self._quota.commit(tenant_id, plan.reservation_id), guard)
                crashpoints.reach("dialog.after_model_charge")
            else:
                await self._quota.release(tenant_id, plan.reservation_id)
        except NotNow:
            pass  # a release that is lost expires by itself
        except Never as error:
            log.error("a quota cannot be charged", turn_id=str(plan.turn_id), reason=error.reason, error=str(error))
            return error_text(f"quota not charged: {error.reason}", error)
        return ""
