"""What is stored comes back as it was."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from parley.common.v1.content_pb2 import (
    ATTACHMENT_KIND_IMAGE,
    TEXT_FORMAT_MARKDOWN,
    Attachment,
    Button,
    ButtonRow,
    OutboundContent,
)
from parley.dialog.v1.dialog_pb2 import SubmitMessageRequest

from services.dialog.convert.bots import bot_from_proto, bot_to_proto
from services.dialog.domain.bots import AssistantSettings, Bot, FormSettings
from services.dialog.domain.flows import (
    Dialog,
    HistoryEntry,
    Inbound,
    Known,
    TurnInput,
    TurnPlan,
)
from services.dialog.domain.turns import (
    Failure,
    Outcome,
    Plan,
    Refused,
)
from services.dialog.postgres.records import (
    bot_of,
    pack_inputs,
    pack_plan,
    settings_of,
    unpack_inputs,
    unpack_plan,
)
from services.runtime.content import of_text
from services.runtime.crypto import is_sealed

NOW = datetime(2026, 11, 21, 9, 30, 0, 123456, UTC)
DIALOG = Dialog("form", "1", "phone", {"address": "Чуй 1", "n": 3, "ok": True, "none": None, "list": [1]}, NOW, 4, "t")
ASSISTANT = AssistantSettings("Be kind.", "gpt", 0, 99, timedelta(seconds=12.5))
BOTS = [
    Bot("acme", "a", FormSettings(form_id="water-order"), locale="ru", debounce=timedelta(milliseconds=1500)),
    Bot("acme", "b", FormSettings(definition_yaml="name: x"), owner="Ann", dialog_ttl=timedelta(hours=24)),
    Bot("acme", "c", ASSISTANT, "kk", "C", "start", "help", "error", "limit"),
    Bot("acme", "d", ASSISTANT, answer_within=timedelta(seconds=12.5), answer_late=True),
]


@pytest.mark.parametrize("bot", BOTS, ids=lambda bot: bot.bot_id)
def test_a_bot_comes_back_from_its_stored_settings(bot: Bot) -> None:
    assert bot_of(bot.tenant_id, bot.bot_id, settings_of(bot)) == bot


@pytest.mark.parametrize("bot", BOTS, ids=lambda bot: bot.bot_id)
def test_a_bot_comes_back_from_its_proto(bot: Bot) -> None:
    known = replace(bot, enabled=False, broken_reason="no key", revision=7, created_at=NOW, updated_at=NOW)
    assert bot_from_proto(bot_to_proto(known)) == known


RICH = OutboundContent(
    text="*Pick*",
    format=TEXT_FORMAT_MARKDOWN,
    buttons=[ButtonRow(buttons=[Button(title="Yes", data="yes")])],
    attachments=[Attachment(kind=ATTACHMENT_KIND_IMAGE, url="https://example.com/a.jpg")],
)


def plan(**changes: Any) -> Plan:
    decided = TurnPlan(
        replies=[of_text("a"), of_text("b")],
        dialog=DIALOG,
        remember=[HistoryEntry("user", "hi", NOW)],
        charge_quota=True,
    )
    whole = Plan(uuid4(), 3, 5, Outcome.ANSWERED, decided, str(uuid4()), 60.0, 2, "reservation", 29)
    return replace(whole, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"decided": TurnPlan(replies=[], clear_history=True)},
        {"decided": TurnPlan(replies=[of_text("a"), RICH])},
        {"outcome": Outcome.LIMITED, "refused": Refused("daily-quota", 0, NOW), "remaining": None},
        {"outcome": Outcome.FAILED, "failure": Failure("MODEL_REJECTED", "no", fatal=True)},
    ],
)
def test_a_plan_comes_back_as_it_was_committed(changes: dict[str, Any]) -> None:
    made = plan(**changes)
    again = unpack_plan(pack_plan(made), turn_id=made.turn_id, first_seq=3, last_seq=5)
    decided = replace(made.decided, replies=list(made.decided.replies), remember=list(made.decided.remember))
    assert again == replace(made, decided=decided)


@pytest.mark.parametrize("bot", BOTS, ids=lambda bot: bot.bot_id)
def test_frozen_inputs_come_back_as_they_were(bot: Bot) -> None:
    turn_id = uuid4()
    inputs = TurnInput(
        turn_id=str(turn_id),
        bot=replace(bot, revision=9),
        messages=[Inbound("m", "text", NOW, "data", "+996555123456", 2)],
        known=Known("c", "Ann", "+996555123456", DIALOG, [HistoryEntry("assistant", "hi", NOW)], 12),
        now=NOW,
        default_region="KG",
    )
    assert unpack_inputs(pack_inputs(inputs), turn_id) == inputs


def test_a_plan_of_the_version_before_is_carried_out_and_one_of_texts_can_be_read_by_it() -> None:
    """That version stored replies as an array of texts, in the third field."""
    made = plan()
    fields = msgspec.msgpack.decode(pack_plan(made))
    assert fields[2] == ["a", "b"]
    fields[2] = ["from before"]
    again = unpack_plan(msgspec.msgpack.encode(fields), turn_id=made.turn_id, first_seq=3, last_seq=5)
    assert again.decided.replies == [of_text("from before")]


def test_nothing_in_clear_looks_sealed() -> None:
    """Rows of the version before are told from sealed ones by their first byte (decision 0023)."""
    inputs = TurnInput("t", BOTS[0], [Inbound("m", "text", NOW, "", "", 1)], Known(), NOW, "KG")
    request = SubmitMessageRequest(tenant_id="acme")
    for stored in (pack_plan(plan()), pack_inputs(inputs), request.SerializeToString(), b""):
        assert not is_sealed(stored)
