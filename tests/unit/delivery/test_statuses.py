"""What a provider's status changes."""

import pytest

from services.delivery.domain import deliveries, parts, statuses
from services.delivery.domain.failures import Failure, FailureKind
from services.delivery.domain.outbox import ProviderStatus, ReplyState
from services.delivery.domain.parts import Part, PartState
from services.delivery.domain.retry import RetryPolicy
from services.delivery.domain.statuses import Effect, Report

T0 = 1_800_000_000_000
STARTED = parts.start(Part(), T0)
SENT = parts.sent(STARTED, T0, "1")
UNKNOWN = parts.crashed(STARTED, T0, RetryPolicy())
DEAD = parts.failed(STARTED, Failure(FailureKind.TERMINAL), T0, RetryPolicy(), 0.0)


def report(status: ProviderStatus) -> Report:
    return Report(status, T0 + 9, "77", error="gone")


@pytest.mark.parametrize("status", ProviderStatus)
def test_while_a_call_is_under_way_a_status_waits(status: ProviderStatus) -> None:
    assert statuses.apply((STARTED,), 0, report(status)) is None


@pytest.mark.parametrize(
    ("part", "status", "state", "outcomes"),
    [
        (SENT, ProviderStatus.SENT, None, ()),
        (SENT, ProviderStatus.DELIVERED, None, (ReplyState.DELIVERED,)),
        (SENT, ProviderStatus.READ, None, (ReplyState.READ,)),
        (SENT, ProviderStatus.FAILED, PartState.DEAD, (ReplyState.DEAD,)),
        (UNKNOWN, ProviderStatus.SENT, PartState.SENT, (ReplyState.SENT,)),
        (UNKNOWN, ProviderStatus.DELIVERED, PartState.SENT, (ReplyState.SENT, ReplyState.DELIVERED)),
        (UNKNOWN, ProviderStatus.FAILED, PartState.DEAD, (ReplyState.DEAD,)),
        (DEAD, ProviderStatus.FAILED, None, ()),
        (DEAD, ProviderStatus.DELIVERED, None, (ReplyState.DELIVERED,)),
        (Part(), ProviderStatus.DELIVERED, None, ()),
        (Part(), ProviderStatus.FAILED, None, ()),
    ],
)
def test_a_status_changes_what_it_can(
    part: Part, status: ProviderStatus, state: PartState | None, outcomes: tuple[ReplyState, ...]
) -> None:
    effect = statuses.apply((part,), 0, report(status))
    assert effect is not None
    assert (effect.parts[0].state if effect.parts else None, tuple(effect.outcomes)) == (state, outcomes)


def test_a_confirmed_part_has_the_providers_id_and_time() -> None:
    effect = statuses.apply((UNKNOWN, Part()), 0, report(ProviderStatus.SENT))
    assert effect is not None
    assert effect.parts is not None
    assert (effect.parts[0].provider_message_id, effect.parts[0].sent) == ("77", T0 + 9)
    assert effect.outcomes == (), "the second part is not sent yet"


def test_a_delivery_is_read_when_its_last_part_is() -> None:
    assert statuses.apply((SENT, SENT), 0, report(ProviderStatus.READ)) == Effect()
    assert statuses.apply((SENT, SENT), 1, report(ProviderStatus.READ)) == Effect(None, (ReplyState.READ,))


def test_a_part_that_failed_after_all_takes_the_rest_along() -> None:
    effect = statuses.apply((SENT, Part()), 0, report(ProviderStatus.FAILED))
    assert effect is not None
    assert effect.parts is not None
    assert deliveries.head(effect.parts) is None
    assert deliveries.last_error(effect.parts) == "gone"
