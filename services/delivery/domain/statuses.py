"""What a provider's status changes in a delivery. Pure; times in Unix milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.delivery.domain import deliveries, parts
from services.delivery.domain.deliveries import Parts
from services.delivery.domain.outbox import ProviderStatus, ReplyState
from services.delivery.domain.parts import PartState


@dataclass(frozen=True, slots=True)
class Report:
    """A status as the provider gave it. `provider_message_id` is theirs, `external_id` ours when they echo it."""

    status: ProviderStatus
    at: int
    provider_message_id: str
    external_id: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Effect:
    """`parts` is None when they stay as they are. `outcomes` are what dialog must hear, in their order."""

    parts: Parts | None = None
    outcomes: Sequence[ReplyState] = ()


def apply(stored: Parts, index: int, report: Report) -> Effect | None:
    """What follows from a report on one part; None while a call is under way: then it is looked at again.

    A delivery counts as delivered and read when its last part is. What was delivered did not fail.
    """
    part = stored[index]
    if part.state is PartState.STARTED:
        return None
    if report.status is ProviderStatus.FAILED:
        if part.state is PartState.DEAD or not part.attempts:
            return Effect()
        refused = parts.refused(part, report.at, report.error)
        return Effect(deliveries.with_part(stored, index, refused), (ReplyState.DEAD,))
    changed = None
    outcomes = []
    if part.state in parts.WAITING:
        if not part.attempts:
            return Effect()
        confirmed = parts.confirmed(part, report.at, report.provider_message_id)
        changed = deliveries.with_part(stored, index, confirmed)
        if deliveries.state(changed) is PartState.SENT:
            outcomes.append(ReplyState.SENT)
    if index == len(stored) - 1:
        if report.status is ProviderStatus.DELIVERED:
            outcomes.append(ReplyState.DELIVERED)
        elif report.status is ProviderStatus.READ:
            outcomes.append(ReplyState.READ)
    return Effect(changed, tuple(outcomes))
