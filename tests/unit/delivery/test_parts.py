"""The life of a part: a table for each kind of failure, and a machine that walks all ways."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.delivery.domain import deliveries, parts
from services.delivery.domain.attempts import Attempt, ProviderStatus
from services.delivery.domain.failures import Failure, FailureKind
from services.delivery.domain.parts import Part, PartState, WrongPartState
from services.delivery.domain.retry import RetryPolicy, UnknownPolicy

POLICY = RetryPolicy()
HOLD = RetryPolicy(unknown=UnknownPolicy.HOLD)
RETRYABLE = Failure(FailureKind.RETRYABLE, 500, "boom")
TERMINAL = Failure(FailureKind.TERMINAL, 400, "no")
FATAL = Failure(FailureKind.FATAL, 401, "who?")
UNKNOWN = Failure(FailureKind.UNKNOWN_OUTCOME, 0, "no answer")
T0 = 1_800_000_000_000


def limited(retry_after: float | None) -> Failure:
    return Failure(FailureKind.RETRYABLE, 429, "slow down", retry_after, rate_limited=True)


@pytest.mark.parametrize(
    ("failure", "policy", "state", "tries", "due_in"),
    [
        (RETRYABLE, POLICY, PartState.PENDING, 1, 1000),
        (Failure(FailureKind.RETRYABLE, 503, "", 7.0), POLICY, PartState.PENDING, 1, 7000),
        (TERMINAL, POLICY, PartState.DEAD, 1, None),
        (FATAL, POLICY, PartState.PENDING, 0, 0),
        (limited(30.0), POLICY, PartState.PENDING, 0, 30_000),
        (limited(None), POLICY, PartState.PENDING, 0, 5000),
        (limited(0.0), POLICY, PartState.PENDING, 0, 1000),
        (UNKNOWN, POLICY, PartState.UNKNOWN, 1, 3000),
        (UNKNOWN, HOLD, PartState.UNKNOWN, 1, 60_000),
    ],
)
def test_each_kind_of_failure_leads_where_the_policy_says(
    failure: Failure, policy: RetryPolicy, state: PartState, tries: int, due_in: int | None
) -> None:
    part = parts.failed(parts.start(Part(), T0), failure, T0 + 100, policy, 0.0)
    assert (part.state, part.tries) == (state, tries)
    assert part.due == (0 if due_in is None else T0 + 100 + due_in)
    assert part.attempts[-1] == Attempt(T0, T0 + 100, failure.http_status, failure.kind, failure.error)


def test_the_fiftieth_failure_is_the_last() -> None:
    part = Part()
    for tries in range(1, 51):
        part = parts.failed(parts.start(part, T0), RETRYABLE, T0, POLICY, 0.0)
        assert part.tries == tries
    assert part.state is PartState.DEAD
    assert len(part.attempts) == 50


def test_a_part_found_started_is_unknown_and_its_next_try_may_be_a_duplicate() -> None:
    part = parts.crashed(parts.start(Part(), T0), T0 + 500, POLICY)
    assert (part.state, part.due, part.possibly_duplicate) == (PartState.UNKNOWN, T0 + 3500, False)
    assert part.attempts == (Attempt(T0, 0, 0, FailureKind.UNKNOWN_OUTCOME, "the process died during the call"),)
    assert parts.start(part, T0 + 2000).possibly_duplicate


def test_a_part_that_was_left_started_long_ago_still_waits_for_what_the_provider_said() -> None:
    started = parts.start(Part(), T0)
    assert parts.crashed(started, T0 + 50_000, POLICY).due == T0 + 53_000
    assert parts.crashed(started, T0 + 50_000, HOLD).due == T0 + 60_000


def test_a_retry_after_a_plain_failure_is_no_duplicate() -> None:
    part = parts.failed(parts.start(Part(), T0), RETRYABLE, T0, POLICY, 0.0)
    assert not parts.start(part, T0).possibly_duplicate


def test_of_many_answers_that_blame_the_rate_one_is_kept() -> None:
    part = parts.failed(parts.start(Part(), T0), RETRYABLE, T0, POLICY, 0.0)
    for number in range(1, 100):
        part = parts.failed(parts.start(part, T0 + number), limited(1.0), T0 + number, POLICY, 0.0)
    part = parts.failed(parts.start(part, T0 + 200), RETRYABLE, T0 + 200, POLICY, 0.0)
    part = parts.failed(parts.start(part, T0 + 300), limited(1.0), T0 + 300, POLICY, 0.0)
    assert [(each.started, each.http_status) for each in part.attempts] == [
        (T0, 500),
        (T0 + 99, 429),
        (T0 + 200, 500),
        (T0 + 300, 429),
    ]
    assert part.tries == 2


def test_waiting_for_a_rate_does_not_start_the_patience_for_failures() -> None:
    part = parts.failed(parts.start(Part(), T0), limited(30.0), T0, POLICY, 0.0)
    assert parts.holds_lane(part, T0 + 3_600_000, POLICY)


def test_a_part_that_failed_for_ten_minutes_no_longer_holds_its_lane() -> None:
    part = parts.failed(parts.start(Part(), T0), RETRYABLE, T0, POLICY, 0.0)
    assert parts.holds_lane(part, T0 + 599_999, POLICY)
    assert not parts.holds_lane(part, T0 + 600_000, POLICY)


def test_a_dead_part_takes_the_rest_of_its_delivery_along() -> None:
    all_parts = deliveries.fresh(3)
    sent = parts.sent(parts.start(Part(), T0), T0, "1")
    all_parts = deliveries.with_part(all_parts, 0, sent)
    assert deliveries.head(all_parts) == 1
    dead = parts.failed(parts.start(Part(), T0), TERMINAL, T0, POLICY, 0.0)
    all_parts = deliveries.with_part(all_parts, 1, dead)
    assert [part.state for part in all_parts] == [PartState.SENT, PartState.DEAD, PartState.DEAD]
    assert deliveries.state(all_parts) is PartState.DEAD
    assert deliveries.last_error(all_parts) == "no"


def test_a_refusal_without_words_is_told_by_its_number() -> None:
    dead = parts.failed(parts.start(Part(), T0), Failure(FailureKind.TERMINAL, 404), T0, POLICY, 0.0)
    assert deliveries.last_error((dead,)) == "HTTP 404"
    assert deliveries.last_error((parts.killed(Part()),)) == ""


def test_parts_survive_being_stored() -> None:
    part = parts.sent(parts.start(Part(), T0), T0 + 1, "wamid.1")
    stored = deliveries.to_json((part, Part()))
    assert deliveries.from_json(stored, 2) == (part, Part())
    assert deliveries.from_json(None, 2) == deliveries.fresh(2)


class PartMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order, a part is never sent after it is done, and keeps its history."""

    def __init__(self) -> None:
        super().__init__()
        self.part = Part()
        self.now = T0
        self.was_duplicate = False
        self.unanswered: list[bool] = []  # for each call

    def _is(self, *states: PartState) -> bool:
        return self.part.state in states

    @rule(seconds=st.floats(0, 400))
    def wait(self, seconds: float) -> None:
        self.now += int(seconds * 1000)

    @precondition(lambda self: self._is(PartState.PENDING, PartState.UNKNOWN))
    @rule()
    def call(self) -> None:
        self.part = parts.start(self.part, self.now)
        assert self.part.possibly_duplicate == (self.was_duplicate or any(self.unanswered))
        self.was_duplicate = self.part.possibly_duplicate
        self.unanswered.append(False)

    @precondition(lambda self: self._is(PartState.STARTED))
    @rule()
    def answer(self) -> None:
        self.part = parts.sent(self.part, self.now, "id")

    @precondition(lambda self: self._is(PartState.STARTED))
    @rule(
        failure=st.sampled_from([RETRYABLE, TERMINAL, FATAL, UNKNOWN, limited(3.0), limited(None)]),
        policy=st.sampled_from([POLICY, HOLD]),
        chance=st.floats(0, 0.99),
    )
    def fail(self, failure: Failure, policy: RetryPolicy, chance: float) -> None:
        before = self.part.attempts[-2:-1]
        self.part = parts.failed(self.part, failure, self.now, policy, chance)
        self.unanswered[-1] = failure.kind is FailureKind.UNKNOWN_OUTCOME
        if failure.rate_limited and [(each.http_status, each.failure) for each in before] == [(429, failure.kind)]:
            self.unanswered.pop()

    @precondition(lambda self: self._is(PartState.STARTED))
    @rule()
    def crash(self) -> None:
        self.part = parts.crashed(self.part, self.now, POLICY)
        self.unanswered[-1] = True

    @precondition(lambda self: self._is(PartState.PENDING, PartState.UNKNOWN))
    @rule()
    def grant(self) -> None:
        self.part = parts.granted(self.part, self.now)

    @precondition(lambda self: self.unanswered)
    @rule(data=st.data(), status=st.sampled_from(list(ProviderStatus)[1:5]))
    def report(self, data: st.DataObject, status: ProviderStatus) -> None:
        """Of any attempt, at any time."""
        number = data.draw(st.integers(0, len(self.unanswered) - 1))
        before, known = self.part, self.part.attempts[number]
        self.part = parts.reported(before, number, status, self.now, "id", "gone")
        self.unanswered[number] = self.part.attempts[number].failure is FailureKind.UNKNOWN_OUTCOME
        if status is not ProviderStatus.FAILED:
            assert self.part.reached or known.said is ProviderStatus.FAILED
        elif self.part.state is not before.state:
            assert self.part.state is PartState.DEAD
            assert not self.part.reached
            assert before.state is PartState.SENT or number == len(self.unanswered) - 1

    @precondition(lambda self: self.unanswered)
    @rule(data=st.data(), failure=st.sampled_from([None, RETRYABLE, TERMINAL]))
    def answer_late(self, data: st.DataObject, failure: Failure | None) -> None:
        """A worker that was slow, or paused: its part has gone on, maybe in another process."""
        number = data.draw(st.integers(0, len(self.unanswered) - 1))
        before, known = self.part, self.part.attempts[number]
        if known.ended:
            return
        if failure is None:
            self.part = parts.sent(before, self.now, "id", number)
            assert self.part.state is PartState.SENT or known.said is ProviderStatus.FAILED
        else:
            self.part = parts.failed(before, failure, self.now, POLICY, 0.0, number)
            assert self.part.state is before.state or number == len(self.unanswered) - 1
        self.unanswered[number] = self.part.attempts[number].failure is FailureKind.UNKNOWN_OUTCOME

    @precondition(lambda self: self._is(PartState.DEAD))
    @rule()
    def revive(self) -> None:
        self.part = parts.revived(self.part)

    @precondition(lambda self: self._is(PartState.SENT, PartState.DEAD, PartState.STARTED))
    @rule()
    def nothing_starts_twice(self) -> None:
        with pytest.raises(WrongPartState):
            parts.start(self.part, self.now)

    @invariant()
    def every_call_is_remembered(self) -> None:
        assert len(self.part.attempts) == len(self.unanswered)
        assert 0 <= self.part.tries <= min(len(self.unanswered), POLICY.tries)

    @invariant()
    def the_last_attempt_of_a_started_part_is_open(self) -> None:
        """A status of an earlier one may end the part while the call goes on; its answer is noted then."""
        if self._is(PartState.STARTED):
            assert not self.part.attempts[-1].ended
            assert self.part.attempts[-1].failure is FailureKind.NONE

    @invariant()
    def what_has_come_to_the_provider_is_sent_and_nothing_else_is(self) -> None:
        assert self.part.reached == self._is(PartState.SENT)

    @invariant()
    def what_is_sent_has_a_time(self) -> None:
        assert not self._is(PartState.SENT) or self.part.sent > 0

    @invariant()
    def it_can_be_stored(self) -> None:
        assert deliveries.from_json(deliveries.to_json((self.part,)), 1) == (self.part,)


TestPartMachine = PartMachine.TestCase
