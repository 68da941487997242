"""What other services say, as a turn sees it, and what it says to them."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from parley.context.v1 import context_pb2

from parley_client.errors import CLASSES
from services.dialog.convert.contexts import (
    known_from,
    plain_struct,
    save_of,
    set_struct,
    set_time,
)
from services.dialog.domain.flows import Dialog, HistoryEntry, TurnPlan
from services.dialog.domain.turns import Outcome, Plan
from services.dialog.peers import raise_for_turn
from services.dialog.ports import Faulty, Never, NotNow

NOW = datetime(2026, 11, 21, 9, 30, 0, 123456, UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=5))
def test_slots_come_back_as_they_went(slots: dict[str, object]) -> None:
    struct = Struct()
    set_struct(struct, slots)
    assert plain_struct(struct) == slots


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - made aware
def test_times_are_those_of_the_library(at: datetime) -> None:
    ours, theirs = Timestamp(), Timestamp()
    set_time(ours, at)
    theirs.FromDatetime(at)
    assert ours == theirs


def plan(decided: TurnPlan) -> Plan:
    return Plan(uuid4(), 1, 1, Outcome.ANSWERED, decided, str(uuid4()), 7200.0, 1)


def test_a_save_carries_the_dialog_and_adds_to_the_history() -> None:
    decided = TurnPlan(
        replies=[],
        dialog=Dialog("f", "1", "s", {"n": 2}, NOW, 3, "t"),
        remember=[HistoryEntry("user", "hi", NOW), HistoryEntry("assistant", "ho", NOW)],
    )
    made = plan(decided)
    request = save_of("acme", uuid4(), made)
    assert list(request.update_mask.paths) == ["dialog"]
    assert request.request_id == f"{made.turn_id}/0"
    assert request.dialog_ttl.ToTimedelta() == timedelta(hours=2)
    snapshot = context_pb2.Snapshot(dialog=request.changes.dialog)
    snapshot.messages.entries.extend(request.append_messages)
    known = known_from(context_pb2.GetContextResponse(contact_id="c", snapshot=snapshot, version=4))
    assert (known.dialog, list(known.history)) == (decided.dialog, list(decided.remember))


def test_a_save_that_clears_replaces_the_history() -> None:
    request = save_of(
        "acme", uuid4(), plan(TurnPlan(replies=[], remember=[HistoryEntry("user", "hi", NOW)], clear_history=True))
    )
    assert list(request.update_mask.paths) == ["messages"]
    assert [entry.text for entry in request.changes.messages.entries] == ["hi"]
    assert not request.append_messages


@pytest.mark.parametrize(
    ("code", "means"),
    [
        (grpc.StatusCode.UNAVAILABLE, NotNow),
        (grpc.StatusCode.DEADLINE_EXCEEDED, NotNow),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, NotNow),
        (grpc.StatusCode.ABORTED, NotNow),
        (grpc.StatusCode.INTERNAL, Faulty),
        (grpc.StatusCode.UNAUTHENTICATED, NotNow),
        (grpc.StatusCode.NOT_FOUND, Never),
        (grpc.StatusCode.INVALID_ARGUMENT, Never),
        (grpc.StatusCode.FAILED_PRECONDITION, Never),
        (grpc.StatusCode.PERMISSION_DENIED, Never),
    ],
)
def test_a_failed_call_may_work_later_or_never(code: grpc.StatusCode, means: type[Exception]) -> None:
    with pytest.raises(NotNow if means is not Never else Never) as raised:
        raise_for_turn(CLASSES[code](code, "no"), "context")
    assert type(raised.value) is means
