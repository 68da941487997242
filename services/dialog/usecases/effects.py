"""Carry out a committed plan: save the context, hand over the replies, settle the quota. Each effect happens once per
key, so that a plan can be carried out again after a crash."""

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from parley.common.v1.content_pb2 import OutboundContent

from services.dialog.domain.turns import (
    Plan,
    ReplyState,
    SentReply,
    Waiting,
    error_text,
)
from services.dialog.ports import (
    Contexts,
    Deliveries,
    Never,
    NotNow,
    Quota,
)
from services.dialog.usecases.repeat import Patience
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
    """Carries out plans. What fails for now is repeated for a while, and again at each visit to the lane."""

    def __init__(self, contexts: Contexts, deliveries: Deliveries, quota: Quota) -> None:
        self._contexts = contexts
        self._deliveries = deliveries
        self._quota = quota

    async def carry_out(self, plan: Plan, last: Waiting, conversation_id: UUID, guard: Guard) -> CarriedOut:
        """All effects of a plan, together. `last` is the last message that it answers. Raises NotNow and LeaseLost."""
        crashpoints.reach("dialog.before_effects")
        tenant_id = last.request.tenant_id
        patience = Patience(guard)
        save = self._save(plan, tenant_id, conversation_id, patience)
        send = self._send(plan, last, conversation_id, patience)
        problem, later = "", ""
        if plan.reservation_id:
            settle = self._settle(plan, tenant_id, patience)
            (version, problem), sent, later = await _all(save, send, settle)
        elif last.chat:  # nothing to send, so nothing to do at the same time
            (version, problem), sent = await save, await send
        else:
            (version, problem), sent = await _all(save, send)
        crashpoints.reach("dialog.after_effects")
        return CarriedOut(sent, version, problem or later)

    async def _save(
        self, plan: Plan, tenant_id: str, conversation_id: UUID, patience: Patience
    ) -> tuple[int | None, str]:
        decided = plan.decided
        if decided.dialog is None and not decided.remember and not decided.clear_history:
            return None, ""
        try:
            version = await patience.until_done(lambda: self._contexts.save(tenant_id, conversation_id, plan))
        except Never as error:
            log.error("a context cannot be saved", turn_id=str(plan.turn_id), reason=error.reason, error=str(error))
            return None, error_text(f"context not saved: {error.reason}", error)
        crashpoints.reach("dialog.after_save_context")
        return version, ""

    async def _send(
        self, plan: Plan, last: Waiting, conversation_id: UUID, patience: Patience
    ) -> tuple[SentReply, ...]:
        """One reply after the other, so that they are stored in their order."""
        if last.chat:
            return tuple(SentReply(ReplyState.RETURNED) for _ in plan.decided.replies)
        sent = []
        for index, reply in enumerate(plan.decided.replies):

            async def hand_over(index: int = index, reply: OutboundContent = reply) -> UUID:
                message_id = last.message_id
                return await self._deliveries.send(
                    last.request, conversation_id, message_id, plan.turn_id, index, reply
                )

            try:
                sent.append(SentReply(ReplyState.QUEUED, await patience.until_done(hand_over)))
            except Never as error:
                log.error("a reply cannot be sent", turn_id=str(plan.turn_id), reason=error.reason, error=str(error))
                sent.append(SentReply(ReplyState.DEAD, None, error_text(error.reason, error)))
            crashpoints.reach("dialog.after_send_message")
        return tuple(sent)

    async def _settle(self, plan: Plan, tenant_id: str, patience: Patience) -> str:
        try:
            if plan.decided.charge_quota:
                await patience.until_done(lambda: self._quota.commit(tenant_id, plan.reservation_id))
                crashpoints.reach("dialog.after_model_charge")
            else:
                with suppress(NotNow):  # a release that is lost expires by itself
                    await self._quota.release(tenant_id, plan.reservation_id)
        except Never as error:
            log.error("a quota cannot be charged", turn_id=str(plan.turn_id), reason=error.reason, error=str(error))
            return error_text(f"quota not charged: {error.reason}", error)
        return ""


async def _all(*effects: Awaitable[Any]) -> Sequence[Any]:
    """The results of effects that are carried out together. Raises what one has raised, but when all have ended: none
    goes on after the lane was let go."""
    results = await asyncio.gather(*effects, return_exceptions=True)
    for result in sorted(results, key=lambda result: isinstance(result, NotNow)):  # a lost lease first
        if isinstance(result, BaseException):
            raise result
    return results
