"""The life of one part of a delivery, as pure transitions.

    PENDING --start--> STARTED --sent--> SENT --refused (the provider says so later)--> DEAD
       ^                  |--failed--> PENDING | UNKNOWN | DEAD
       |                  `--crashed-> UNKNOWN --confirmed--> SENT
       `---------------- start ----------'

Times are Unix milliseconds, 0 for none: parts are stored as short JSON arrays in their delivery's row.
"""

from enum import IntEnum

import msgspec

from services.delivery.domain.failures import Failure, FailureKind
from services.delivery.domain.retry import RetryPolicy, UnknownPolicy, delay_after


class PartState(IntEnum):
    """Where a part stands. The numbers are those of `parley.delivery.v1.PartState`."""

    PENDING = 1
    STARTED = 2
    SENT = 3
    UNKNOWN = 4
    DEAD = 5


OPEN = frozenset({PartState.PENDING, PartState.STARTED, PartState.UNKNOWN})
WAITING = frozenset({PartState.PENDING, PartState.UNKNOWN})


class WrongPartState(Exception):
    """The transition does not exist from this state."""


class Attempt(msgspec.Struct, frozen=True, array_like=True):
    """One call to the provider. `ended` is 0 while it runs, or when the process died."""

    started: int
    ended: int = 0
    http_status: int = 0
    failure: FailureKind = FailureKind.NONE
    error: str = ""


class Part(msgspec.Struct, frozen=True, array_like=True):
    """One provider call's worth of a delivery."""

    state: PartState = PartState.PENDING
    tries: int = 0
    """Attempts that count; waiting for a rate, a 429 or a broken channel does not."""
    since: int = 0
    """When the first counted attempt began."""
    due: int = 0
    """Not tried before this."""
    slot: int = 0
    """The provider's rate has been granted for this time."""
    provider_message_id: str = ""
    sent: int = 0
    possibly_duplicate: bool = False
    attempts: tuple[Attempt, ...] = ()


def start(part: Part, now: int) -> Part:
    """A call is about to be made. To be stored before the call."""
    _expect(part, WAITING)
    return msgspec.structs.replace(
        part,
        state=PartState.STARTED,
        tries=part.tries + 1,
        since=part.since or now,
        due=0,
        slot=0,
        possibly_duplicate=part.possibly_duplicate or _may_have_been_sent(part),
        attempts=(*part.attempts, Attempt(now)),
    )


def sent(part: Part, now: int, provider_message_id: str) -> Part:
    """The provider took it."""
    _expect(part, {PartState.STARTED})
    return msgspec.structs.replace(
        part,
        state=PartState.SENT,
        sent=now,
        provider_message_id=provider_message_id,
        attempts=_end(part, Attempt(part.attempts[-1].started, now, 200)),
    )


def failed(part: Part, failure: Failure, now: int, policy: RetryPolicy, chance: float) -> Part:
    """The call failed. `chance` is random in [0, 1).

    Answers that blame the channel or its rate (401, 403, 429) take no try off the part. Of answers in a row that blame
    the rate only the last one is kept, since there is no end to them.
    """
    _expect(part, {PartState.STARTED})
    attempt = Attempt(part.attempts[-1].started, now, failure.http_status, failure.kind, failure.error)
    attempts = _end(part, attempt)
    if failure.rate_limited and len(attempts) > 1 and _alike(attempts[-2], attempt):
        attempts = (*attempts[:-2], attempt)
    ended = msgspec.structs.replace(part, attempts=attempts)
    if failure.kind is FailureKind.TERMINAL:
        return msgspec.structs.replace(ended, state=PartState.DEAD)
    if failure.kind is FailureKind.FATAL or failure.rate_limited:
        wait = 0.0
        if failure.rate_limited:
            wait = policy.rate_limit_delay if failure.retry_after is None else failure.retry_after
        tries = part.tries - 1
        return msgspec.structs.replace(
            ended,
            state=PartState.PENDING,
            tries=tries,
            since=part.since if tries else 0,
            due=now + _milliseconds(wait),
        )
    return _again(ended, failure.kind, failure.retry_after, now, policy, chance)


def crashed(part: Part, now: int, policy: RetryPolicy) -> Part:
    """The process died during the call: nobody knows the outcome. Its delay counts from the call.

    What the provider said since then could not take effect while the call was under way; it can from now on.
    """
    _expect(part, {PartState.STARTED})
    begun = part.attempts[-1].started
    attempt = Attempt(begun, 0, 0, FailureKind.UNKNOWN_OUTCOME, "the process died during the call")
    ended = msgspec.structs.replace(part, attempts=_end(part, attempt))
    again = _again(ended, FailureKind.UNKNOWN_OUTCOME, None, begun, policy, 0.0)
    if again.state is PartState.DEAD:
        return again
    return msgspec.structs.replace(again, due=max(again.due, now + _milliseconds(policy.unknown_delay)))


def granted(part: Part, slot: int) -> Part:
    """The provider's rate allows the call at `slot`; it is not asked again."""
    _expect(part, WAITING)
    return msgspec.structs.replace(part, slot=slot)


def confirmed(part: Part, at: int, provider_message_id: str) -> Part:
    """The provider's own status says that a call did arrive: one of unknown outcome, or one that it failed."""
    _expect(part, WAITING)
    if not part.attempts:
        raise WrongPartState("never tried")
    return msgspec.structs.replace(
        part,
        state=PartState.SENT,
        sent=at,
        due=0,
        slot=0,
        provider_message_id=provider_message_id or part.provider_message_id,
    )


def refused(part: Part, at: int, error: str) -> Part:
    """The provider's own status says that the message could not be sent."""
    _expect(part, {PartState.PENDING, PartState.UNKNOWN, PartState.SENT})
    if not part.attempts:
        raise WrongPartState("never tried")
    last = part.attempts[-1]
    attempt = Attempt(last.started, last.ended or at, last.http_status, FailureKind.TERMINAL, error)
    return msgspec.structs.replace(part, state=PartState.DEAD, due=0, slot=0, attempts=_end(part, attempt))


def killed(part: Part) -> Part:
    """Given up without a further call: its channel is gone, or a part before it is dead."""
    _expect(part, OPEN)
    return msgspec.structs.replace(part, state=PartState.DEAD, due=0, slot=0)


def revived(part: Part) -> Part:
    """An operator wants a dead part sent again, with all its tries before it."""
    _expect(part, {PartState.DEAD})
    return msgspec.structs.replace(part, state=PartState.PENDING, tries=0, since=0, due=0, slot=0)


def holds_lane(part: Part, now: int, policy: RetryPolicy) -> bool:
    """Whether the part still holds its conversation up; after `patience` it is retried beside it."""
    return part.since == 0 or now - part.since < _milliseconds(policy.patience)


def _again(
    part: Part, kind: FailureKind, retry_after: float | None, now: int, policy: RetryPolicy, chance: float
) -> Part:
    delay = delay_after(policy, part.tries, chance)
    if delay is None:
        return msgspec.structs.replace(part, state=PartState.DEAD)
    if retry_after is not None:
        delay = max(delay, retry_after)
    unknown = kind is FailureKind.UNKNOWN_OUTCOME
    if unknown:
        delay = max(policy.hold_seconds if policy.unknown is UnknownPolicy.HOLD else delay, policy.unknown_delay)
    state = PartState.UNKNOWN if unknown else PartState.PENDING
    return msgspec.structs.replace(part, state=state, due=now + _milliseconds(delay))


def _may_have_been_sent(part: Part) -> bool:
    return any(attempt.failure is FailureKind.UNKNOWN_OUTCOME for attempt in part.attempts)


def _end(part: Part, attempt: Attempt) -> tuple[Attempt, ...]:
    return (*part.attempts[:-1], attempt)


def _alike(one: Attempt, other: Attempt) -> bool:
    return (one.http_status, one.failure) == (other.http_status, other.failure)


def _expect(part: Part, states: frozenset[PartState] | set[PartState]) -> None:
    if part.state not in states:
        raise WrongPartState(part.state.name)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
