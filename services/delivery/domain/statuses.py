"""What a provider's status changes in a delivery. Pure; times in Unix milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.delivery.domain import deliveries, parts
from services.delivery.domain.attempts import ProviderStatus
from services.delivery.domain.deliveries import Parts
from services.delivery.domain.failures import FailureKind
from services.delivery.domain.outbox import ReplyState
from services.delivery.domain.parts import Part, PartState


@dataclass(frozen=True, slots=True)
class Report:
    """A status as the provider gave it.

    `provider_message_id` is theirs, `external_id` ours when they echo it. `word` is a status that is not known.
    """

    status: ProviderStatus
    at: int
    provider_message_id: str
    external_id: str = ""
    error: str = ""
    word: str = ""


@dataclass(frozen=True, slots=True)
class Effect:
    """`parts` is None when they stay as they are. `outcomes` are what dialog must hear, in their order."""

    parts: Parts | None = None
    outcomes: Sequence[ReplyState] = ()


def apply(stored: Parts, index: int, attempt: int, report: Report) -> Effect:
    """What follows from a report on one part, whatever is under way. `attempt` counts from 1; 0 when none is named.

    A delivery counts as delivered and read when its last part is.
    """
    part = stored[index]
    if report.status is ProviderStatus.UNKNOWN:
        return Effect(deliveries.with_part(stored, index, parts.unheard(part, report.word)))
    number = _attempt(part, attempt, report)
    if number is None:
        return Effect()
    heard = parts.reported(part, number, report.status, report.at, report.provider_message_id, report.error)
    if heard == part:
        return Effect()
    changed = deliveries.with_part(stored, index, heard)
    return Effect(changed, _outcomes(deliveries.state(stored), deliveries.state(changed), index, changed, report))


def _outcomes(before: PartState, after: PartState, index: int, changed: Parts, report: Report) -> Sequence[ReplyState]:
    outcomes = []
    if after is not before and after in (PartState.SENT, PartState.DEAD):
        outcomes.append(ReplyState.SENT if after is PartState.SENT else ReplyState.DEAD)
    if after is PartState.SENT and index == len(changed) - 1:
        if report.status is ProviderStatus.DELIVERED:
            outcomes.append(ReplyState.DELIVERED)
        elif report.status is ProviderStatus.READ:
            outcomes.append(ReplyState.READ)
    return tuple(outcomes)


def _attempt(part: Part, named: int, report: Report) -> int | None:
    """The attempt that a report is about; None when nobody can tell.

    Parts that the version before has sent know neither attempts by their ids nor ids by their attempts. With several
    attempts, a good word is then taken for the one without an answer, and a bad one for none.
    """
    if 0 < named <= len(part.attempts):
        return named - 1
    for number, attempt in enumerate(part.attempts):
        if attempt.provider_message_id and attempt.provider_message_id == report.provider_message_id:
            return number
    if named or not part.attempts:
        return None
    if len(part.attempts) == 1:
        return 0
    answered = [number for number, each in enumerate(part.attempts) if each.reached]
    if part.provider_message_id == report.provider_message_id and answered:
        return answered[-1]
    lost = [number for number, each in enumerate(part.attempts) if each.failure is FailureKind.UNKNOWN_OUTCOME]
    candidates = answered + lost
    if report.status is ProviderStatus.FAILED and len(candidates) != 1:
        return None
    return candidates[-1] if candidates else None
