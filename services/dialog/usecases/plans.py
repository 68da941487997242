"""Which messages a turn answers, and the plans that can be made of it without asking anybody."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from services.dialog import texts
from services.dialog.domain.bots import Bot
from services.dialog.domain.flows import Inbound, TurnPlan
from services.dialog.domain.turns import (
    Claimed,
    Failure,
    Frozen,
    Outcome,
    Plan,
    Planned,
    Refused,
    Turn,
    Waiting,
)
from services.dialog.ports import Turns
from services.runtime.content import of_text


def run_of(messages: Sequence[Waiting]) -> Sequence[Waiting]:
    """The first of these messages and those after it that are for the same bot: a channel may have changed its bot
    meanwhile, and no bot answers what was said to another one."""
    bot_id = messages[0].request.bot_id
    return list(takewhile(lambda message: message.request.bot_id == bot_id, messages))


async def messages_of(turn: Frozen | Plan, turns: Turns, claimed: Claimed) -> Sequence[Waiting]:
    """The messages of a turn that was begun before."""
    if turn.first_seq == turn.last_seq:
        return [claimed.head]
    return [message for message in await turns.waiting(claimed) if message.seq <= turn.last_seq]


def limited(turn: Turn, refused: Refused) -> Plan:
    """A limit refused: the person is told, and nothing has failed."""
    text = texts.limit_message(turn.inputs.bot)
    return plan_of(turn, Outcome.LIMITED, TurnPlan(replies=[of_text(text)]), refused=refused)


def given_up(turn: Turn, failure: Failure, reservation_id: str = "") -> Plan:
    """The turn failed for good: the person gets the bot's error message, and back what was held."""
    text = texts.error_message(turn.inputs.bot)
    decided = TurnPlan(replies=[of_text(text)])
    return plan_of(turn, Outcome.FAILED, decided, reservation_id=reservation_id, failure=failure)


def apology(new: Planned, bot: Bot | None, failure: Failure) -> Planned:
    """What is said instead of a plan that cannot be stored."""
    decided = TurnPlan(replies=[of_text(texts.error_message(bot))] if bot else [])
    plan = replace(new.plan, outcome=Outcome.FAILED, decided=decided, remaining=None, refused=None, failure=failure)
    return replace(new, plan=plan)


def plan_of(
    turn: Turn,
    outcome: Outcome,
    decided: TurnPlan,
    *,
    reservation_id: str = "",
    remaining: int | None = None,
    refused: Refused | None = None,
    failure: Failure | None = None,
) -> Plan:
    inputs = turn.inputs
    return Plan(
        turn_id=turn.turn_id,
        first_seq=turn.first.seq,
        last_seq=turn.last.seq,
        outcome=outcome,
        decided=decided,
        contact_id=inputs.known.contact_id,
        dialog_ttl=inputs.bot.dialog_ttl.total_seconds(),
        bot_revision=inputs.bot.revision,
        reservation_id=reservation_id,
        remaining=remaining,
        refused=refused,
        failure=failure,
    )


def inbound(message: Waiting) -> Inbound:
    """A message as a flow sees it."""
    content = message.request.content
    return Inbound(
        message_id=str(message.message_id),
        text=content.text.replace("\0", ""),
        received_at=message.received_at,
        button_data=content.button_data.replace("\0", ""),
        shared_phone=content.shared_phone.replace("\0", ""),
        attachments=len(content.attachments),
    )
