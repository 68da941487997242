"""CTX-5, DLG-2: which contexts dialog keeps, and when they are still current."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.context.v1 import context_pb2

from services.context.domain import documents
from services.context.domain.documents import Contact, Conversation, Lifetimes
from services.dialog import kept_contexts
from services.dialog.convert.contexts import known_from, save_of
from services.dialog.domain.flows import Dialog, HistoryEntry, TurnPlan
from services.dialog.domain.turns import Outcome, Plan
from services.dialog.kept_contexts import (
    LONGEST_SECONDS,
    SETTLE_SECONDS,
    TOLD_SECONDS,
    KeptContexts,
    Key,
    merge,
)
from services.runtime.context_changes import CONTACT, CONVERSATION, Change

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
LANE, CONTACT_ID = Key("acme", uuid4()), uuid4()


class World:
    """Kept contexts that have been told of changes for a while, with a clock."""

    def __init__(self, most_bytes: int = 100_000) -> None:
        self.time = 1000.0
        self.kept = KeptContexts(most_bytes, lambda: self.time)
        self.kept.hears()
        self.time += SETTLE_SECONDS

    def read(self, version: int, lane: Key = LANE, contact_version: int = 0, seconds: int = 3600) -> None:
        self.kept.keep(lane, answer(version, contact_version, seconds), self.time)

    def save(self, version: int, text: str, *, replayed: bool = False) -> None:
        asked, base = self.time, self.kept.take(LANE)
        saved = context_pb2.SaveContextResponse(version=version, replayed=replayed)
        saved.expires_in.FromSeconds(3600)
        self.kept.keep_saved(LANE, base, save(text), saved, asked)

    def texts(self, at_least: int) -> list[str] | None:
        found = self.kept.find(LANE, at_least)
        return None if found is None else [entry.text for entry in found.snapshot.messages.entries]


def answer(version: int, contact_version: int = 0, seconds: int = 3600) -> context_pb2.GetContextResponse:
    made = context_pb2.GetContextResponse(contact_id=str(CONTACT_ID), version=version, contact_version=contact_version)
    made.snapshot.messages.entries.add(text=f"read {version}")
    made.expires_in.FromSeconds(seconds)
    return made


def save(text: str) -> context_pb2.SaveContextRequest:
    return plan_save(TurnPlan(replies=[], remember=[HistoryEntry("user", text, NOW)]))


def plan_save(decided: TurnPlan) -> context_pb2.SaveContextRequest:
    return save_of("acme", LANE.id, Plan(uuid4(), 1, 1, Outcome.ANSWERED, decided, str(CONTACT_ID), 7200.0, 1))


def change(kind: str, identifier: UUID, version: int) -> Change:
    return Change(kind, "acme", identifier, version)


def test_what_was_read_is_given_out_until_a_lane_has_saved_a_newer_version() -> None:
    world = World()
    world.read(3)
    assert [world.texts(version) for version in (0, 3, 4)] == [["read 3"], ["read 3"], None]


def test_a_save_makes_the_next_version_of_what_is_kept() -> None:
    world = World()
    world.read(3)
    world.save(4, "said")
    assert (world.texts(4), world.texts(5)) == (["read 3", "said"], None)


@pytest.mark.parametrize(("version", "replayed"), [(5, False), (3, False), (4, True)])
def test_a_save_onto_what_is_not_known_is_not_kept(version: int, replayed: bool) -> None:
    world = World()
    world.read(3)
    world.save(version, "said", replayed=replayed)
    assert world.texts(0) is None


def test_a_save_whose_answer_got_lost_leaves_nothing() -> None:
    world = World()
    world.read(3)
    world.kept.take(LANE)
    assert world.texts(0) is None
    assert world.kept.bytes == 0


def test_nothing_is_kept_while_nobody_tells_of_changes_nor_right_after() -> None:
    world = World()
    world.kept.deaf()
    world.read(3)
    assert world.texts(0) is None
    world.kept.hears()
    world.read(3)
    world.time += SETTLE_SECONDS - 0.01
    world.read(3)
    assert world.texts(0) is None
    world.time += 0.02
    world.read(3)
    assert world.texts(0) == ["read 3"]


def test_a_gap_empties_all_and_keeps_out_what_was_asked_before_it() -> None:
    world = World()
    world.read(3)
    asked = world.time
    world.kept.hears()
    assert world.texts(0) is None
    world.time += SETTLE_SECONDS + 1
    world.kept.keep(LANE, answer(3), asked)
    assert world.texts(0) is None


def test_what_was_told_keeps_out_what_was_read_before_it() -> None:
    world = World()
    world.read(3)
    world.kept.told(change(CONVERSATION, LANE.id, 4))
    assert world.texts(0) is None
    world.read(3)  # under way when it was told, or read in a process that has not heard of it
    assert world.texts(0) is None
    world.read(4)
    assert world.texts(0) == ["read 4"]


def test_a_changed_contact_takes_all_its_conversations_along() -> None:
    world = World()
    other = Key("acme", uuid4())
    world.read(3)
    world.read(1, other)
    asked, base = world.time, world.kept.take(LANE)
    world.kept.told(change(CONTACT, CONTACT_ID, 2))
    assert len(world.kept) == 0
    saved = context_pb2.SaveContextResponse(version=4)
    saved.expires_in.FromSeconds(60)
    world.kept.keep_saved(LANE, base, save("said"), saved, asked)  # on what it had been
    world.read(4, contact_version=1)
    assert world.texts(0) is None
    world.read(4, contact_version=2)
    assert world.texts(0) == ["read 4"]


def test_another_tenants_change_takes_nothing_along() -> None:
    world = World()
    world.read(3)
    world.kept.told(Change(CONVERSATION, "other", LANE.id, 9))
    world.kept.told(Change(CONTACT, "other", CONTACT_ID, 9))
    assert world.texts(0) == ["read 3"]


def test_what_was_told_is_remembered_for_a_while_and_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.kept.told(change(CONVERSATION, LANE.id, 4))
    world.time += TOLD_SECONDS + 1
    world.kept.told(change(CONVERSATION, uuid4(), 1))
    world.read(3)
    assert world.texts(0) == ["read 3"]
    monkeypatch.setattr(kept_contexts, "MOST_TOLD", 2)
    for _ in range(2):
        world.kept.told(change(CONVERSATION, uuid4(), 1))
    assert world.texts(0) is None
    world.read(3)
    assert world.texts(0) is None


def test_nothing_is_kept_beyond_the_end_of_its_first_namespace() -> None:
    world = World()
    world.read(3, seconds=10)
    world.save(4, "said")
    world.time += 9.9
    assert world.texts(4) == ["read 3", "said"]
    world.time += 0.2
    assert world.texts(4) is None
    assert world.kept.bytes == 0


def test_context_is_asked_again_after_a_while_though_saves_went_on() -> None:
    world = World()
    world.read(3)
    for version in (4, 5):
        world.time += LONGEST_SECONDS / 2 - 1
        world.save(version, "said")
    assert world.texts(5) == ["read 3", "said", "said"]
    world.time += 3
    assert world.texts(5) is None


def test_what_an_older_version_of_context_says_is_not_kept() -> None:
    world = World()
    old = answer(3)
    old.ClearField("expires_in")
    world.kept.keep(LANE, old, world.time)
    assert world.texts(0) is None
    world.read(3)
    base = world.kept.take(LANE)
    world.kept.keep_saved(LANE, base, save("said"), context_pb2.SaveContextResponse(version=4), world.time)
    assert world.texts(0) is None


def test_a_new_conversation_is_kept_from_its_first_save_on() -> None:
    world = World()
    world.kept.keep(LANE, context_pb2.GetContextResponse(contact_id=str(CONTACT_ID)), world.time)
    world.save(1, "said")
    assert world.texts(1) == ["said"]


def test_what_was_used_longest_ago_makes_room() -> None:
    world = World(most_bytes=3 * 700)
    lanes = [Key("acme", uuid4()) for _ in range(3)]
    for lane in lanes:
        world.read(1, lane)
    world.kept.find(lanes[0], 1)
    world.read(1)
    assert [world.kept.find(lane, 1) is not None for lane in lanes] == [True, False, True]
    assert world.kept.bytes <= 3 * 700


def test_with_no_bytes_nothing_is_kept() -> None:
    world = World(most_bytes=0)
    world.read(1)
    assert (world.texts(0), world.kept.bytes) == (None, 0)


def test_a_large_context_is_not_kept() -> None:
    world = World(most_bytes=10_000_000)
    world.read(1)
    world.save(2, "x" * kept_contexts.LARGEST)
    assert world.texts(0) is None


ENTRIES = st.lists(
    st.builds(HistoryEntry, st.sampled_from(["user", "assistant"]), st.text(max_size=5), st.just(NOW)), max_size=40
)
DIALOGS = st.none() | st.builds(
    Dialog,
    st.just("f"),
    st.just("1"),
    st.text(max_size=5),
    st.dictionaries(st.text(max_size=3), st.integers(0, 9) | st.text(max_size=3), max_size=3),
    st.none() | st.just(NOW),
    st.integers(0, 9),
)


@given(
    st.lists(st.builds(TurnPlan, st.just([]), DIALOGS, ENTRIES, st.booleans()), min_size=1, max_size=5),
    st.booleans(),
)
def test_saves_change_what_is_kept_as_they_change_what_context_has(plans: list[TurnPlan], has_name: bool) -> None:
    contact = Contact(1, context_pb2.ClientData(name="Ada"), 2**60) if has_name else Contact()
    conversation, kept = Conversation(CONTACT_ID), documents.snapshot(Conversation(CONTACT_ID), contact, 1)
    for decided in plans:
        request = plan_save(decided)
        conversation, _ = documents.save(conversation, contact, request, Lifetimes(), 1)
        assert merge(kept, request)
        ours, theirs = (
            known_from(context_pb2.GetContextResponse(snapshot=each))
            for each in (kept, documents.snapshot(conversation, contact, 2))
        )
        assert ours == theirs


def test_a_save_of_which_lanes_make_none_is_not_understood() -> None:
    request = context_pb2.SaveContextRequest()
    request.update_mask.paths.append("client.name")
    assert not merge(context_pb2.Snapshot(), request)
