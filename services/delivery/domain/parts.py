"""The life of one part of a delivery, as pure transitions.

    PENDING --start--> STARTED --sent--> SENT --the provider says later that it failed--> DEAD
       ^                  |--failed--> PENDING | UNKNOWN | DEAD
       |                  `--crashed-> UNKNOWN --the provider says that it arrived--> SENT
       `---------------- start ----------'

Answers and statuses name the attempt that they are about, and may arrive when the part has gone on. Each attempt keeps
what is known of it. A part is SENT once one of its attempts has reached the provider; nothing else that becomes of an
earlier attempt changes it. Times are Unix milliseconds, 0 for none: parts are stored as short JSON arrays in their
delivery's row.
"""

from enum import IntEnum

import msgspec

from services.delivery.domain.attempts import Attempt, ProviderStatus, is_news
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
    strange: int = 0
    """Statuses in words that are not known."""
    strange_word: str = ""
    """The last one of them."""

    @property
    def reached(self) -> bool:
        """Whether one of its attempts has brought it to the provider."""
        return any(attempt.reached for attempt in self.attempts)


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


def sent(part: Part, now: int, provider_message_id: str, number: int = -1) -> Part:
    """The provider has answered an attempt, by default the last one, that it took it. That is true whatever became of
    the part meanwhile, unless a status has said already that the attempt failed.
    """
    attempt = part.attempts[number]
    failed_since = attempt.said is ProviderStatus.FAILED
    heard = msgspec.structs.replace(
        attempt,
        ended=now,
        http_status=200,
        failure=attempt.failure if failed_since else FailureKind.NONE,
        error=attempt.error if failed_since else "",
        provider_message_id=provider_message_id or attempt.provider_message_id,
    )
    return _arrived(_with(part, number, heard), heard, now)


def failed(part: Part, failure: Failure, now: int, policy: RetryPolicy, chance: float, number: int = -1) -> Part:
    """An attempt, by default the last one, has failed. `chance` is random in [0, 1). A part that has gone on to another
    attempt, or is over, only remembers it.

    Answers that blame the channel or its rate (401, 403, 429) take no try off the part. Of answers in a row that blame
    the rate only the last one is kept, since there is no end to them.
    """
    known = part.attempts[number]
    attempt = msgspec.structs.replace(known, ended=now, http_status=failure.http_status)
    if known.said is ProviderStatus.NONE:
        attempt = msgspec.structs.replace(attempt, failure=failure.kind, error=failure.error)
    ended = _with(part, number, attempt)
    is_last = number in (-1, len(part.attempts) - 1)
    if not is_last or part.state not in (PartState.STARTED, PartState.UNKNOWN):
        return ended
    if failure.rate_limited and len(ended.attempts) > 1 and _alike(ended.attempts[-2], attempt):
        ended = msgspec.structs.replace(ended, attempts=(*ended.attempts[:-2], attempt))
    if failure.kind is FailureKind.TERMINAL:
        return msgspec.structs.replace(ended, state=PartState.DEAD)
    if failure.kind is FailureKind.FATAL or failure.rate_limited:
        wait = 0.0
        if failure.rate_limited:
            named = policy.rate_limit_delay if failure.retry_after is None else failure.retry_after
            wait = max(named, policy.rate_limit_least)
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
    """The process died during the call: nobody knows the outcome. Its delay counts from the call; a status may be on
    its way still.
    """
    _expect(part, {PartState.STARTED})
    begun = part.attempts[-1].started
    attempt = Attempt(begun, 0, 0, FailureKind.UNKNOWN_OUTCOME, "the process died during the call")
    ended = _with(part, -1, attempt)
    again = _again(ended, FailureKind.UNKNOWN_OUTCOME, None, begun, policy, 0.0)
    if again.state is PartState.DEAD:
        return again
    return msgspec.structs.replace(again, due=max(again.due, now + _milliseconds(policy.unknown_delay)))


def granted(part: Part, slot: int) -> Part:
    """The provider's rate allows the call at `slot`; it is not asked again."""
    _expect(part, WAITING)
    return msgspec.structs.replace(part, slot=slot)


def reported(part: Part, number: int, status: ProviderStatus, at: int, provider_message_id: str, error: str) -> Part:
    """The provider's own status of an attempt: it arrived, it was delivered or read, or it failed after all.

    A failure ends the part when no other attempt has brought it to the provider, and none was begun since.
    """
    attempt = part.attempts[number]
    if not is_news(attempt.said, status):
        return part
    heard = msgspec.structs.replace(
        attempt, said=status, provider_message_id=provider_message_id or attempt.provider_message_id
    )
    if not attempt.ended and (attempt.failure is FailureKind.NONE or status is ProviderStatus.FAILED):
        heard = msgspec.structs.replace(heard, ended=at)
    if status is not ProviderStatus.FAILED:
        return _arrived(_with(part, number, heard), heard, at)
    heard = msgspec.structs.replace(heard, failure=FailureKind.TERMINAL, error=error)
    known = _with(part, number, heard)
    is_last = number in (-1, len(part.attempts) - 1)
    in_question = part.state is PartState.STARTED or (part.state in WAITING and part.tries > 0)
    if not known.reached and (part.state is PartState.SENT or (is_last and in_question)):
        return msgspec.structs.replace(known, state=PartState.DEAD, due=0, slot=0)
    return known


def unheard(part: Part, word: str) -> Part:
    """The provider has said a word that nobody here knows. It changes nothing, and is shown to operators."""
    return msgspec.structs.replace(part, strange=part.strange + 1, strange_word=word)


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


def _arrived(part: Part, attempt: Attempt, at: int) -> Part:
    """One of its attempts is known to have come to the provider: the part is sent, wherever it stood."""
    if part.state is PartState.SENT or not attempt.reached:
        return part
    return msgspec.structs.replace(
        part, state=PartState.SENT, sent=at, due=0, slot=0, provider_message_id=attempt.provider_message_id
    )


def _with(part: Part, number: int, attempt: Attempt) -> Part:
    number %= len(part.attempts)
    return msgspec.structs.replace(part, attempts=(*part.attempts[:number], attempt, *part.attempts[number + 1 :]))


def _alike(one: Attempt, other: Attempt) -> bool:
    return (one.http_status, one.failure, one.said) == (other.http_status, other.failure, other.said)


def _expect(part: Part, states: frozenset[PartState] | set[PartState]) -> None:
    if part.state not in states:
        raise WrongPartState(part.state.name)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
