"""What a provider's status changes."""

from uuid import UUID

import pytest

from services.delivery.domain import deliveries, parts, statuses
from services.delivery.domain.attempts import ProviderStatus
from services.delivery.domain.failures import Failure, FailureKind
from services.delivery.domain.outbox import ReplyState, part_of
from services.delivery.domain.parts import Part, PartState
from services.delivery.domain.retry import RetryPolicy
from services.delivery.domain.statuses import Effect, Report

T0 = 1_800_000_000_000
POLICY = RetryPolicy()
NO_ANSWER = Failure(FailureKind.UNKNOWN_OUTCOME, 0, "no answer")
BAD_GATEWAY = Failure(FailureKind.RETRYABLE, 502)
STARTED = parts.start(Part(), T0)
SENT = parts.sent(STARTED, T0, "1")
UNKNOWN = parts.crashed(STARTED, T0, POLICY)
DEAD = parts.failed(STARTED, Failure(FailureKind.TERMINAL), T0, POLICY, 0.0)
TWICE = parts.sent(parts.start(UNKNOWN, T0 + 5), T0 + 6, "2")
"""The first call was lost, the second was answered."""

SAID, DELIVERED, READ, FAILED = (ProviderStatus(number) for number in (1, 2, 3, 4))


def report(status: ProviderStatus, name: str = "77") -> Report:
    return Report(status, T0 + 9, name, error="gone")


def after(part: Part, status: ProviderStatus, attempt: int = 0, name: str = "77") -> tuple[PartState, list[ReplyState]]:
    effect = statuses.apply((part,), 0, attempt, report(status, name))
    return (effect.parts[0].state if effect.parts else part.state), list(effect.outcomes)


@pytest.mark.parametrize(
    ("part", "status", "state", "outcomes"),
    [
        (SENT, SAID, PartState.SENT, []),
        (SENT, DELIVERED, PartState.SENT, [ReplyState.DELIVERED]),
        (SENT, READ, PartState.SENT, [ReplyState.READ]),
        (SENT, FAILED, PartState.DEAD, [ReplyState.DEAD]),
        (STARTED, SAID, PartState.SENT, [ReplyState.SENT]),
        (STARTED, READ, PartState.SENT, [ReplyState.SENT, ReplyState.READ]),
        (STARTED, FAILED, PartState.DEAD, [ReplyState.DEAD]),
        (UNKNOWN, SAID, PartState.SENT, [ReplyState.SENT]),
        (UNKNOWN, DELIVERED, PartState.SENT, [ReplyState.SENT, ReplyState.DELIVERED]),
        (UNKNOWN, FAILED, PartState.DEAD, [ReplyState.DEAD]),
        (DEAD, FAILED, PartState.DEAD, []),
        (DEAD, DELIVERED, PartState.SENT, [ReplyState.SENT, ReplyState.DELIVERED]),
        (Part(), DELIVERED, PartState.PENDING, []),
        (Part(), FAILED, PartState.PENDING, []),
    ],
)
def test_a_status_changes_what_it_can(
    part: Part, status: ProviderStatus, state: PartState, outcomes: list[ReplyState]
) -> None:
    assert after(part, status) == (state, outcomes)
    assert after(part, status, attempt=1) == (state, outcomes)


def test_a_late_failure_of_an_earlier_attempt_kills_nothing() -> None:
    """Neither the part that a later attempt delivered nor anything after it."""
    assert after(TWICE, FAILED, attempt=1) == (PartState.SENT, [])
    assert after(TWICE, FAILED, attempt=2) == (PartState.DEAD, [ReplyState.DEAD])
    assert after(TWICE, FAILED, name="2") == (PartState.DEAD, [ReplyState.DEAD])
    assert after(TWICE, FAILED, name="elsewhere") == (PartState.SENT, []), "nobody can tell which attempt"
    effect = statuses.apply((TWICE, Part()), 0, 1, report(FAILED))
    assert effect.parts is not None
    assert [part.state for part in effect.parts] == [PartState.SENT, PartState.PENDING]
    failed = effect.parts[0].attempts[0]
    assert (failed.failure, failed.error, failed.said) == (FailureKind.TERMINAL, "gone", FAILED)


def test_a_failure_of_an_earlier_attempt_does_not_end_a_later_one() -> None:
    again = parts.start(UNKNOWN, T0 + 5)
    assert after(again, FAILED, attempt=1) == (PartState.STARTED, [])
    lost = parts.failed(again, NO_ANSWER, T0 + 6, POLICY, 0.0)
    assert after(lost, FAILED, attempt=1) == (PartState.UNKNOWN, [])
    refused = parts.failed(again, BAD_GATEWAY, T0 + 6, POLICY, 0.0)
    assert after(refused, FAILED, attempt=1) == (PartState.PENDING, [])
    assert after(parts.revived(DEAD), FAILED, attempt=1) == (PartState.PENDING, []), "an operator wants it again"


def test_a_good_word_of_any_attempt_is_true_whatever_becomes_of_the_others() -> None:
    again = parts.start(UNKNOWN, T0 + 5)
    for later in (again, parts.failed(again, BAD_GATEWAY, T0 + 6, POLICY, 0.0)):
        assert after(later, DELIVERED, attempt=1) == (PartState.SENT, [ReplyState.SENT, ReplyState.DELIVERED])
    refused = parts.failed(again, Failure(FailureKind.TERMINAL, 400), T0 + 6, POLICY, 0.0)
    assert refused.state is PartState.DEAD
    assert after(refused, DELIVERED, attempt=1) == (PartState.SENT, [ReplyState.SENT, ReplyState.DELIVERED])
    effect = statuses.apply((again,), 0, 1, report(DELIVERED))
    assert effect.parts is not None
    merged = parts.failed(effect.parts[0], NO_ANSWER, T0 + 20, POLICY, 0.0, 1)
    assert merged.state is PartState.SENT, "what the second call ends with does not matter any more"
    assert merged.attempts[1].failure is FailureKind.UNKNOWN_OUTCOME


@pytest.mark.parametrize(
    ("said", "then", "state"),
    [
        (DELIVERED, FAILED, PartState.SENT),
        (READ, DELIVERED, PartState.SENT),
        (FAILED, SAID, PartState.DEAD),
        (FAILED, DELIVERED, PartState.SENT),
    ],
)
def test_statuses_move_forward_only(said: ProviderStatus, then: ProviderStatus, state: PartState) -> None:
    effect = statuses.apply((SENT,), 0, 1, report(said))
    assert effect.parts is not None
    assert after(effect.parts[0], then, attempt=1)[0] is state
    assert statuses.apply(effect.parts, 0, 1, report(said)) == Effect(), "twice is once"


def test_a_known_answer_is_kept_though_the_part_was_marked_unknown_meanwhile() -> None:
    """Another worker took the lane over while the call was under way."""
    late = parts.sent(UNKNOWN, T0 + 50, "1", 0)
    assert (late.state, late.provider_message_id, late.sent) == (PartState.SENT, "1", T0 + 50)
    meanwhile = parts.start(UNKNOWN, T0 + 5)
    late = parts.sent(meanwhile, T0 + 50, "1", 0)
    assert late.state is PartState.SENT
    both = parts.sent(late, T0 + 60, "2", 1)
    assert [attempt.provider_message_id for attempt in both.attempts] == ["1", "2"]
    assert (both.provider_message_id, both.sent) == ("1", T0 + 50)
    exhausted = parts.failed(UNKNOWN, NO_ANSWER, T0, RetryPolicy(tries=1), 0.0)
    assert exhausted.state is PartState.DEAD
    assert parts.sent(exhausted, T0 + 50, "1", 0).state is PartState.SENT


def test_a_known_refusal_is_kept_though_the_part_was_marked_unknown_meanwhile() -> None:
    late = parts.failed(UNKNOWN, BAD_GATEWAY, T0 + 50, POLICY, 0.0, 0)
    assert (late.state, late.tries) == (PartState.PENDING, 1)
    assert not parts.start(late, T0 + 99).possibly_duplicate
    meanwhile = parts.start(UNKNOWN, T0 + 5)
    late = parts.failed(meanwhile, Failure(FailureKind.TERMINAL, 400), T0 + 50, POLICY, 0.0, 0)
    assert late.state is PartState.STARTED, "the later attempt decides"


def test_a_failure_that_was_said_before_the_answer_stays() -> None:
    effect = statuses.apply((STARTED,), 0, 1, report(FAILED))
    assert effect.parts is not None
    answered = parts.sent(effect.parts[0], T0 + 20, "77", 0)
    assert answered.state is PartState.DEAD
    assert (answered.attempts[0].http_status, answered.attempts[0].error) == (200, "gone")


def test_a_word_that_nobody_knows_changes_nothing_and_is_shown() -> None:
    word = Report(ProviderStatus.UNKNOWN, T0, "1", word="queued-twice")
    for part in (Part(), STARTED, SENT, UNKNOWN, DEAD):
        effect = statuses.apply((part,), 0, 0, word)
        assert effect.parts is not None
        assert (effect.parts[0].strange, effect.parts[0].strange_word) == (1, "queued-twice")
        assert effect.parts[0].state is part.state
        assert not effect.outcomes


def test_parts_of_the_version_before_still_match() -> None:
    """Their attempts have no ids, and our own id names no attempt."""
    old = deliveries.from_json('[[3,2,1,0,0,"2",9,true,[[1,0,0,4,"the process died"],[5,6,200,0,""]]]]', 1)[0]
    assert old.state is PartState.SENT
    assert after(old, FAILED, name="2") == (PartState.DEAD, [ReplyState.DEAD])
    assert after(old, FAILED, name="1") == (PartState.SENT, []), "it may be the first one's"
    assert after(old, DELIVERED, name="1") == (PartState.SENT, [ReplyState.DELIVERED])


def test_a_confirmed_part_has_the_providers_id_and_time() -> None:
    effect = statuses.apply((UNKNOWN, Part()), 0, 1, report(SAID))
    assert effect.parts is not None
    assert (effect.parts[0].provider_message_id, effect.parts[0].sent) == ("77", T0 + 9)
    assert effect.outcomes == (), "the second part is not sent yet"


def test_a_delivery_is_read_when_its_last_part_is() -> None:
    assert statuses.apply((SENT, SENT), 0, 1, report(READ)).outcomes == ()
    assert statuses.apply((SENT, SENT), 1, 1, report(READ)).outcomes == (ReplyState.READ,)


def test_a_part_that_failed_after_all_takes_the_rest_along() -> None:
    effect = statuses.apply((SENT, Part()), 0, 1, report(FAILED))
    assert effect.parts is not None
    assert deliveries.head(effect.parts) is None
    assert deliveries.last_error(effect.parts) == "gone"


def test_our_own_id_names_delivery_part_and_attempt() -> None:
    ours = UUID(int=5)
    assert part_of(f"{ours}.3.2") == (ours, 3, 2)
    assert part_of(f"{ours}.3") == (ours, 3, 0), "of the version before"
    for other in ("", f"{ours}", f"{ours}.x", f"{ours}.1.2.3", "a.1.2", "1.2"):
        assert part_of(other) is None
